//! URLs with variables.

use crate::model::template::{Part, Template, Variable};

/// A URL that the proxy asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlText {
    /// `https`, not `http`.
    pub is_https: bool,
    /// Host and port.
    pub authority: Template,
    /// The same when they hold no variable: lower case, IPv6 without brackets.
    pub literal: Option<(String, Option<u16>)>,
    /// Path and query.
    pub path: Template,
    /// As written.
    pub written: String,
}

/// A URL of scheme `http` or `https`. Its host may hold variables that the rules of hosts bound, such as `$host`, and none
/// that a client fills in freely.
pub fn url(text: &str) -> Result<UrlText, String> {
    check_characters(text)?;
    let (scheme, rest) = text.split_once("://").ok_or("is not a URL that begins with http:// or https://")?;
    let is_https = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err("is not a URL that begins with http:// or https://".to_owned()),
    };
    let (authority, path) = split_authority(template(rest)?);
    check_authority(&authority)?;
    let literal = match authority.as_text() {
        Some(text) => Some(host_and_port(text)?),
        None => None,
    };
    Ok(UrlText { is_https, authority, literal, path, written: text.to_owned() })
}

/// Where a client is sent: a URL as above, or a path of the host that was asked for.
pub fn location(text: &str) -> Result<Template, String> {
    if text.starts_with('/') && !text.starts_with("//") {
        check_characters(text)?;
        return template(text);
    }
    url(text)?;
    template(text)
}

/// Text with variables that holds nothing but what a URL may hold.
pub fn template(text: &str) -> Result<Template, String> {
    check_characters(text)?;
    let template = Template::parse(text).map_err(|unknown| unknown.to_string())?;
    // Braces only stand around names.
    for part in &template.0 {
        if let Part::Text(text) = part
            && text.contains(['{', '}'])
        {
            return Err("holds a brace that belongs to no variable".to_owned());
        }
    }
    Ok(template)
}

fn check_characters(text: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/:?&=,%+@!*$()[]|{}".contains(c);
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(bad) => Err(format!("holds {bad:?}, which is not allowed here")),
        None => Ok(()),
    }
}

/// The authority ends at the first `/` or `?`, or before a variable that begins with one.
fn split_authority(template: Template) -> (Template, Template) {
    let (mut authority, mut path) = (Vec::new(), Vec::new());
    for part in template.0 {
        if !path.is_empty() {
            path.push(part);
            continue;
        }
        match part {
            Part::Text(text) => match text.find(['/', '?']) {
                Some(at) => {
                    let (before, after) = text.split_at(at);
                    if !before.is_empty() {
                        authority.push(Part::Text(before.to_owned()));
                    }
                    path.push(Part::Text(after.to_owned()));
                }
                None => authority.push(Part::Text(text)),
            },
            Part::Variable(Variable::RequestUri | Variable::Uri | Variable::IsArgs) => path.push(part),
            Part::Variable(_) => authority.push(part),
        }
    }
    (Template(authority), Template(path))
}

fn check_authority(authority: &Template) -> Result<(), String> {
    if authority.0.is_empty() {
        return Err("has no host".to_owned());
    }
    let is_bounded = |variable: &Variable| match variable {
        Variable::Host
        | Variable::BestHttpHost
        | Variable::Hostname
        | Variable::ServerName
        | Variable::ServerPort
        | Variable::Namespace
        | Variable::IngressName
        | Variable::ServiceName
        | Variable::ServicePort => true,
        Variable::RequestHeader(name) => name == "host",
        _ => false,
    };
    if let Some(free) = authority.variables().find(|variable| !is_bounded(variable)) {
        return Err(format!("takes its host from ${}, which a client fills in freely", free.name()));
    }
    let has = |c: char| authority.0.iter().any(|part| matches!(part, Part::Text(text) if text.contains(c)));
    if has('@') {
        return Err("holds a user name before the host".to_owned());
    }
    Ok(())
}

/// Reads `host`, `host:port`, `[v6]` and `[v6]:port`.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let bad = || format!("{text:?} is not a host");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().ok().ok_or_else(bad)?;
            (address, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port {
        "" => None,
        port => {
            let number = port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            Some(number.ok_or_else(|| format!("{text:?} has no usable port"))?)
        }
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || host.contains("..") || !host.chars().all(is_name) {
        return Err(bad());
    }
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, authority, path) in [
            (
                "http://auth.a.svc.cluster.local:4180/oauth2/auth",
                "auth.a.svc.cluster.local:4180",
                "/oauth2/auth",
            ),
            ("https://$host/oauth2/auth", "${host}", "/oauth2/auth"),
            ("HTTP://a", "a", ""),
            ("http://a?x=$args", "a", "?x=${args}"),
            ("https://mirror.example$request_uri", "mirror.example", "${request_uri}"),
            (
                "http://${namespace}.example:80$uri$is_args$args",
                "${namespace}.example:80",
                "${uri}${is_args}${args}",
            ),
            ("http://[2001:db8::1]:8080/x", "[2001:db8::1]:8080", "/x"),
        ] {
            let found = url(text).unwrap();
            assert_eq!(
                (found.authority.to_string(), found.path.to_string()),
                (authority.into(), path.into())
            );
        }
        let literal = |text| url(text).unwrap().literal;
        assert_eq!(literal("https://A.example/"), Some(("a.example".to_owned(), None)));
        assert_eq!(literal("http://[::1]:80/"), Some(("::1".to_owned(), Some(80))));
        assert_eq!(literal("http://$host/"), None);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in [
            "",
            "auth.example",
            "//auth.example/",
            "ftp://auth.example/",
            "http://",
            "http:///path",
            "http://a..b/",
            "http://a:99999/",
            "http://a:0/",
            "http://user@a/",
            "http://$arg_host/",
            "http://${http_x_auth}/",
            "http://$cookie_a.example/",
            "http://a/$nope",
            "http://a/#;}}}\n\nssl_engine foobar;",
            "http://a/x;proxy_pass http://b",
            "http://a/\r\nX: y",
            "http://a/\"x",
            "http://a/{x}",
            "http://a b/",
            "http://\u{e9}/",
        ] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn clients_are_sent_to_a_host_that_they_cannot_choose() {
        for good in
            ["/login", "https://$host/oauth2/start?rd=$escaped_request_uri", "http://sso.example/?a=$arg_b"]
        {
            assert!(location(good).is_ok(), "{good}");
        }
        for bad in ["//evil.example", "https://$arg_rd/", "javascript:alert(1)", "/\\evil.example", "login"] {
            assert!(location(bad).is_err(), "{bad}");
        }
    }
}
