//! `auth-snippet`: headers for the service that authenticates, names for those of its answer, and verdicts for which it is
//! not asked.

use super::directives::parse;
use super::flow::Flow;
use super::locals::{self, Locals};
use super::syntax::Directive;
use crate::annotation::headers::is_framing;
use crate::annotation::value::{self, text};
use crate::model::policy::answer::{Answer, Content};
use crate::model::policy::auth_external::StatedVerdict;
use crate::model::template::Template;

/// What a snippet says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSnippet {
    /// Headers of the sub-request, lower case.
    pub headers: Vec<(String, Template)>,
    /// Headers of the answer that have a name.
    pub quoted: Vec<String>,
    /// Verdicts that need no question, the first that applies counts.
    pub verdicts: Vec<StatedVerdict>,
    locals: Locals,
}

impl AuthSnippet {
    /// Text in which the snippet's names stand for what they name.
    pub fn fill(&self, text: &str) -> String {
        self.locals.fill(text)
    }
}

/// Reads a snippet. The error names the directive and its replacement.
pub(in crate::annotation) fn read(snippet: &str) -> Result<AuthSnippet, String> {
    let directives = parse(snippet)?;
    let (locals, quoted) = locals::of_authentication(&directives)?;
    // What the service answers is not known before it is asked: those names stand for nothing here.
    let mut flow = Flow::new(Locals::default(), &directives);
    let (mut headers, mut verdicts) = (Vec::new(), Vec::new());
    let named = |directive: &Directive, reason| format!("the directive {} {reason}", directive.name);
    for directive in directives.iter().filter(|directive| Flow::takes(directive)) {
        flow.run(directive).map_err(|reason| named(directive, reason))?;
    }
    let known = flow.locals();
    let is_header = |directive: &&Directive| directive.name != "auth_request_set" && !Flow::takes(directive);
    for directive in directives.iter().filter(is_header) {
        headers.push(header(directive, &known).map_err(|reason| named(directive, reason))?);
    }
    for answer in flow.answers {
        verdicts.push(verdict(answer)?);
    }
    Ok(AuthSnippet { headers, quoted, verdicts, locals })
}

fn verdict(answer: Answer) -> Result<StatedVerdict, String> {
    match answer.content {
        Content::Page | Content::Text(_) if answer.headers.is_empty() => {
            Ok(StatedVerdict { conditions: answer.conditions, status: answer.status })
        }
        _ => Err("redirects, which is no verdict; use auth-signin for it".to_owned()),
    }
}

fn header(directive: &Directive, known: &Locals) -> Result<(String, Template), String> {
    let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
    let ("proxy_set_header", [name, text], None) =
        (directive.name.as_str(), args.as_slice(), &directive.block)
    else {
        return Err("is not understood; use auth-response-headers and auth-proxy-set-headers".to_owned());
    };
    let name = value::header_name(name).map_err(|reason| format!("names {name:?}, which {reason}"))?;
    let name = name.to_ascii_lowercase();
    if is_framing(&name) || name == "host" {
        return Err(format!("sets {name}, which says where a message ends or whom it is for"));
    }
    Ok((name, text::template(&known.fill(text))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_verdicts_are_read_and_nothing_else() {
        let text = "set $open 0; if ($request_uri = \"/open\") { set $open 1; } if ($open) { return 200; }\n\
                    proxy_set_header X-Tenant $http_x_tenant;";
        let found = read(text).unwrap();
        assert_eq!(found.headers, [("x-tenant".to_owned(), Template::parse("$http_x_tenant").unwrap())]);
        let verdicts: Vec<_> = found.verdicts.iter().map(|one| (one.status, one.conditions.len())).collect();
        assert_eq!(verdicts, [(200, 1)]);
        for (bad, reason) in [
            ("more_set_headers \"A: b\";", "more_set_headers"),
            ("return 302 https://sso.example/;", "redirects"),
            ("auth_request_set $user $upstream_http_x_user; if ($user) { return 200; }", "user"),
            ("proxy_pass http://other;", "proxy_pass"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
