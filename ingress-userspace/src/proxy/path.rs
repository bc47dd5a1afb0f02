//! The request target and its ONE normal form.
//!
//! The normal form is what nginx matches locations with: percent-decoded once, `//` merged, `.` and `..` resolved. Router,
//! filters and limits see nothing else. Upstream goes the target as it came while that means the same to every reader;
//! where elements had to be resolved, the encoded normal form goes instead; where readers could disagree, 400. The rules
//! and their reasons stand in `docs/design/0002-one-normal-path.md`. Bytes, not characters: old sites use Latin-1.

use http::uri::PathAndQuery;

use super::error::GateReason;

/// Path and query of a request.
#[derive(Clone, Debug)]
pub struct Target {
    raw: PathAndQuery,
    /// Only when it differs from the raw path.
    normal: Option<Vec<u8>>,
    /// Only when it differs from `raw`.
    upstream: Option<PathAndQuery>,
    /// A filter chose what goes upstream.
    is_rewritten: bool,
}

impl Target {
    /// Reads a target, or says why it is refused.
    pub fn parse(raw: PathAndQuery) -> Result<Self, GateReason> {
        let text = raw.as_str();
        if !text.starts_with('/') {
            return Err(GateReason::TargetForm);
        }
        // Backslashes and raw UTF-8 are common in queries (not every client encodes them there), and nothing is decided by
        // a query: only the path is looked at for them.
        if !raw.path().is_ascii() || raw.path().contains('\\') {
            return Err(GateReason::TargetBytes);
        }
        if is_plain(raw.path().as_bytes()) {
            return Ok(Self { raw, normal: None, upstream: None, is_rewritten: false });
        }
        let normal = normalise(raw.path().as_bytes())?;
        let upstream = if normal.is_restructured {
            let mut text = String::with_capacity(raw.as_str().len());
            encode(&normal.path, &mut text);
            if let Some(query) = raw.query() {
                text.push('?');
                text.push_str(query);
            }
            Some(PathAndQuery::try_from(text).map_err(|_invalid| GateReason::TargetBytes)?)
        } else {
            None
        };
        Ok(Self { raw, normal: Some(normal.path), upstream, is_rewritten: false })
    }

    /// The normal form of the path, without query.
    pub fn path(&self) -> &[u8] {
        self.normal.as_deref().unwrap_or(self.raw.path().as_bytes())
    }

    /// The query as it came, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.raw.query()
    }

    /// Path and query as they came.
    pub fn raw(&self) -> &str {
        self.raw.as_str()
    }

    /// Path and query as they came, shared.
    pub fn raw_shared(&self) -> PathAndQuery {
        self.raw.clone()
    }

    /// What goes upstream.
    pub fn upstream(&self) -> &PathAndQuery {
        self.upstream.as_ref().unwrap_or(&self.raw)
    }

    /// Sends another target upstream; the normal form stays that of the client's request.
    pub fn forward_as(&mut self, target: PathAndQuery) {
        self.upstream = Some(target);
        self.is_rewritten = true;
    }

    /// Whether a filter chose what goes upstream.
    pub fn is_rewritten(&self) -> bool {
        self.is_rewritten
    }
}

/// Whether the raw path is its own normal form: nothing encoded, no empty and no dot element.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'%' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = *byte == b'/',
        }
    }
    true
}

struct Normal {
    path: Vec<u8>,
    /// Elements were merged or resolved: readers of the raw form could see another path.
    is_restructured: bool,
}

fn normalise(raw: &[u8]) -> Result<Normal, GateReason> {
    let mut path = Vec::with_capacity(raw.len());
    let mut start = 0; // of the current element, behind its slash
    let mut is_restructured = false;
    let mut has_encoded_slash = false;
    let mut bytes = raw.iter().copied();
    let mut is_first = true;
    while let Some(byte) = bytes.next() {
        let (byte, is_encoded) = if byte == b'%' {
            match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => (high << 4 | low, true),
                _ => return Err(GateReason::TargetEncoding),
            }
        } else {
            (byte, false)
        };
        match byte {
            0 | b'\\' => return Err(GateReason::TargetBytes),
            b'/' => {
                has_encoded_slash |= is_encoded;
                if !is_first {
                    is_restructured |= end_element(&mut path, &mut start, true)?;
                } else {
                    path.push(b'/');
                    start = 1;
                    is_first = false;
                }
            }
            _ => path.push(byte),
        }
    }
    is_restructured |= end_element(&mut path, &mut start, false)?;
    if is_restructured && has_encoded_slash {
        // Who decodes `%2F` late, and who early, resolve the dots differently.
        return Err(GateReason::TargetAmbiguous);
    }
    if has_overlong(&path) {
        return Err(GateReason::TargetEncoding);
    }
    Ok(Normal { path, is_restructured })
}

/// Ends the element that began at `start`; says whether it was resolved away.
fn end_element(path: &mut Vec<u8>, start: &mut usize, is_followed: bool) -> Result<bool, GateReason> {
    let element = path.get(*start..).unwrap_or_default();
    let resolved = match element {
        b"" if is_followed => true,
        b"." => {
            path.truncate(*start);
            true
        }
        b".." => {
            // Behind the slash before the element before; the root has none.
            let above = start.checked_sub(1).filter(|slash| *slash > 0).ok_or(GateReason::TargetAboveRoot)?;
            let parent = path.get(..above).and_then(|head| head.iter().rposition(|byte| *byte == b'/'));
            *start = parent.map_or(1, |slash| slash + 1);
            path.truncate(*start);
            true
        }
        // Servlet containers cut path parameters before they resolve dots.
        [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err(GateReason::TargetAmbiguous),
        _ if is_followed => {
            path.push(b'/');
            *start = path.len();
            false
        }
        _ => false,
    };
    Ok(resolved)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Longer encodings than needed hide `/` and `.` from whoever compares bytes.
fn has_overlong(path: &[u8]) -> bool {
    path.windows(2)
        .any(|pair| matches!(pair, [0xC0..=0xC1, 0x80..=0xBF] | [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F]))
}

/// Whether a path has an element `.` or `..`.
pub fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|element| element == b"." || element == b"..")
}

