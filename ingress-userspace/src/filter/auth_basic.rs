//! `auth-type: basic`: a user of the Secret and the password, or 401. The backend does not see the credentials; the user is
//! `$remote_user`. As in nginx a wrong user and a wrong password get the same answer, and here it takes as long.

use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use http::{HeaderValue, StatusCode, header};

use super::{Filter, Outcome, Stop};
use crate::model::policy::password_auth::PasswordAuth;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, RequestHead, Response};
use crate::snapshot::users::{UserLists, Users};

/// As nginx reads it: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The users of a route.
#[derive(Debug)]
pub struct BasicAuth {
    challenge: HeaderValue,
    users: Arc<Users>,
}

/// Why the policy cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The model refers to a list that it does not hold.
    #[error("the list of users {0} is not there")]
    NoUsers(String),
    /// The realm is no text of a header.
    #[error("the realm cannot be sent")]
    Realm,
}

impl BasicAuth {
    /// From the model.
    pub fn from_policy(policy: &PasswordAuth, lists: &UserLists) -> Result<Self, AuthError> {
        let challenge = format!("Basic realm=\"{}\"", quotable(&policy.realm)?);
        let challenge = HeaderValue::try_from(challenge).ok().ok_or(AuthError::Realm)?;
        Ok(Self { challenge, users: users(policy, lists)? })
    }
}

/// The list that a policy names.
pub(super) fn users(policy: &PasswordAuth, lists: &UserLists) -> Result<Arc<Users>, AuthError> {
    let missing = || AuthError::NoUsers(format!("{}/{}", policy.users.namespace, policy.users.name));
    lists.get(&policy.users).map(Arc::clone).ok_or_else(missing)
}

/// A realm that can stand between quotes.
pub(super) fn quotable(realm: &str) -> Result<&str, AuthError> {
    let is_quotable = realm.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\');
    is_quotable.then_some(realm).ok_or(AuthError::Realm)
}

impl Filter for BasicAuth {
    const NAME: &'static str = "auth_basic";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let sent = credentials(&request.head);
        request.head.headers.remove(&header::AUTHORIZATION);
        if let Some((user, password)) = sent {
            ctx.record.user = Some(user.as_str().into());
            let worker = std::rc::Rc::clone(&ctx.worker);
            match worker.passwords.is_right(&self.users, &user, &password).await {
                Ok(true) => return ControlFlow::Continue(()),
                Ok(false) => {}
                Err(_busy) => return ControlFlow::Break(Stop::Fail(ProxyError::HashingBusy)),
            }
        }
        let mut response = Response::text(StatusCode::UNAUTHORIZED);
        response.head.headers.set(header::WWW_AUTHENTICATE, self.challenge.clone());
        ControlFlow::Break(Stop::Refuse(response))
    }

    fn when_skipped(&self, request: &mut Request) {
        request.head.headers.remove(&header::AUTHORIZATION);
    }
}

/// User and password that the client sent, if it sent any.
fn credentials(head: &RequestHead) -> Option<(String, Vec<u8>)> {
    let text = head.headers.text(&header::AUTHORIZATION)?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = BASE64.decode(encoded.trim()).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (user, rest) = bytes.split_at_checked(colon)?;
    let user = std::str::from_utf8(user).ok().filter(|user| !user.is_empty())?;
    Some((user.to_owned(), rest.get(1..)?.to_vec()))
}
