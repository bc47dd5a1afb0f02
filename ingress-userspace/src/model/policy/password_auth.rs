//! Users and passwords: what a route asks for, and the lists of users that routes refer to.

use serde::{Deserialize, Serialize};

/// Users of a list may use the route; others get 401.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordAuth {
    /// How clients prove who they are.
    pub scheme: PasswordScheme,
    /// What clients show to their users.
    pub realm: String,
    /// Who may come in.
    pub users: UserListId,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PasswordScheme {
    /// By the password itself.
    Basic,
    /// By a hash of it and of a number that we give.
    Digest,
}

/// How a Secret holds users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UserLayout {
    /// One file.
    File,
    /// A key for each.
    Map,
}

/// Identity of a list of users: the Secret it comes from, how it was read, and what it held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserListId {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// How it was read.
    pub layout: UserLayout,
    /// As whose lines it was read.
    pub scheme: PasswordScheme,
    /// Changes with the contents. Not shown: it could confirm a guess.
    pub version: Version,
}

/// Tells two contents of a Secret apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub String);

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The users of a Secret; a name stands once per realm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList {
    /// In the order in which they stand there.
    pub users: Vec<User>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Realm that the hash is for; empty for Basic.
    pub realm: String,
    /// What the password is compared with.
    pub hash: Hash,
}

/// A hash of a password, or a password. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash(pub String);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
