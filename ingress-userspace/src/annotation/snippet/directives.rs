//! The directives that are understood, and what replaces the others.

use super::flow::Flow;
use super::locals::{self, Locals};
use super::syntax::{self, Directive};
use super::{Snippet, location};
use crate::annotation::headers::is_framing;
use crate::annotation::proxy_ssl::server_name;
use crate::annotation::value::{self, text};
use crate::model::policy::answer::{Answer, Condition, Content, Test};
use crate::model::policy::headers::{HeaderAction, HeaderChange, When};
use crate::model::template::{Part, Template, Variable};

/// `add_header` without `always`, and `expires`.
const SUCCESSES: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Reads a snippet. The error names the directive and its replacement.
pub(super) fn read(text: &str) -> Result<Snippet, String> {
    let directives = parse(text)?;
    let (locals, auth_headers) = locals::of_authentication(&directives)?;
    let mut snippet = Snippet { auth_headers, ..Snippet::default() };
    let mut flow = Flow::new(locals, &directives);
    let (mut places, mut refusals) = (Vec::new(), Vec::new());
    let named = |directive: &Directive, reason| format!("the directive {} {reason}", directive.name);
    for directive in &directives {
        if Flow::takes(directive) {
            flow.run(directive).map_err(|reason| named(directive, reason))?;
        } else if directive.name == "limit_except" {
            refusals.push(limit_except(directive).map_err(|reason| named(directive, reason))?);
        } else if directive.name == "location" {
            places
                .push(location::read(directive, &flow.locals()).map_err(|reason| named(directive, reason))?);
        }
    }
    let locals = flow.locals();
    for directive in directives.iter().filter(|directive| is_setting(directive)) {
        apply(&mut snippet, directive, &locals).map_err(|reason| named(directive, reason))?;
    }
    snippet.answers = flow.answers;
    // nginx looks at methods after everything that was run.
    snippet.answers.append(&mut refusals);
    location::sort(&mut places);
    snippet.answers.extend(places.into_iter().flat_map(|place| place.answers));
    Ok(snippet)
}

/// The directives of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, String> {
    // Programs do not follow nginx's syntax.
    if let Some(at) = text.find("_by_lua") {
        let name = text.get(..at).unwrap_or_default().split_whitespace().next_back().unwrap_or_default();
        return Err(format!("the directive {name}_by_lua is not understood; there is no Lua"));
    }
    syntax::read(text)
}

/// Neither run in advance nor a place nor a variable.
pub(super) fn is_setting(directive: &Directive) -> bool {
    !(Flow::takes(directive)
        || ["location", "auth_request_set", "limit_except"].contains(&directive.name.as_str()))
}

/// `limit_except METHODS { deny all; }`: other methods are refused.
fn limit_except(directive: &Directive) -> Result<Answer, String> {
    let is_refused =
        |block: &[Directive]| matches!(block, [deny] if deny.name == "deny" && deny.args == ["all"]);
    let is_method = |word: &String| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase());
    if !directive.block.as_deref().is_some_and(is_refused) || !directive.args.iter().all(is_method) {
        return Err("is understood with methods and deny all".to_owned());
    }
    let mut methods = directive.args.clone();
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    let pattern = text::pattern(&format!("^(?:{})$", methods.join("|")), true)?;
    let subject = Template(vec![Part::Variable(Variable::RequestMethod)]);
    let condition = Condition { subject, test: Test::MatchesNot(pattern) };
    Ok(Answer { conditions: vec![condition], ..Answer::always(403, Content::Page) })
}

/// Takes over a directive that sets something.
pub(super) fn apply(snippet: &mut Snippet, directive: &Directive, locals: &Locals) -> Result<(), String> {
    let args: Vec<String> = directive.args.iter().map(|arg| locals.fill(arg)).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if directive.block.is_some() {
        return Err("has braces, which is not understood".to_owned());
    }
    match (directive.name.as_str(), args.as_slice()) {
        ("more_set_headers", _) => set_lines(&mut snippet.headers.response, &args)?,
        ("more_clear_headers", _) => clear_lines(&mut snippet.headers.response, &args)?,
        ("more_set_input_headers", _) => set_lines(&mut snippet.headers.request, &args)?,
        ("more_clear_input_headers", _) => clear_lines(&mut snippet.headers.request, &args)?,
        // Cookies of the service that authenticates go to the client anyway, each as a line of its own.
        ("add_header", [name, "${auth_answer_set_cookie}", ..])
            if name.eq_ignore_ascii_case("set-cookie") => {}
        // Nothing is cached, so nginx would have no value for it, and no header.
        ("add_header" | "proxy_set_header", [_, "$upstream_cache_status", ..]) => {}
        ("add_header", [name, value]) => add(snippet, name, value, SUCCESSES.to_vec())?,
        ("add_header", [name, value, "always"]) => add(snippet, name, value, Vec::new())?,
        // What an upgrade needs goes upstream anyway.
        ("proxy_set_header" | "grpc_set_header", [name, _]) if is_upgrade(name) => {}
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
        ("proxy_ssl_name" | "grpc_ssl_name", [name]) => {
            let host = server_name(name).map_err(|reason| format!("has {name:?}, which {reason}"))?;
            snippet.upstream_tls.get_or_insert_default().name = Some(host);
        }
        ("proxy_ssl_server_name" | "grpc_ssl_server_name", [switch @ ("on" | "off")]) => {
            snippet.upstream_tls.get_or_insert_default().is_named = *switch == "on";
        }
        (name, args) if is_needless(name, args) => {}
        (name, _) => return Err(unknown(name)),
    }
    Ok(())
}

