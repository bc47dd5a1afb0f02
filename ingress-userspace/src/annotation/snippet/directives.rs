//! The directives that are understood, and what replaces the others.

use super::Snippet;
use super::syntax::{self, Directive};
use crate::annotation::headers::is_framing;
use crate::annotation::value::{self, text};
use crate::model::policy::answer::{Answer, Condition, Content, LocationForm, Test};
use crate::model::policy::headers::{HeaderAction, HeaderChange, When};
use crate::model::template::{Part, Template, Variable};

/// `add_header` without `always`, and `expires`.
const SUCCESSES: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Reads a snippet. The error names the directive and its replacement.
pub(super) fn read(text: &str) -> Result<Snippet, String> {
    // Programs do not follow nginx's syntax.
    if let Some(at) = text.find("_by_lua") {
        let name = text.get(..at).unwrap_or_default().split_whitespace().next_back().unwrap_or_default();
        return Err(format!("the directive {name}_by_lua is not understood; there is no Lua"));
    }
    let mut snippet = Snippet::default();
    for directive in syntax::read(text)? {
        apply(&mut snippet, &directive)
            .map_err(|reason| format!("the directive {} {reason}", directive.name))?;
    }
    Ok(snippet)
}

fn apply(snippet: &mut Snippet, directive: &Directive) -> Result<(), String> {
    let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
    if directive.block.is_some() && directive.name != "if" {
        return Err("has braces, which is not understood".to_owned());
    }
    match (directive.name.as_str(), args.as_slice()) {
        ("if", _) => snippet.answers.push(conditional(directive)?),
        ("return", _) => snippet.answers.push(answer(&args)?),
        ("rewrite", _) => snippet.answers.push(rewrite(&args)?),
        ("more_set_headers", _) => set_lines(&mut snippet.headers.response, &args)?,
        ("more_clear_headers", _) => clear_lines(&mut snippet.headers.response, &args)?,
        ("more_set_input_headers", _) => set_lines(&mut snippet.headers.request, &args)?,
        ("more_clear_input_headers", _) => clear_lines(&mut snippet.headers.request, &args)?,
        ("add_header", [name, value]) => add(snippet, name, value, SUCCESSES.to_vec())?,
        ("add_header", [name, value, "always"]) => add(snippet, name, value, Vec::new())?,
        // What an upgrade needs goes upstream anyway.
        ("proxy_set_header" | "grpc_set_header", [name, _]) if is_upgrade(name) => {}
        ("proxy_http_version", ["1.1"]) => {}
        ("proxy_set_header" | "grpc_set_header", [name, value]) => {
            snippet.headers.request.push(change(
                name,
                HeaderAction::Set(text::template(value)?),
                When::default(),
            )?);
        }
        ("proxy_hide_header" | "grpc_hide_header", [name]) => {
            let when = When { is_from_backend: true, ..When::default() };
            snippet.headers.response.push(change(name, HeaderAction::Remove, when)?);
        }
        ("expires", [time]) => expires(snippet, time)?,
        ("proxy_cookie_path", [from, to]) if snippet.cookie_path.is_none() => {
            snippet.cookie_path = Some(text::replacement_of(from, to)?);
        }
        ("proxy_cookie_domain", [from, to]) if snippet.cookie_domain.is_none() => {
            snippet.cookie_domain = Some(text::replacement_of(from, to)?);
        }
        (name, _) => return Err(unknown(name)),
    }
    Ok(())
}

fn is_upgrade(name: &str) -> bool {
    name.eq_ignore_ascii_case("upgrade") || name.eq_ignore_ascii_case("connection")
}

fn change(name: &str, action: HeaderAction, when: When) -> Result<HeaderChange, String> {
    let name = value::header_name(name)
        .map_err(|reason| format!("names {name:?}, which {reason}"))?
        .to_ascii_lowercase();
    if is_framing(&name) {
        return Err(format!("sets {name}, which says where a message ends or whom it passes"));
    }
    Ok(HeaderChange { name, action, when })
}

fn add(snippet: &mut Snippet, name: &str, value: &str, statuses: Vec<u16>) -> Result<(), String> {
    let when = When { statuses, ..When::default() };
    snippet.headers.response.push(change(name, HeaderAction::Add(text::template(value)?), when)?);
    Ok(())
}

/// Options of headers-more, then the rest of the words.
struct Options<'a> {
    when: When,
    replaces: bool,
    adds: bool,
    lines: Vec<&'a str>,
}

