//! Bans the sources that the kernel program names, on the terms of the policies whose limits they broke.
//!
//! The program ends every ban by itself; the agent only tidies up. While no agent runs, nobody new is banned.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use super::Agent;
use crate::bpf::bans;
use crate::compile::maps::bans::terms;
use crate::error_chain::chain;

/// Looks between two rounds that remove what is over.
const TIDY: u32 = 10;
/// Bans of one look that are logged each by itself.
const MOST_LOGGED: usize = 20;

/// What this agent has banned since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sources, by policy.
    pub banned: BTreeMap<String, u64>,
    /// Sources that were not banned, because the policy bans as many as it may; by policy.
    pub refused: BTreeMap<String, u64>,
    /// The last one in words, by policy.
    last: BTreeMap<String, String>,
    looks: u32,
    /// What went wrong was said.
    is_failing: bool,
}

impl Agent {
    /// With every sign of life.
    pub(super) fn look_at_bans(&mut self) {
        let Some(maps) = self.kernel.as_mut().and_then(|kernel| kernel.owned_maps()) else { return };
        let tally = &mut self.bans;
        tally.looks = tally.looks.wrapping_add(1);
        let outcome = bans::asked(maps).and_then(|asks| {
            if asks.is_empty() && !tally.looks.is_multiple_of(TIDY) {
                return Ok(bans::Outcome::default());
            }
            bans::enter(maps, &asks, &terms(&self.model.edge.policies))
        });
        match outcome {
            Ok(outcome) => {
                tally.is_failing = false;
                if tally.note(outcome) {
                    self.publish_state();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut tally.is_failing, true) {
                    error!(error = %chain(&error), "sources cannot be banned");
                }
            }
        }
    }
}

impl Tally {
    /// For people, by policy.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let words = |(policy, last): (&String, &String)| {
            let count = self.banned.get(policy).copied().unwrap_or_default();
            let sources = if count == 1 { "source" } else { "sources" };
            (policy.clone(), format!("{count} {sources}, lastly {last}"))
        };
        self.last.iter().map(words).collect()
    }

    /// Whether there is anything new.
    fn note(&mut self, outcome: bans::Outcome) -> bool {
        let is_news = !outcome.banned.is_empty() || !outcome.refused.is_empty();
        for (at, banned) in outcome.banned.iter().enumerate() {
            let bans::Banned { source, policy, too_many, left_seconds, .. } = banned;
            if at < MOST_LOGGED {
                info!(%source, policy, too_many, seconds = left_seconds, "source banned");
            }
            *self.banned.entry(policy.clone()).or_default() += 1;
            self.last
                .insert(policy.clone(), format!("{source} for {left_seconds} s, for too many {too_many}"));
        }
        if let Some(more @ 1..) = outcome.banned.len().checked_sub(MOST_LOGGED) {
            info!(more, "further sources banned; `portcullis bans` lists them");
        }
        for (policy, count) in outcome.refused {
            let known = self.refused.entry(policy.clone()).or_default();
            if *known == 0 {
                warn!(
                    policy,
                    "sources are not banned, as many are as spec.ban.max permits or the kernel can hold; their limits hold"
                );
            }
            *known += count;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_banned_is_counted_by_policy_and_the_last_is_told() {
        let banned = |source: &str, policy: &str| bans::Banned {
            source: source.parse().unwrap(),
            policy: policy.to_owned(),
            too_many: "packets",
            since_seconds: 0,
            left_seconds: 600,
        };
        let mut tally = Tally::default();
        assert!(!tally.note(bans::Outcome::default()), "nothing new");
        let outcome = bans::Outcome {
            banned: vec![
                banned("198.18.0.1/32", "a"),
                banned("198.18.0.2/32", "b"),
                banned("2001:db8::/64", "a"),
            ],
            refused: BTreeMap::from([("b".to_owned(), 7)]),
        };
        assert!(tally.note(outcome));
        assert_eq!(tally.banned, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
        assert_eq!(tally.refused["b"], 7);
        let words = tally.words();
        assert_eq!(words["a"], "2 sources, lastly 2001:db8::/64 for 600 s, for too many packets");
        assert_eq!(words["b"], "1 source, lastly 198.18.0.2/32 for 600 s, for too many packets");
    }
}
