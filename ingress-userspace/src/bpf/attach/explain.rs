//! What a person is told of an interface that is not served as was asked for.

use super::tc::TcError;
use super::xdp::XdpError;
use super::{Hook, Served, Wish};
use crate::error_chain::chain;

/// Why one interface is not served, or not as well as was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(transparent)]
    Xdp(#[from] XdpError),
    #[error(transparent)]
    Tc(#[from] TcError),
    #[error("{0}")]
    NotLoaded(String),
    #[error(
        "the other end of this veth runs no XDP program, and what XDP in the driver sends to other nodes would be lost; \
         attach one there, an empty one will do"
    )]
    Mute,
}

/// What stood in the way, each thing once.
pub(super) fn reason(obstacles: &[Obstacle]) -> String {
    let mut reasons: Vec<String> = obstacles.iter().map(|obstacle| chain(obstacle)).collect();
    reasons.dedup();
    reasons.join("; ")
}

/// One line for each shortcoming.
pub(super) fn degraded(served: &Served, wish: Wish) -> Vec<String> {
    let name = &served.interface.name;
    let reason = reason(&served.obstacles);
    let mut lines = Vec::new();
    match served.hook {
        None => lines.push(format!(
            "{name} runs no program, limits do not hold for what arrives there, and lists at accept only: {reason}"
        )),
        Some(Hook::XdpGeneric) if wish.hook != Some(Hook::XdpGeneric) => {
            let why = if reason.is_empty() { "see the driver, the MTU and offload settings" } else { reason.as_str() };
            lines.push(format!("{name} has no xdp-native and runs xdp-generic, which is slower: {why}"));
        }
        Some(Hook::Tc) if wish.hook != Some(Hook::Tc) => {
            lines.push(format!("{name} has no XDP and runs tc, which is slower: {reason}"));
        }
        Some(_) => {}
    }
    if served.hook.is_some() && served.egress.is_none() {
        lines.push(format!("what leaves by {name} is neither counted nor corrected: {reason}"));
    }
    lines
}
