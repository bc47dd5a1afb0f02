//! The variables that a snippet makes: `set` and `auth_request_set`.

use std::collections::BTreeMap;

use super::syntax::Directive;
use crate::model::template::Template;

/// What stands for each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locals(BTreeMap<String, String>);

impl Locals {
    /// Text in which they are replaced by what they stand for.
    pub(super) fn fill(&self, text: &str) -> String {
        Template::substitute(text, |name| self.0.get(name).cloned())
    }

    /// `set $name value`.
    pub(super) fn set(&mut self, args: &[String]) -> Result<(), String> {
        let [name, value] = args else { return Err("is neither a variable nor a value".to_owned()) };
        let name = name.strip_prefix('$').filter(|name| is_name(name)).ok_or("names no variable")?;
        if Template::parse(&format!("${name}")).is_ok() {
            return Err(format!("changes ${name}, which is nginx's own; what it says is not ours to change"));
        }
        let value = self.fill(value);
        let groups = Template::parse_leniently(&value, "").0;
        if groups.variables().any(|variable| matches!(variable, crate::model::template::Variable::Group(_))) {
            return Err("keeps a group of an expression, which is not understood".to_owned());
        }
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// Every name that is set anywhere is one everywhere; at first it stands for nothing.
    pub(super) fn declare(&mut self, directives: &[Directive]) {
        for directive in directives {
            if let ("set", Some(name)) = (directive.name.as_str(), directive.args.first())
                && let Some(name) = name.strip_prefix('$')
            {
                self.0.entry(name.to_owned()).or_default();
            }
            self.declare(directive.block.as_deref().unwrap_or_default());
        }
    }

    /// What all of these agree about; the names of the rest stand for nothing.
    pub(super) fn agreed<'a>(mut all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut agreed = all.next()?.clone();
        for other in all {
            agreed.0.retain(|name, value| other.0.get(name) == Some(value));
        }
        Some(agreed)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// All `auth_request_set $name $upstream_http_header`, and the headers that they ask for.
pub(super) fn of_authentication(directives: &[Directive]) -> Result<(Locals, Vec<String>), String> {
    let (mut locals, mut headers) = (Locals::default(), Vec::new());
    for directive in directives.iter().filter(|directive| directive.name == "auth_request_set") {
        let wrong = || {
            "the directive auth_request_set is understood with a header of the answer, as in \
             auth_request_set $name $upstream_http_header; use the annotation auth-response-headers"
                .to_owned()
        };
        let [name, value] = directive.args.as_slice() else { return Err(wrong()) };
        let name = name.strip_prefix('$').filter(|name| is_name(name)).ok_or_else(wrong)?;
        let header = value.strip_prefix("$upstream_http_").filter(|name| is_name(name)).ok_or_else(wrong)?;
        locals.0.insert(name.to_owned(), format!("${{auth_answer_{header}}}"));
        headers.push(header.replace('_', "-").to_ascii_lowercase());
    }
    headers.sort();
    headers.dedup();
    Ok((locals, headers))
}
