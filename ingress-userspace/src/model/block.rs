//! Who is refused on every host.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Sources and texts that are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Canonical networks.
    pub sources: Vec<IpNet>,
    /// `User-Agent`.
    pub user_agents: Vec<TextMatch>,
    /// `Referer`.
    pub referers: Vec<TextMatch>,
    /// Connections come from proxies that name the client, so that packets say nothing of it.
    pub is_client_hidden: bool,
}

/// What a text is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextMatch {
    /// All of it, in lower case; case does not count.
    Exact(String),
    /// Any part of it.
    Expression {
        /// The expression.
        pattern: String,
        /// Case does not count.
        ignores_case: bool,
    },
}
