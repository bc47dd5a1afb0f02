//! Who is refused on every host, as requests look it up.

use std::collections::HashSet;
use std::net::IpAddr;

use http::HeaderValue;
use regex::bytes::{Regex, RegexBuilder};
use tracing::error;

use super::networks::Networks;
use crate::model::block::{self, TextMatch};

/// Sources and texts that are refused.
#[derive(Debug, Default)]
pub struct Blocked {
    sources: Networks,
    user_agents: Texts,
    referers: Texts,
}

#[derive(Debug, Default)]
struct Texts {
    /// In lower case.
    exact: HashSet<Vec<u8>>,
    expressions: Vec<Regex>,
}

impl Blocked {
    /// From the model.
    pub fn new(model: &block::Blocked) -> Self {
        let block::Blocked { sources, user_agents, referers, is_client_hidden: _ } = model;
        Self {
            sources: Networks::new(sources),
            user_agents: Texts::new(user_agents),
            referers: Texts::new(referers),
        }
    }

    /// Whether a request is refused.
    pub fn refuses(
        &self,
        client: IpAddr,
        user_agent: Option<&HeaderValue>,
        referer: Option<&HeaderValue>,
    ) -> bool {
        (!self.sources.is_empty() && self.sources.contains(client))
            || self.user_agents.hold(user_agent)
            || self.referers.hold(referer)
    }
}

impl Texts {
    fn new(matches: &[TextMatch]) -> Self {
        let mut texts = Self::default();
        for entry in matches {
            match entry {
                TextMatch::Exact(text) => drop(texts.exact.insert(text.clone().into_bytes())),
                TextMatch::Expression { pattern, ignores_case } => {
                    match RegexBuilder::new(pattern).case_insensitive(*ignores_case).build() {
                        Ok(expression) => texts.expressions.push(expression),
                        // It was compiled when it was read.
                        Err(error) => {
                            error!(pattern, %error, "an expression that blocks requests cannot be used")
                        }
                    }
                }
            }
        }
        texts
    }

    /// A field that is absent counts as an empty one, as in nginx.
    fn hold(&self, value: Option<&HeaderValue>) -> bool {
        let text = value.map(HeaderValue::as_bytes).unwrap_or_default();
        (!self.exact.is_empty() && self.exact.contains(&text.to_ascii_lowercase()))
            || self.expressions.iter().any(|expression| expression.is_match(text))
    }
}