fn options<'a>(args: &[&'a str]) -> Result<Options<'a>, String> {
    let mut found = Options { when: When::default(), replaces: false, adds: false, lines: Vec::new() };
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        let mut list = || args.next().map(|list| list.split([' ', ',']).filter(|word| !word.is_empty()));
        match arg {
            "-s" => {
                for word in list().ok_or("has -s without a status")? {
                    found.when.statuses.push(
                        value::status::<100, 599>(word)
                            .map_err(|reason| format!("has {word:?}, which {reason}"))?,
                    );
                }
            }
            "-t" => found.when.types.extend(list().ok_or("has -t without a type")?.map(str::to_owned)),
            "-r" => found.replaces = true,
            "-a" => found.adds = true,
            other if other.starts_with('-') => {
                return Err(format!("has the option {other}, which is not understood"));
            }
            line => found.lines.push(line),
        }
    }
    if found.lines.is_empty() {
        return Err("names no header".to_owned());
    }
    Ok(found)
}

fn set_lines(into: &mut Vec<HeaderChange>, args: &[&str]) -> Result<(), String> {
    let Options { when, replaces, adds, lines } = options(args)?;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        let action = match (value, adds, replaces) {
            ("", ..) => HeaderAction::Remove,
            (_, true, _) => HeaderAction::Add(text::template(value)?),
            (_, _, true) => HeaderAction::Replace(text::template(value)?),
            _ => HeaderAction::Set(text::template(value)?),
        };
        into.push(change(name.trim(), action, when.clone())?);
    }
    Ok(())
}

fn clear_lines(into: &mut Vec<HeaderChange>, args: &[&str]) -> Result<(), String> {
    let Options { when, lines, .. } = options(args)?;
    for line in lines {
        let name = line.trim().trim_end_matches(':');
        into.push(match name.strip_suffix('*') {
            Some(prefix) => change(prefix, HeaderAction::RemovePrefix, when.clone())?,
            None => change(name, HeaderAction::Remove, when.clone())?,
        });
    }
    Ok(())
}

fn expires(snippet: &mut Snippet, time: &str) -> Result<(), String> {
    let (expires, control) = match time {
        "off" => return Ok(()),
        "epoch" => {
            (HeaderAction::Set(Template::text("Thu, 01 Jan 1970 00:00:01 GMT")), "no-cache".to_owned())
        }
        "max" => (
            HeaderAction::Set(Template::text("Thu, 31 Dec 2037 23:55:55 GMT")),
            "max-age=315360000".to_owned(),
        ),
        _ => {
            let seconds = seconds(time)?;
            let control = if seconds < 0 { "no-cache".to_owned() } else { format!("max-age={seconds}") };
            (HeaderAction::Date(seconds), control)
        }
    };
    let when = When { statuses: SUCCESSES.to_vec(), ..When::default() };
    snippet.headers.response.push(change("expires", expires, when.clone())?);
    snippet.headers.response.push(change("cache-control", HeaderAction::Set(Template::text(control)), when)?);
    Ok(())
}

/// A time as nginx reads it: digits with units, with a sign in front.
fn seconds(text: &str) -> Result<i64, String> {
    let bad = || format!("has {text:?}, which is not a time such as 30d, -1, epoch or max");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mut total, mut number) = (0_i64, None);
    for c in digits.chars() {
        if let Some(digit) = c.to_digit(10) {
            let so_far: i64 = number.unwrap_or(0);
            number =
                Some(so_far.checked_mul(10).and_then(|ten| ten.checked_add(digit.into())).ok_or_else(bad)?);
            continue;
        }
        let unit: i64 = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            'M' => 2_592_000,
            'y' => 31_536_000,
            _ => return Err(bad()),
        };
        let value = number.take().and_then(|value: i64| value.checked_mul(unit)).ok_or_else(bad)?;
        total = total.checked_add(value).ok_or_else(bad)?;
    }
    if digits.is_empty() {
        return Err(bad());
    }
    let total = total.checked_add(number.unwrap_or(0)).ok_or_else(bad)?;
    // Later than any date of HTTP.
    if total > 100 * 31_536_000 { Err(bad()) } else { Ok(sign * total) }
}

/// `return CODE [text|URL]` or `return URL`.
fn answer(args: &[&str]) -> Result<Answer, String> {
    let is_url = |text: &str| ["http://", "https://", "$scheme"].iter().any(|start| text.starts_with(start));
    let (status, content) = match args {
        [url] if is_url(url) => (302, location(url)?),
        [code] => (
            value::status::<200, 599>(code).map_err(|reason| format!("has {code:?}, which {reason}"))?,
            Content::Page,
        ),
        [code, rest] => {
            let status =
                value::status::<200, 599>(code).map_err(|reason| format!("has {code:?}, which {reason}"))?;
            let content = match status {
                301 | 302 | 303 | 307 | 308 => location(rest)?,
                _ => Content::Text(texts(rest)?),
            };
            (status, content)
        }
        _ => return Err("is neither a status with a text nor a URL".to_owned()),
    };
    if status == 444 {
        return Err(
            "has 444, which closes the connection and is not understood; return 403 instead".to_owned()
        );
    }
    Ok(Answer::always(status, content))
}