/// Appends the percent-encoded form of a path: only what RFC 3986 allows in one stays as it is.
pub fn encode(path: &[u8], into: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => into.push(char::from(*byte)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
            | b';' | b'=' | b':' | b'@' | b'/' => into.push(char::from(*byte)),
            other => {
                into.push('%');
                for digit in [other >> 4, other & 15] {
                    into.extend(DIGITS.get(usize::from(digit)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<(&str, &str), GateReason>) {
        let target = Target::parse(PathAndQuery::try_from(raw).unwrap());
        let seen = target
            .as_ref()
            .map(|target| (String::from_utf8_lossy(target.path()), target.upstream().as_str()))
            .map_err(|reason| *reason);
        match (&seen, &expected) {
            (Ok((path, upstream)), Ok(wanted)) => assert_eq!((path.as_ref(), *upstream), *wanted, "{raw}"),
            (Err(reason), Err(wanted)) => assert_eq!(reason, wanted, "{raw}"),
            _ => panic!("{raw}: {seen:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn unambiguous_targets_are_forwarded_as_they_came() {
        check("/", Ok(("/", "/")));
        check("/a/b.c/.d/..e?x=//../", Ok(("/a/b.c/.d/..e", "/a/b.c/.d/..e?x=//../")));
        check("/a%20b", Ok(("/a b", "/a%20b")));
        check("/projects/group%2Fname", Ok(("/projects/group/name", "/projects/group%2Fname")));
        check("/%252e%252e/x", Ok(("/%2e%2e/x", "/%252e%252e/x")));
        check("/caf%C3%A9?q=\\d", Ok(("/café", "/caf%C3%A9?q=\\d")));
        check("/a;v=1/b", Ok(("/a;v=1/b", "/a;v=1/b")));
    }

    #[test]
    fn resolved_elements_are_forwarded_resolved() {
        check("//a///b//", Ok(("/a/b/", "/a/b/")));
        check("/a/./b/../c?q=1", Ok(("/a/c", "/a/c?q=1")));
        check("/a/..", Ok(("/", "/")));
        check("/a/b/..", Ok(("/a/", "/a/")));
        check("/a/.", Ok(("/a/", "/a/")));
        check("/a/%2e%2E/b%20c", Ok(("/b c", "/b%20c")));
        check("/a/.%2e/b", Ok(("/b", "/b")));
    }

    #[test]
    fn what_readers_could_disagree_about_is_refused() {
        check("/..", Err(GateReason::TargetAboveRoot));
        check("/a/../../b", Err(GateReason::TargetAboveRoot));
        check("/public%2F..%2Fadmin", Err(GateReason::TargetAmbiguous));
        check("/public/..%2Fadmin", Err(GateReason::TargetAmbiguous));
        check("/a%2f%2fb", Err(GateReason::TargetAmbiguous));
        check("/a/..;/b", Err(GateReason::TargetAmbiguous));
        check("/a/.;x/b", Err(GateReason::TargetAmbiguous));
        check("/a%5c..%5cb", Err(GateReason::TargetBytes));
        check("/a\\b", Err(GateReason::TargetBytes));
        check("/a%00", Err(GateReason::TargetBytes));
        check("/a%c0%ae", Err(GateReason::TargetEncoding));
        check("/a%e0%80%ae", Err(GateReason::TargetEncoding));
        check("/a%2", Err(GateReason::TargetEncoding));
        check("/a%zz", Err(GateReason::TargetEncoding));
        check("/é", Err(GateReason::TargetBytes));
        check("*", Err(GateReason::TargetForm));
    }

    #[test]
    fn a_query_goes_on_as_it_came() {
        for text in ["/a?q=é", "/a?q=\\d+", "/a//b?{\"x\":[1]}|^"] {
            let Ok(raw) = PathAndQuery::try_from(text) else { continue };
            let target = Target::parse(raw).unwrap();
            assert_eq!(target.query(), text.split_once('?').map(|(_, query)| query));
            assert_eq!(target.upstream().query(), target.query());
        }
    }

    #[test]
    fn the_forwarded_form_has_the_same_normal_form() {
        // Every string of up to six of these pieces: whoever reads what we send sees the path that we decided on.
        let pieces = ["/", ".", "..", "%2e", "%2F", "a", "%25", ";", "%3f", "%e9"];
        let mut paths = vec![String::from("/")];
        for _ in 0..5 {
            let longer: Vec<_> = paths
                .iter()
                .flat_map(|path| pieces.iter().map(move |piece| format!("{path}{piece}")))
                .collect();
            for path in &longer {
                let Ok(target) = Target::parse(PathAndQuery::try_from(path.as_str()).unwrap()) else {
                    continue;
                };
                let again = Target::parse(target.upstream().clone()).unwrap();
                assert_eq!(again.path(), target.path(), "{path}");
                assert_eq!(again.upstream(), target.upstream(), "{path}");
                assert!(!has_dot_segment(target.path()), "{path}");
            }
            paths = longer.into_iter().step_by(3).collect();
        }
    }
}
