//! Lists that are too long for the kernel.
//!
//! The lists of a policy are taken as a whole or not at all, and those of one that grew too long take nothing from the
//! others: what it said when all lists had room stays, and what it says now holds at accept only.

use ingress_common::maps::LISTED;
use ipnet::IpNet;

use super::of_policy;
use crate::compile::unmet::Unmet;
use crate::model::edge::EdgePolicy;

/// Prefixes by family.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    v4: usize,
    v6: usize,
}

impl Size {
    /// What a policy takes at most that holds in so many scopes: they share nothing but equal prefixes.
    fn of(policy: &EdgePolicy, scopes: usize) -> Self {
        let all = || [&policy.allow, &policy.deny, &policy.exempt].into_iter().flatten();
        let v4 = all().filter(|net| matches!(net, IpNet::V4(_))).count();
        Self { v4: v4 * scopes, v6: (all().count() - v4) * scopes }
    }

    fn with(self, other: Self) -> Self {
        Self { v4: self.v4 + other.v4, v6: self.v6 + other.v6 }
    }

    fn without(self, other: Self) -> Self {
        Self { v4: self.v4.saturating_sub(other.v4), v6: self.v6.saturating_sub(other.v6) }
    }

    fn fits(self) -> bool {
        self.v4.max(self.v6) <= LISTED as usize
    }

    fn sum(self) -> usize {
        self.v4 + self.v6
    }
}

/// The policies with those lists for which there is room. `former` are the policies of when all lists had; `scopes` says in
/// how many scopes the policy at a position holds.
pub(super) fn fitting(
    policies: &[EdgePolicy],
    former: &[EdgePolicy],
    scopes: impl Fn(usize) -> usize,
    refused: &mut Vec<Unmet>,
) -> Vec<EdgePolicy> {
    let mut used = Size::default();
    let mut taken = Vec::with_capacity(policies.len());
    for (at, policy) in policies.iter().enumerate() {
        let old = former.iter().find(|old| old.name == policy.name);
        let size = old.map_or(Size::default(), |old| Size::of(old, scopes(at)));
        let old = old.filter(|_| used.with(size).fits());
        taken.push(with_lists(policy, old));
        used = used.with(old.map_or(Size::default(), |_| size));
    }
    // What becomes shorter makes room for what grows, and little growth goes before much.
    let mut changes: Vec<_> = taken.iter_mut().zip(policies).enumerate().collect();
    changes.sort_by_cached_key(|(at, (taken, policy))| {
        let size = |policy| Size::of(policy, scopes(*at)).sum().cast_signed();
        size(policy) - size(taken)
    });
    for (at, (taken, policy)) in changes {
        let size = |policy| Size::of(policy, scopes(at));
        let changed = used.without(size(taken)).with(size(policy));
        if changed.fits() {
            (*taken, used) = (policy.clone(), changed);
        } else {
            refused.push(too_long(policy, !is_without_lists(taken)));
        }
    }
    taken
}

fn with_lists(policy: &EdgePolicy, lists: Option<&EdgePolicy>) -> EdgePolicy {
    let of =
        |list: fn(&EdgePolicy) -> &Vec<IpNet>| lists.map(|lists| list(lists).clone()).unwrap_or_default();
    EdgePolicy {
        name: policy.name.clone(),
        scope: policy.scope.clone(),
        allow: of(|policy| &policy.allow),
        deny: of(|policy| &policy.deny),
        exempt: of(|policy| &policy.exempt),
        limits: Vec::new(),
        syn_protection: None,
        ban: None,
    }
}

fn is_without_lists(policy: &EdgePolicy) -> bool {
    policy.allow.is_empty() && policy.deny.is_empty() && policy.exempt.is_empty()
}