/// `add_header Content-Length 0` of an answer without a body, as preflight answers have it: the length is known anyway.
pub(super) fn says_empty(directive: &Directive) -> bool {
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    match (directive.name.as_str(), directive.args.as_slice()) {
        ("add_header", [name, length, ..]) => is_length(name) && length == "0",
        ("more_set_headers", [line]) => {
            line.split_once(':').is_some_and(|(name, length)| is_length(name.trim()) && length.trim() == "0")
        }
        _ => false,
    }
}

/// Directives that ask for what is done anyway.
fn is_needless(name: &str, args: &[&str]) -> bool {
    match name {
        "proxy_http_version" => args == ["1.1"],
        "proxy_ssl_verify" | "grpc_ssl_verify" | "server_tokens" | "proxy_cache" => args == ["off"],
        "tcp_nodelay" | "tcp_nopush" | "sendfile" => args == ["on"],
        // A body whose length is known is not sent in chunks, and any other has no other form that tells where it ends.
        "chunked_transfer_encoding" | "log_not_found" | "proxy_ssl_session_reuse" => true,
        _ => false,
    }
}

/// What is said of an expression.
pub(super) fn bad_expression(text: &str) -> String {
    format!("holds {text:?}, which is not a regular expression that can be used")
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

/// What replaces a directive.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("access_by_lua", "there is no Lua"),
    ("access_log", "use the annotation enable-access-log"),
    ("allow", "use the annotation whitelist-source-range"),
    ("auth_basic", "use the annotations auth-type and auth-secret"),
    ("auth_request_set", "use the annotation auth-response-headers"),
    ("auth_request", "use the annotation auth-url"),
    ("break", "leave it out"),
    ("large_client_header_buffers", "use the ConfigMap key large-client-header-buffers"),
    ("client_body_timeout", "use the ConfigMap key client-body-timeout"),
    ("client_header_timeout", "use the ConfigMap key client-header-timeout"),
    ("ignore_invalid_headers", "use the ConfigMap key ignore-invalid-headers"),
    ("keepalive_timeout", "use the ConfigMap key keep-alive"),
    ("ssl_ciphers", "use the annotation ssl-ciphers"),
    ("ssl_protocols", "use the ConfigMap key ssl-protocols"),
    ("ssl_verify", "use the annotations that begin with auth-tls-"),
    ("ssl_client_certificate", "use the annotation auth-tls-secret"),
    ("underscores_in_headers", "use the ConfigMap key enable-underscores-in-headers"),
    ("client_header_buffer_size", "use the ConfigMap key large-client-header-buffers"),
    ("client_body_buffer_size", "use the annotation client-body-buffer-size"),
    ("client_max_body_size", "use the annotation proxy-body-size"),
    ("content_by_lua", "there is no Lua"),
    ("deny", "use the annotation denylist-source-range"),
    ("error_page", "use the annotation custom-http-errors"),
    ("grpc_", "use the annotations of timeouts"),
    ("gzip", "use the ConfigMap key use-gzip"),
    ("header_filter_by_lua", "there is no Lua; use more_set_headers"),
    ("limit_conn_status", "use the ConfigMap key limit-conn-status-code"),
    ("limit_req_status", "use the ConfigMap key limit-req-status-code"),
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
             limit_except GET { deny all; } proxy_cookie_path / \"/app\"; return 404;",
        )
        .unwrap();
        assert_eq!(snippet.headers.response.len(), 10);
        assert_eq!(snippet.headers.request.len(), 2);
        assert_eq!(
            snippet.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
            [403, 301, 301, 204, 404, 403]
        );
        assert!(snippet.cookie_path.is_some());
    }

    #[test]
    fn everything_else_is_refused_with_its_replacement() {
        for (text, word) in [
            ("proxy_read_timeout 600s;", "proxy-read-timeout"),
            ("auth_request /check;", "auth-url"),
            ("content_by_lua_block { os.execute('id') }", "no Lua"),
            ("include /etc/passwd;", "remove it"),
            ("alias /var/run/secrets/;", "remove it"),
            ("set $host 1;", "nginx's own"),
            ("more_set_headers \"X: $x\"; if ($host = a) { set $x 1; }", "no known variable"),
            ("location /x { proxy_pass http://a; }", "name a Service"),
            ("limit_except GET { allow 10.0.0.0/8; deny all; }", "deny all"),
            ("location @x { return 200; }", "begins with /"),
            ("if ($host = a) { add_header X y; }", "one return"),
            ("if ($host = a) { if ($x) { return 200; } }", "another if"),
            ("auth_request_set $a $upstream_status;", "auth-response-headers"),
            ("if (-f $request_filename) { return 404; }", "not understood"),
            ("rewrite ^/a /b last;", "rewrite-target"),
            ("rewrite ^/a b break;", "begin with /"),
            ("ignore_invalid_headers off;", "ConfigMap key"),
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