/// The text of an answer may have lines.
fn texts(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|unknown| format!("names ${}, which is no known variable", unknown.0))
}

fn location(url: &str) -> Result<Content, String> {
    Ok(Content::Location { to: text::template(url)?, keeps_query: false, form: LocationForm::Host })
}

/// `rewrite REGEX TO [redirect|permanent]`, where it redirects.
fn rewrite(args: &[&str]) -> Result<Answer, String> {
    let (regex, to, flag) = match args {
        [regex, to] => (regex, to, ""),
        [regex, to, flag] => (regex, to, *flag),
        _ => return Err("needs an expression and what replaces it".to_owned()),
    };
    let target = text::template(to)?;
    let status = match flag {
        "permanent" => 301,
        "redirect" => 302,
        _ if text::is_url(&target) => 302,
        _ => return Err("does not redirect; use the annotation rewrite-target".to_owned()),
    };
    let condition = Condition {
        subject: Template(vec![Part::Variable(Variable::Uri)]),
        test: Test::Matches(text::pattern(regex, true)?),
    };
    let content = Content::Location { to: target, keeps_query: true, form: LocationForm::Host };
    Ok(Answer { conditions: vec![condition], ..Answer::always(status, content) })
}

/// `if ($variable = text) { … return …; }`, with the comparisons `=`, `!=`, `~`, `~*`, `!~`, `!~*`, or none. Headers may
/// stand before the answer, and `rewrite` that redirects is one.
fn conditional(directive: &Directive) -> Result<Answer, String> {
    // The parentheses are words, or parts of them.
    let mut words = directive.args.clone();
    let (Some(first), true) = (words.first_mut(), directive.block.is_some()) else {
        return Err("has no condition, or no braces".to_owned());
    };
    *first = first.strip_prefix('(').ok_or("has no condition in parentheses")?.to_owned();
    let Some(last) = words.last_mut() else { return Err("has no condition".to_owned()) };
    *last = last.strip_suffix(')').ok_or("has no condition in parentheses")?.to_owned();
    words.retain(|word| !word.is_empty());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (subject, test) = match words.as_slice() {
        [subject] => (subject, Test::IsSet),
        [subject, "=", other] => (subject, Test::Equals(plain(other)?)),
        [subject, "!=", other] => (subject, Test::Differs(plain(other)?)),
        [subject, "~", regex] => (subject, Test::Matches(text::pattern(regex, true)?)),
        [subject, "~*", regex] => (subject, Test::Matches(text::pattern(regex, false)?)),
        [subject, "!~", regex] => (subject, Test::MatchesNot(text::pattern(regex, true)?)),
        [subject, "!~*", regex] => (subject, Test::MatchesNot(text::pattern(regex, false)?)),
        // `= ""` has lost its empty word.
        [subject, "="] => (subject, Test::Equals(String::new())),
        [subject, "!="] => (subject, Test::Differs(String::new())),
        _ => return Err("compares in a way that is not understood; use =, !=, ~ or ~*".to_owned()),
    };
    if !subject.starts_with('$') {
        return Err(format!("compares {subject:?}, which is no variable"));
    }
    let condition = Condition { subject: text::template(subject)?, test };
    let mut inner = Snippet::default();
    for directive in directive.block.iter().flatten() {
        if directive.name == "if" {
            return Err("holds another if, which is not understood".to_owned());
        }
        apply(&mut inner, directive).map_err(|reason| format!("holds {}, which {reason}", directive.name))?;
    }
    let Snippet { headers, mut answers, cookie_path, cookie_domain } = inner;
    let is_plain = headers.request.is_empty() && cookie_path.is_none() && cookie_domain.is_none();
    match (answers.pop(), answers.is_empty() && is_plain) {
        (Some(mut answer), true) => {
            answer.conditions.insert(0, condition);
            answer.headers = headers.response;
            Ok(answer)
        }
        _ => Err("holds something else than headers and one return or redirect, which is not understood"
            .to_owned()),
    }
}

fn plain(text: &str) -> Result<String, String> {
    if text.contains('$') { Err(format!("compares with the variable {text}")) } else { Ok(text.to_owned()) }
}

