//! Secrets with users → lists of users. What cannot be read denies the paths.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Secret;

use super::Build;
use super::digest::sha256;
use crate::annotation::Settings;
use crate::annotation::config_map::Defaults;
use crate::annotation::value::SecretName;
use crate::k8s::cluster::ObjectKey;
use crate::model::policy::password_auth::{
    Hash, PasswordAuth, PasswordScheme, User, UserLayout, UserList, UserListId, Version,
};
use crate::problem::{Code, ObjectRef, Severity};

/// The work of a hash doubles with each step: more than this would hold up everybody else.
const MOST_BCRYPT_COST: u32 = 16;
const MOST_SHA_ROUNDS: u32 = 2_000_000;

/// Users and passwords of an Ingress. Without the Secret its paths are denied.
pub(super) fn password(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    settings: &mut Settings,
    defaults: &Defaults,
) -> Option<PasswordAuth> {
    let wanted = settings.password.clone()?;
    let at = Annotation { owner, key: &wanted.key };
    let list = secret(build, &at, &wanted.secret, defaults)
        .and_then(|key| users(build, &at, &key, wanted.layout, wanted.scheme));
    if list.is_none() {
        settings.deny.get_or_insert_with(|| format!("annotation {}", wanted.key));
    }
    Some(PasswordAuth { scheme: wanted.scheme, realm: wanted.realm, users: list? })
}

/// An annotation, for Problems.
pub(super) struct Annotation<'a> {
    pub(super) owner: &'a ObjectRef,
    /// As written.
    pub(super) key: &'a str,
}

impl Annotation<'_> {
    pub(super) fn problem(
        &self,
        build: &mut Build<'_>,
        (code, severity): (Code, Severity),
        value: &str,
        message: impl Into<String>,
    ) {
        let field = format!("metadata.annotations[{}]", self.key);
        build.problem(self.owner, (code, severity), (field, value), message);
    }
}

/// The Secret that an annotation names, if it exists and may be named.
pub(super) fn secret(
    build: &mut Build<'_>,
    at: &Annotation<'_>,
    name: &SecretName,
    defaults: &Defaults,
) -> Option<ObjectKey> {
    let namespace = name.namespace.as_ref().unwrap_or(&at.owner.namespace);
    let key = ObjectKey::new(namespace.clone(), name.name.clone());
    if *namespace != at.owner.namespace && !defaults.is_cross_namespace_allowed {
        let message = "is in another namespace, which is not allowed; the paths of this Ingress answer 503; copy it here, or \
                       set the ConfigMap key allow-cross-namespace-resources to true";
        at.problem(build, (Code::AnnotationInvalid, Severity::Error), &key.to_string(), message);
        return None;
    }
    if !build.cluster.secrets.contains_key(&key) {
        let message = format!(
            "there is no Secret {key}; the paths of this Ingress answer 503; create it or correct the name"
        );
        at.problem(build, (Code::ReferenceMissing, Severity::Error), &key.to_string(), message);
        return None;
    }
    Some(key)
}

/// Reads the users of a Secret into the model.
fn users(
    build: &mut Build<'_>,
    at: &Annotation<'_>,
    key: &ObjectKey,
    layout: UserLayout,
    scheme: PasswordScheme,
) -> Option<UserListId> {
    let secret = build.cluster.secrets.get(key)?;
    let mut read = Lines { scheme, list: UserList::default(), names: HashSet::new(), wrong: Vec::new() };
    let contents = match layout {
        UserLayout::File => read.file(secret),
        UserLayout::Map => Some(read.map(secret)),
    };
    let Some(contents) = contents else {
        let message = format!(
            "Secret {key} has no key auth; the paths of this Ingress answer 503; put the file of htpasswd there, or set \
             auth-secret-type to auth-map"
        );
        at.problem(build, (Code::SecretInvalid, Severity::Error), &key.to_string(), message);
        return None;
    };
    for wrong in read.wrong {
        let message = format!(
            "Secret {key}: {wrong}, so that nobody can be let in by it; write it as htpasswd or htdigest does"
        );
        at.problem(build, (Code::SecretInvalid, Severity::Warning), &key.to_string(), message);
    }
    let id = UserListId {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        layout,
        scheme,
        version: Version(sha256(&contents)),
    };
    build.users.entry(id.clone()).or_insert(read.list);
    Some(id)
}

/// Users as they are read. Nothing of a value gets into a message.
struct Lines {
    scheme: PasswordScheme,
    list: UserList,
    names: HashSet<(String, String)>,
    wrong: Vec<String>,
}