fn too_long(policy: &EdgePolicy, has_former: bool) -> Unmet {
    let fields = [("allow", &policy.allow), ("deny", &policy.deny), ("exempt", &policy.exempt)];
    let longest = fields.into_iter().max_by_key(|(_, list)| list.len());
    let (field, length) = longest.map_or(("deny", 0), |(field, list)| (field, list.len()));
    let stays = if has_former {
        "the lists that it had before stay in the kernel"
    } else {
        "none of them is in the kernel"
    };
    of_policy(
        policy,
        &format!(
            "its lists are too long (spec.{field}: {length} entries): all lists together may hold {LISTED} prefixes of \
             a family; {stays}, and what it says now holds at accept only; join neighbouring prefixes or remove some"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::EdgeScope;

    const MOST: u32 = LISTED;

    /// A policy with so many denied prefixes, from this number on.
    fn policy(name: &str, from: u32, count: u32) -> EdgePolicy {
        let deny = (from..from + count).map(|n| IpNet::V4(std::net::Ipv4Addr::from(n).into())).collect();
        EdgePolicy {
            name: name.to_owned(),
            scope: EdgeScope::Cluster,
            allow: vec![],
            deny,
            exempt: vec![],
            limits: vec![],
            syn_protection: None,
            ban: None,
        }
    }

    fn lengths(policies: &[EdgePolicy], former: &[EdgePolicy]) -> (Vec<(u32, usize)>, Vec<String>) {
        let mut refused = Vec::new();
        let taken = fitting(policies, former, |_| 1, &mut refused);
        let of = |policy: &EdgePolicy| match policy.deny.first() {
            Some(IpNet::V4(net)) => (net.addr().to_bits(), policy.deny.len()),
            _ => (0, 0),
        };
        (taken.iter().map(of).collect(), refused.into_iter().map(|unmet| unmet.policy.unwrap()).collect())
    }

    #[test]
    fn the_lists_of_a_policy_that_grew_too_long_stay_as_they_were() {
        let former = [policy("feed", 1, 10), policy("own", 1, 5)];
        let now = [policy("feed", 100, MOST), policy("own", 200, 6)];
        assert_eq!(lengths(&now, &former), (vec![(1, 10), (200, 6)], vec!["feed".to_owned()]));
        let shorter = [policy("feed", 100, MOST - 6), policy("own", 200, 6)];
        assert_eq!(lengths(&shorter, &former), (vec![(100, MOST as usize - 6), (200, 6)], vec![]));
    }

    #[test]
    fn what_was_there_first_stays_and_what_shrinks_makes_room() {
        let former = [policy("old", 1, 200_000)];
        let now = [policy("new", 500_000, 100_000), policy("old", 1, 200_000)];
        assert_eq!(lengths(&now, &former), (vec![(0, 0), (1, 200_000)], vec!["new".to_owned()]));
        let now = [policy("new", 500_000, 100_000), policy("old", 1, 150_000)];
        assert_eq!(lengths(&now, &former), (vec![(500_000, 100_000), (1, 150_000)], vec![]));
    }

    #[test]
    fn without_a_past_the_longest_is_left_out() {
        let now = [policy("huge", 1, MOST), policy("small", 1, 3), policy("long", 1, 1000)];
        let (taken, refused) = lengths(&now, &[]);
        assert_eq!((taken, refused), (vec![(0, 0), (1, 3), (1, 1000)], vec!["huge".to_owned()]));
    }

    #[test]
    fn what_is_said_names_the_field_and_the_fix() {
        let mut refused = Vec::new();
        fitting(&[policy("huge", 1, MOST + 1)], &[policy("huge", 1, 1)], |_| 1, &mut refused);
        let sentence = &refused[0].sentence;
        for part in
            ["EdgePolicy huge", "spec.deny: 262145 entries", "stay in the kernel", "at accept only", "join"]
        {
            assert!(sentence.contains(part), "{part} in {sentence}");
        }
        let of_key = fitting_of_key();
        assert!(
            of_key.sentence.starts_with("ConfigMap key block-cidrs: ") && of_key.policy.is_none(),
            "{of_key:?}"
        );
    }

    fn fitting_of_key() -> Unmet {
        let mut refused = Vec::new();
        fitting(&[policy("(block-cidrs)", 1, MOST + 1)], &[], |_| 1, &mut refused);
        refused.remove(0)
    }
}
