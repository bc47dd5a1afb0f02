//! `/pools`: the pools that a node serves, as its agent knows them.

use std::net::IpAddr;

use http::StatusCode;
use serde::Serialize;

use super::State;

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Its blocks, as `first-last`, or one address.
    pub blocks: Vec<String>,
    /// How many addresses these are.
    pub addresses: u64,
    /// `L2` or `None`.
    pub announce: &'static str,
    /// The node that announces it; `None`: nobody of ours, or that is not known.
    pub announced_by: Option<String>,
    /// Fingerprint of its table: equal on nodes that agree; `None`: it has none, since one node alone serves it.
    pub table: Option<String>,
    /// The nodes that serve it; empty where they are not known.
    pub nodes: Vec<NodeOfPool>,
}

/// A node of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeOfPool {
    /// Its name.
    pub name: String,
    /// It is the one that says so.
    pub is_this_node: bool,
    /// Its ends of the tunnel.
    pub addresses: Vec<IpAddr>,
    /// `active`, `draining` or `down`.
    pub state: &'static str,
    /// Second since which it answers or does not; `None`: it is not probed from here.
    pub since: Option<i64>,
    /// It joined or came back lately, so connections that it should own may live elsewhere.
    pub is_recent: bool,
    /// Its share of new flows.
    pub weight: u16,
}

/// The answer.
pub(super) fn answer(state: &State) -> (StatusCode, String) {
    (StatusCode::OK, format!("{}\n", serde_json::json!(*state.pools.borrow())))
}
