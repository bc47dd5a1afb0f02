//! The directives that are understood, and what replaces the others.

use super::flow::Flow;
use super::locals::{self, Locals};
use super::replacements::unknown;
use super::syntax::{self, Directive};
use super::{Snippet, access, location};
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
    snippet.access = access::read(&directives)?;
    let mut flow = Flow::new(locals, &directives).towards_backend();
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
    let (locals, kind) = (flow.locals(), default_type(&directives)?);
    for answer in &mut flow.answers {
        say_type(answer, kind.as_ref());
    }
    for directive in directives.iter().filter(|directive| is_setting(directive)) {
        apply(&mut snippet, directive, &locals).map_err(|reason| named(directive, reason))?;
    }
    snippet.headers.response.extend(flow.headers());
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
        || access::is_rule(directive)
        || ["location", "auth_request_set", "limit_except", "default_type"]
            .contains(&directive.name.as_str()))
}

/// `default_type`: the type of texts that are answered. Answers of backends and error pages say their own.
pub(super) fn default_type(directives: &[Directive]) -> Result<Option<Template>, String> {
    let found = directives.iter().find(|directive| directive.name == "default_type");
    let Some(directive) = found else { return Ok(None) };
    let ([kind], None) = (directive.args.as_slice(), &directive.block) else {
        return Err("the directive default_type is not one type".to_owned());
    };
    text::template(kind).map(Some).map_err(|reason| format!("the directive default_type {reason}"))
}

/// Gives an answer its type.
pub(super) fn say_type(answer: &mut Answer, kind: Option<&Template>) {
    if let (Content::Text(_), Some(kind)) = (&answer.content, kind) {
        let action = HeaderAction::Set(kind.clone());
        answer
            .headers
            .insert(0, HeaderChange { name: "content-type".to_owned(), action, when: When::default() });
    }
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
        ("access_log", ["off"]) => snippet.is_unlogged = true,
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
        "tcp_nodelay"
        | "tcp_nopush"
        | "sendfile"
        | "proxy_pass_request_headers"
        | "proxy_pass_request_body" => args == ["on"],
        // It changes what is sent, but only where a file is.
        "etag" | "if_modified_since" | "log_not_found" | "proxy_ssl_session_reuse" => true,
        // A body whose length is known is not sent in chunks, and any other has no other form that tells where it ends.
        "chunked_transfer_encoding" => true,
        // How nginx keeps its own memory.
        "proxy_busy_buffers_size"
        | "proxy_temp_file_write_size"
        | "proxy_headers_hash_max_size"
        | "proxy_headers_hash_bucket_size"
        | "proxy_socket_keepalive"
        | "output_buffers"
        | "postpone_output" => true,
        // Headers of backends go through anyway, but for those that nginx keeps to itself.
        "proxy_pass_header" => matches!(args, [name] if !is_kept_back(name)),
        _ => false,
    }
}

/// Headers of backends that do not go through.
fn is_kept_back(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["date", "server", "x-pad"].contains(&name.as_str()) || name.starts_with("x-accel-")
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
    if let HeaderAction::Set(value) | HeaderAction::Add(value) | HeaderAction::Replace(value) = &action
        && value.variables().any(|variable| matches!(variable, Variable::Group(_)))
    {
        return Err(format!(
            "puts a group of an expression into {name}, which is not understood; use a variable"
        ));
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
            ("alias /var/run/secrets/;", "serves files"),
            ("set $host 1;", "nginx's own"),
            ("more_set_headers \"X: $x\"; if ($host = a) { set $x 1; }", "no known variable"),
            ("location /x { proxy_pass http://a; }", "name a Service"),
            ("limit_except GET { allow 10.0.0.0/8; deny all; }", "deny all"),
            ("location @x { return 200; }", "begins with /"),
            ("if ($host = a) { if ($x) { return 200; } }", "another if"),
            ("auth_request_set $a $upstream_status;", "auth-response-headers"),
            ("if (-f $request_filename) { return 404; }", "not understood"),
            ("rewrite ^/a /b;", "break"),
            ("rewrite ^/a /b last;", "break"),
            ("rewrite ^/a b break;", "begin with /"),
            ("location /x { rewrite ^/a /b break; }", "go to a backend"),
            ("if ($http_origin ~ (a)) { add_header X $1; }", "group"),
            ("if ($host = a) { proxy_set_header X y; }", "something else"),
            ("if ($host = a) { access_log off; }", "something else"),
            ("allow 10.0.0.1; deny 10.0.0.0/8;", "before it"),
            ("access_log /dev/stdout;", "access_log off"),
            ("sub_filter 'a' 'b';", "backend"),
            ("gzip off;", "use-gzip"),
            ("client_max_body_size 1m;", "proxy-body-size"),
            ("error_page 404 /404.html;", "custom-http-errors"),
            ("auth_basic_user_file /etc/x;", "auth-secret"),
            ("auth_basic x;", "auth-type"),
            ("charset utf-8;", "charset"),
            ("proxy_cookie_flags ~ secure;", "proxy_cookie_path"),
            ("set_real_ip_from 10.0.0.0/8;", "proxy-real-ip-cidr"),
            ("real_ip_header X-Forwarded-For;", "use-forwarded-headers"),
            ("proxy_pass_header Server;", "leave it out"),
            ("keepalive_timeout 75s;", "keep-alive"),
            ("underscores_in_headers on;", "enable-underscores-in-headers"),
            ("ssl_verify_client on;", "auth-tls-"),
            ("root /usr/share;", "serves files"),
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
    fn what_changes_nothing_is_left_out() {
        for text in [
            "etag off;",
            "if_modified_since off;",
            "proxy_pass_header Authorization;",
            "proxy_pass_request_headers on;",
            "proxy_busy_buffers_size 64k;",
            "proxy_http_version 1.1;",
            "proxy_set_header Connection \"upgrade\";",
            "expires off;",
            "server_tokens off;",
            "default_type text/plain;",
            "allow all;",
        ] {
            assert_eq!(read(text), Ok(Snippet::default()), "{text}");
        }
    }

    #[test]
    fn sources_logs_and_types_of_texts_are_read() {
        let snippet = read(
            "allow 198.18.0.0/15; deny all; access_log off; default_type text/plain; \
                            location = /a { return 200 a; } location = /b { return 403; } return 200 c;",
        )
        .unwrap();
        assert_eq!(snippet.access.allowed.map(|list| list.len()), Some(1));
        assert!(snippet.is_unlogged);
        let typed: Vec<usize> = snippet.answers.iter().map(|answer| answer.headers.len()).collect();
        assert_eq!(typed, [1, 0, 0]);
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
