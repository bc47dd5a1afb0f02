//! `auth-snippet`: headers for the service that authenticates, and names for those of its answer.

use super::directives::parse;
use super::locals::{self, Locals};
use super::syntax::Directive;
use crate::annotation::headers::is_framing;
use crate::annotation::value::{self, text};
use crate::model::template::Template;

/// What a snippet says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSnippet {
    /// Headers of the sub-request, lower case.
    pub headers: Vec<(String, Template)>,
    /// Headers of the answer that have a name.
    pub quoted: Vec<String>,
    locals: Locals,
}

impl AuthSnippet {
    /// Text in which the snippet's names stand for what they name.
    pub fn fill(&self, text: &str) -> String {
        self.locals.fill(text)
    }
}

/// Reads a snippet. The error names the directive and its replacement.
pub(super) fn read(snippet: &str) -> Result<AuthSnippet, String> {
    let directives = parse(snippet)?;
    let (locals, quoted) = locals::of_authentication(&directives)?;
    let mut headers = Vec::new();
    for directive in directives.iter().filter(|directive| directive.name != "auth_request_set") {
        headers
            .push(header(directive).map_err(|reason| format!("the directive {} {reason}", directive.name))?);
    }
    Ok(AuthSnippet { headers, quoted, locals })
}

fn header(directive: &Directive) -> Result<(String, Template), String> {
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
    Ok((name, text::template(text)?))
}
