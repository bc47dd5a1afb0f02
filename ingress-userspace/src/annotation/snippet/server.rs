//! `server-snippet`: what holds for a whole host, as far as it is understood.
//!
//! What is set for a server and again for each of its paths, as ingress-nginx sets it, has no effect, and is passed over.

use super::directives::{apply, default_type, is_setting, parse, say_type};
use super::flow::Flow;
use super::locals::Locals;
use super::syntax::Directive;
use super::{Reach, Server, Snippet, access, location};

/// Directives that ingress-nginx repeats for every path, so that those of the server count for nothing.
const OVERRIDDEN: &[&str] = &[
    "client_max_body_size",
    "proxy_set_header",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_buffering",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_request_buffering",
    "proxy_http_version",
    "proxy_redirect",
    "proxy_next_upstream",
    "proxy_next_upstream_tries",
    "proxy_next_upstream_timeout",
    "proxy_cookie_domain",
    "proxy_cookie_path",
    "grpc_connect_timeout",
    "grpc_read_timeout",
    "grpc_send_timeout",
];

/// Reads a snippet. The error names the directive and its replacement.
pub(super) fn read(text: &str) -> Result<Server, String> {
    let directives = parse(text)?;
    let named = |directive: &Directive, reason| format!("the directive {} {reason}", directive.name);
    let (mut flow, mut places) = (Flow::new(Locals::default(), &directives), Vec::new());
    for directive in &directives {
        match directive.name.as_str() {
            "location" => {
                let place = location::read(directive, &flow.locals());
                places.push(place.map_err(|reason| named(directive, reason))?);
            }
            "auth_request_set" => {
                return Err("the directive auth_request_set belongs into configuration-snippet".to_owned());
            }
            _ if Flow::takes(directive) => flow.run(directive).map_err(|reason| named(directive, reason))?,
            _ => {}
        }
    }
    if flow.rewrites() {
        return Err(
            "the directive rewrite ends with break, so that paths would be told apart by what they became; \
                    write it into configuration-snippet, or use the annotation rewrite-target"
                .to_owned(),
        );
    }
    let (locals, kind) = (flow.locals(), default_type(&directives)?);
    let mut inner = Snippet::default();
    let is_kept =
        |directive: &&Directive| is_setting(directive) && !OVERRIDDEN.contains(&directive.name.as_str());
    for directive in directives.iter().filter(is_kept) {
        apply(&mut inner, directive, &locals).map_err(|reason| named(directive, reason))?;
    }
    if inner.upstream_tls.is_some() {
        return Err("names endpoints, which belongs into configuration-snippet".to_owned());
    }
    location::sort(&mut places);
    let mut answers: Vec<_> = flow.answers.into_iter().map(|answer| (Reach::Everything, answer)).collect();
    for place in places {
        answers.extend(place.answers.into_iter().map(|answer| (place.reach.clone(), answer)));
    }
    for (_, answer) in &mut answers {
        // That of a place stands behind it, and wins.
        say_type(answer, kind.as_ref());
    }
    let Snippet { headers, is_unlogged, .. } = inner;
    Ok(Server { answers, headers, access: access::read(&directives)?, is_unlogged })
}
