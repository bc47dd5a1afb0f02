//! Choosing an endpoint: one file per algorithm, pure functions over what is usable now. [`Picker`] puts them in the order
//! of the tries of one request.

pub mod ewma;
pub mod hash;
pub mod round_robin;
pub mod slow_start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{BackendCell, Endpoint};
use crate::snapshot::buckets::now;

/// How the tries of one request go over the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From this turn on.
    Turn(usize),
    /// The better of two.
    Best,
    /// From the best rank for this hash down; or any of the first `group`.
    Ranked {
        /// Of the text that was asked for.
        key: u64,
        /// At least 1.
        group: usize,
    },
}

/// Picks for the tries of one request.
#[derive(Clone, Copy, Debug)]
pub struct Picker {
    order: Order,
    slow_start: Option<Duration>,
}

impl Picker {
    /// In turn, all workers on the same counter.
    pub fn in_turn(backend: &BackendCell, slow_start: Option<Duration>) -> Self {
        Self { order: Order::Turn(round_robin::next(&backend.turn)), slow_start }
    }

    /// The better of two.
    pub fn best(slow_start: Option<Duration>) -> Self {
        Self { order: Order::Best, slow_start }
    }

    /// By hash.
    pub fn ranked(key: u64, group: u32) -> Self {
        let group = usize::try_from(group).unwrap_or(usize::MAX).max(1);
        Self { order: Order::Ranked { key, group }, slow_start: None }
    }

    /// Whether latency and requests in flight are of interest.
    pub fn weighs_load(&self) -> bool {
        self.order == Order::Best
    }

    /// The endpoint of the next try. Endpoints that failed for this request come again only when there is no other.
    pub fn pick<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        failed: &[SocketAddr],
        mut random: impl FnMut() -> u64,
    ) -> Option<&'a Arc<Endpoint>> {
        let index = match self.order {
            Order::Turn(turn) => {
                let len = endpoints.len();
                let mut accepts = |index: usize| match (self.slow_start, endpoints.get(index)) {
                    (Some(window), Some(endpoint)) => {
                        slow_start::accepts(endpoint.since(), now(), window, random())
                    }
                    _ => true,
                };
                round_robin::pick(len, turn.wrapping_add(failed.len()), &mut accepts)
            }
            Order::Best => {
                let now = now();
                let cost = |index: usize| {
                    let Some(endpoint) = endpoints.get(index) else { return f64::INFINITY };
                    let share = self.slow_start.map_or(1.0, |w| slow_start::share(endpoint.since(), now, w));
                    endpoint.load.cost(now) / share
                };
                let is_failed = |index: usize| {
                    endpoints.get(index).is_some_and(|endpoint| failed.contains(&endpoint.address))
                };
                ewma::better_of_two(endpoints.len(), is_failed, cost, random)
            }
            Order::Ranked { key, group: 1 } => {
                hash::ranked(endpoints.iter().map(|endpoint| endpoint.hash), key, failed.len())
            }
            Order::Ranked { key, group } => {
                let size = group.min(endpoints.len());
                let place = usize::try_from(random() >> 1).unwrap_or_default().wrapping_add(failed.len());
                let place = place.checked_rem(size)?;
                hash::ranked(endpoints.iter().map(|endpoint| endpoint.hash), key, place)
            }
        };
        index.and_then(|index| endpoints.get(index))
    }
}

#[cfg(test)]
mod tests;
