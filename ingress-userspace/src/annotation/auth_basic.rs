//! `auth-type`, `auth-secret`, `auth-secret-type` and `auth-realm`: users and passwords.

use super::registry::annotations;
use super::value::{self, SecretName};
use super::{Effect, Found, Read, Reader};
use crate::model::policy::password_auth::{PasswordScheme, UserLayout};

annotations! { "Users and passwords";
    /// Requests need a user and a password of `auth-secret`, by HTTP Basic or Digest authentication; others get 401. The
    /// backend does not see the credentials. Digest is that of RFC 7616 with MD5 and `qop=auth`; a nonce lives for a minute and
    /// takes 20 requests, and one that another node gave is replaced without asking the user again.
    AUTH_TYPE: PasswordScheme = "auth-type", parse: scheme, values: "basic or digest", default: "",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Same;
    /// The Secret with the users. Another namespace's needs the ConfigMap key `allow-cross-namespace-resources`. If the Secret
    /// or its key is missing, the paths answer 503. Hashes may be bcrypt, SHA-512 and SHA-256 crypt, MD5 crypt, `apr1`,
    /// `{SSHA}`, `{SHA}`, DES crypt, and `{PLAIN}` text; for digest they are the lines of `htdigest`.
    AUTH_SECRET: SecretName = "auth-secret", parse: value::secret_name, values: "the name of a Secret, or namespace/name",
    default: "", on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Same;
    /// How the Secret holds the users: its key `auth` is a file of `htpasswd` or `htdigest`, or each key is a user and its value
    /// the hash.
    AUTH_SECRET_TYPE: UserLayout = "auth-secret-type", parse: layout, values: "auth-file or auth-map", default: "auth-file",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Same;
    /// The realm that clients show to their users. Unlike in ingress-nginx everything that can be printed may stand here but
    /// quotes, backslashes and `$`, and `off` is a realm like any other: it does not turn authentication off.
    AUTH_REALM: String = "auth-realm", parse: realm, values: "text without quotes, backslashes and $", default: "",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Differs;
}

/// Authentication as annotated; the Secret is not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordAuth {
    /// How clients prove who they are.
    pub scheme: PasswordScheme,
    /// Where the users are.
    pub secret: SecretName,
    /// How the Secret holds them.
    pub layout: UserLayout,
    /// What clients show.
    pub realm: String,
    /// The key of `auth-secret` as written.
    pub key: String,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<PasswordAuth> {
    let Some(found) = reader.find(&AUTH_TYPE.row) else {
        if let Some(idle) = reader.find(&AUTH_SECRET.row) {
            let message =
                "has no effect without auth-type, so requests are not asked for a password; add auth-type";
            reader.report(&idle, Effect::Warn, message);
        }
        return None;
    };
    let scheme = reader.parse(&AUTH_TYPE, &found);
    let realm = reader.get(&AUTH_REALM).or(String::new());
    let layout = match reader.find(&AUTH_SECRET_TYPE.row) {
        Some(found) => reader.parse(&AUTH_SECRET_TYPE, &found).value(),
        None => Some(UserLayout::File),
    };
    let Some(named) = reader.find(&AUTH_SECRET.row) else {
        missing_secret(reader, &found);
        return None;
    };
    // What is invalid has denied the paths.
    match (scheme, reader.parse(&AUTH_SECRET, &named), layout) {
        (Read::Value(scheme), Read::Value(secret), Some(layout)) => {
            Some(PasswordAuth { scheme, secret, layout, realm, key: named.key })
        }
        _ => None,
    }
}

fn missing_secret(reader: &mut Reader<'_>, found: &Found<'_>) {
    let message = "needs auth-secret, which is missing; the paths of this Ingress answer 503; add it";
    reader.report(found, Effect::Deny, message);
}

fn scheme(text: &str) -> Result<PasswordScheme, String> {
    match text {
        "basic" => Ok(PasswordScheme::Basic),
        "digest" => Ok(PasswordScheme::Digest),
        _ => Err("is neither basic nor digest".to_owned()),
    }
}

fn layout(text: &str) -> Result<UserLayout, String> {
    match text {
        "auth-file" => Ok(UserLayout::File),
        "auth-map" => Ok(UserLayout::Map),
        _ => Err("is neither auth-file nor auth-map".to_owned()),
    }
}

fn realm(text: &str) -> Result<String, String> {
    match text.chars().find(|c| !matches!(c, ' '..='~') || "\"\\$".contains(*c)) {
        Some(bad) => Err(format!("holds {bad:?}, which a realm may not")),
        None => Ok(text.to_owned()),
    }
}