/// What replaces a directive.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("access_by_lua", "there is no Lua"),
    ("access_log", "use the annotation enable-access-log"),
    ("allow", "use the annotation whitelist-source-range"),
    ("auth_basic", "use the annotations auth-type and auth-secret"),
    ("auth_request_set", "use the annotation auth-response-headers"),
    ("auth_request", "use the annotation auth-url"),
    ("break", "leave it out"),
    ("client_body_buffer_size", "use the annotation client-body-buffer-size"),
    ("client_max_body_size", "use the annotation proxy-body-size"),
    ("content_by_lua", "there is no Lua"),
    ("deny", "use the annotation denylist-source-range"),
    ("error_page", "use the annotation custom-http-errors"),
    ("grpc_", "use the annotations of timeouts"),
    ("gzip", "use the ConfigMap key use-gzip"),
    ("header_filter_by_lua", "there is no Lua; use more_set_headers"),
    ("limit_conn", "use the annotation limit-connections"),
    ("limit_rate", "use the annotation limit-rate"),
    ("limit_req", "use the annotation limit-rps"),
    ("location", "write a path in spec.rules"),
    ("mirror", "use the annotation mirror-target"),
    ("modsecurity", "there is no web application firewall"),
    ("proxy_buffer", "use the annotation of the same name, with -"),
    ("proxy_busy_buffers_size", "use the annotation of the same name, with -"),
    ("proxy_connect_timeout", "use the annotation proxy-connect-timeout"),
    ("proxy_hide_header", "name one header"),
    ("proxy_next_upstream", "use the annotation of the same name, with -"),
    ("proxy_pass", "name a Service in spec.rules"),
    ("proxy_read_timeout", "use the annotation proxy-read-timeout"),
    ("proxy_redirect", "use the annotations proxy-redirect-from and proxy-redirect-to"),
    ("proxy_request_buffering", "use the annotation proxy-request-buffering"),
    ("proxy_send_timeout", "use the annotation proxy-send-timeout"),
    ("proxy_ssl", "use the annotations that begin with proxy-ssl-"),
    ("rewrite_by_lua", "there is no Lua"),
    ("satisfy", "use the annotation satisfy"),
    ("set", "there are no variables to be set; write the value where it is used"),
    ("sub_filter", "change the text in the backend"),
    ("try_files", "the backend serves files"),
];

fn unknown(name: &str) -> String {
    let found = REPLACEMENTS.iter().find(|(known, _)| name.starts_with(known));
    let replacement = found.map_or("remove it, or write it as annotations", |(_, replacement)| replacement);
    format!("is not understood; {replacement}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_becomes_settings() {
        let snippet = read(
            "more_set_headers \"X-A: $req_id\" 'X-B: 1'; more_set_headers -s '404 503' -t text/html \"X-C: c\";\n\
             more_clear_headers Server X-Debug-*; add_header X-D d; add_header X-E e always;\n\
             proxy_set_header X-Real-Host $host; proxy_set_header Upgrade $http_upgrade; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"upgrade\"; proxy_hide_header X-Powered-By; expires 1h30m;\n\
             if ($http_user_agent ~* \"(bot|crawler)\") { return 403; } rewrite ^/old/(.*)$ /new/$1 permanent;\n\
             grpc_set_header l5d-dst $service_name; if ($host = a) { rewrite ^ https://b$request_uri? permanent; }\n\
             if ($request_method = OPTIONS) { add_header X-F f; more_set_headers \"X-G: g\"; return 204; }\n\
             proxy_cookie_path / \"/app\"; return 404;",
        )
        .unwrap();
        assert_eq!(snippet.headers.response.len(), 10);
        assert_eq!(snippet.headers.request.len(), 2);
        assert_eq!(
            snippet.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
            [403, 301, 301, 204, 404]
        );
        assert!(snippet.cookie_path.is_some());
    }

    #[test]
    fn everything_else_is_refused_with_its_replacement() {
        for (text, word) in [
            ("proxy_read_timeout 600s;", "proxy-read-timeout"),
            ("auth_request /check;", "auth-url"),
            ("content_by_lua_block { os.execute('id') }", "no Lua"),
            ("location /x { return 200; }", "braces"),
            ("include /etc/passwd;", "remove it"),
            ("alias /var/run/secrets/;", "remove it"),
            ("set $x 1;", "no variables"),
            ("if ($host = a) { set $x 1; }", "no variables"),
            ("if ($host = a) { add_header X y; }", "one return"),
            ("if ($host = a) { if ($x) { return 200; } }", "another if"),
            ("auth_request_set $a $upstream_http_a;", "auth-response-headers"),
            ("if (-f $request_filename) { return 404; }", "not understood"),
            ("rewrite ^/a /b break;", "rewrite-target"),
            ("return 444;", "403"),
            ("add_header Content-Length 0;", "where a message ends"),
            ("more_set_headers \"X: $nope\";", "nope"),
            ("add_header X \"a\\r\\nB: c\";", "line break"),
            ("} location /x { return 200; ", "without {"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in
            [("30", Some(30)), ("1h30m", Some(5400)), ("-1", Some(-1)), ("7d", Some(604_800))]
        {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for bad in ["", "x", "1x", "-", "h", "99999999999999999999", "1000y"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