impl Lines {
    /// The lines of the key `auth`. Of a user who stands there twice the first counts, as in nginx.
    fn file(&mut self, secret: &Secret) -> Option<Vec<u8>> {
        let bytes = &secret.data.as_ref()?.get("auth")?.0;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = format!("line {} of auth", index + 1);
            match std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) {
                Some((name, rest)) => self.user(&place, name, rest),
                None => self.wrong.push(format!("{place} is not a name, a colon and a hash")),
            }
        }
        Some(bytes.clone())
    }

    /// A user per key.
    fn map(&mut self, secret: &Secret) -> Vec<u8> {
        let mut contents = Vec::new();
        for (name, value) in secret.data.iter().flatten() {
            // Lengths keep two different maps from being the same bytes.
            contents.extend_from_slice(format!("{}:{}:", name.len(), value.0.len()).as_bytes());
            contents.extend_from_slice(name.as_bytes());
            contents.extend_from_slice(&value.0);
            let place = format!("key {name}");
            match std::str::from_utf8(&value.0) {
                Ok(hash) => self.user(&place, name, hash.lines().next().unwrap_or_default()),
                Err(_) => self.wrong.push(format!("{place} is not text")),
            }
        }
        contents
    }

    fn user(&mut self, place: &str, name: &str, rest: &str) {
        let (realm, hash) = match self.scheme {
            // What follows a second colon is a comment.
            PasswordScheme::Basic => ("", rest.split(':').next().unwrap_or_default()),
            PasswordScheme::Digest => rest.split_once(':').unwrap_or_default(),
        };
        let hash = hash.trim_end();
        let reason = match self.scheme {
            PasswordScheme::Basic => unusable(hash),
            PasswordScheme::Digest => match (hash.len(), hash.bytes().all(|b| b.is_ascii_hexdigit())) {
                (32, true) => None,
                (64, true) => Some(
                    "holds a hash of SHA-256, and as in ingress-nginx digest authentication is that with MD5",
                ),
                _ => Some("holds no realm and hash as htdigest writes them"),
            },
        };
        if let Some(reason) = reason {
            self.wrong.push(format!("{place} {reason}"));
        } else if self.names.insert((name.to_owned(), realm.to_owned())) {
            let hash = Hash(hash.to_owned());
            self.list.users.push(User { name: name.to_owned(), realm: realm.to_owned(), hash });
        }
    }
}

/// Why nobody can be let in by a hash.
fn unusable(hash: &str) -> Option<&'static str> {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let number = |text: &str| text.parse::<u32>().ok();
    if hash.is_empty() {
        return Some("holds no hash");
    }
    if ["{PLAIN}", "{SHA}", "{SSHA}", "$apr1$", "$1$"].iter().any(|start| hash.starts_with(start)) {
        return None;
    }
    if let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|start| hash.strip_prefix(start)) {
        let cost = rest.split('$').next().and_then(number);
        return match cost {
            Some(4..=MOST_BCRYPT_COST) if rest.len() == 56 => None,
            Some(cost) if cost > MOST_BCRYPT_COST => Some("holds a bcrypt hash of a cost above 16"),
            _ => Some("holds a broken bcrypt hash"),
        };
    }
    if let Some(rest) = ["$5$", "$6$"].iter().find_map(|start| hash.strip_prefix(start)) {
        let rounds = rest.strip_prefix("rounds=").map(|rest| rest.split('$').next().and_then(number));
        return match rounds {
            Some(None) => Some("holds a broken SHA crypt hash"),
            Some(Some(rounds)) if rounds > MOST_SHA_ROUNDS => {
                Some("holds a hash of more than 2000000 rounds")
            }
            _ => None,
        };
    }
    let is_des = hash.len() == 13 && hash.bytes().all(is_digit);
    (!is_des).then_some("holds a hash of a kind that is not supported")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn read(scheme: PasswordScheme, text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let data = [("auth".to_owned(), ByteString(text.as_bytes().to_vec()))].into();
        let secret = Secret { data: Some(data), ..Secret::default() };
        let mut lines = Lines { scheme, list: UserList::default(), names: HashSet::new(), wrong: Vec::new() };
        lines.file(&secret).unwrap();
        let users = lines.list.users.into_iter().map(|user| (user.name, user.hash.0));
        (users.collect(), lines.wrong)
    }

    #[test]
    fn a_file_is_read_as_nginx_reads_it() {
        let text =
            "# comment\nada:{SHA}x\r\nbob:$apr1$a$b:a comment\nada:{PLAIN}second\n\nbroken\ncy:hunter2\n";
        let (users, wrong) = read(PasswordScheme::Basic, text);
        let users: Vec<_> = users.iter().map(|(name, hash)| (name.as_str(), hash.as_str())).collect();
        assert_eq!(users, [("ada", "{SHA}x"), ("bob", "$apr1$a$b")]);
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with("line 6 of auth"), "{wrong:?}");
        assert!(!wrong.iter().any(|text| text.contains("hunter2")), "{wrong:?}");
    }

    #[test]
    fn digest_lines_have_a_realm() {
        let hash = "0123456789abcdef0123456789abcdef";
        let text = format!("ada:staff:{hash}\nbob:{hash}\neve:staff:{hash}{hash}\n");
        let (users, wrong) = read(PasswordScheme::Digest, &text);
        assert_eq!(users, [("ada".to_owned(), hash.to_owned())]);
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].contains("htdigest") && wrong[1].contains("SHA-256"), "{wrong:?}");
    }

    #[test]
    fn hashes_that_cost_too_much_are_refused() {
        let bcrypt = |cost: &str| format!("$2y${cost}${}", "a".repeat(53));
        for (hash, is_usable) in [
            (bcrypt("05"), true),
            (bcrypt("16"), true),
            (bcrypt("17"), false),
            (bcrypt("31"), false),
            ("$2y$05$short".to_owned(), false),
            ("$6$salt$hash".to_owned(), true),
            ("$6$rounds=5000$salt$hash".to_owned(), true),
            ("$6$rounds=999999999$salt$hash".to_owned(), false),
            ("aZGJuE6EXrjEE".to_owned(), true),
            ("plain".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(unusable(&hash).is_none(), is_usable, "{hash}");
        }
    }
}
