//! Lists of users as requests look them up, and the comparison of a password with a hash.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::policy::password_auth::{UserList, UserListId};

pub mod password;

/// All lists of a model. One that did not change is taken over.
pub type UserLists = HashMap<UserListId, Arc<Users>>;

/// The users of one Secret.
pub struct Users {
    /// Tells lists apart, contents included.
    pub id: UserListId,
    /// By name and realm.
    hashes: HashMap<(Box<str>, Box<str>), Arc<str>>,
    /// Compared with when the user is not known, so that the answer takes as long.
    decoy: Option<Arc<str>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("id", &self.id).field("count", &self.hashes.len()).finish()
    }
}

/// What a password is compared with.
#[derive(Clone)]
pub struct Candidate {
    /// The hash of the user, or of another one.
    pub hash: Arc<str>,
    /// The user is on the list.
    pub is_known: bool,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("hash", &"[redacted]").field("is_known", &self.is_known).finish()
    }
}

impl Users {
    /// From the model.
    pub fn new(id: &UserListId, list: &UserList) -> Self {
        let mut hashes = HashMap::with_capacity(list.users.len());
        for user in &list.users {
            let key = (user.name.as_str().into(), user.realm.as_str().into());
            hashes.entry(key).or_insert_with(|| Arc::from(user.hash.0.as_str()));
        }
        let decoy = list.users.first().map(|user| Arc::from(user.hash.0.as_str()));
        Self { id: id.clone(), hashes, decoy }
    }

    /// What the password of a user is compared with; `None` when there is no user at all.
    pub fn candidate(&self, name: &str, realm: &str) -> Option<Candidate> {
        let known = self.hashes.get(&(Box::from(name), Box::from(realm)));
        let hash = known.or(self.decoy.as_ref())?;
        Some(Candidate { hash: Arc::clone(hash), is_known: known.is_some() })
    }
}

/// Reads the lists of a model; what was read before is taken over.
pub fn update(before: &UserLists, lists: &std::collections::BTreeMap<UserListId, UserList>) -> UserLists {
    let read = |(id, list): (&UserListId, &UserList)| {
        let users = before.get(id).map_or_else(|| Arc::new(Users::new(id, list)), Arc::clone);
        (id.clone(), users)
    };
    lists.iter().map(read).collect()
}
