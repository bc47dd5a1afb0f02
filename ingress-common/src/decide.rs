//! The packet decision: what a packet is and what was found about it, to a verdict. Pure.
//!
//! Precedence: deny, ban, allow-only, then limits; exempt sources never meet bans and limits. Lists and limits of packets and bytes are
//! applied to everything for a served address, ping and fragments included, so that no detour reaches the stack; limits of
//! connections only to what opens one.

use crate::flow::{Flow, Payload};
use crate::maps::{AclVal, Limit, VipVal};
use crate::source::SCOPE_ALL;
use crate::verdict::{Reason, Verdict};

/// What `vips` says about a packet's destination.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Not ours.
    Foreign,
    /// The address is ours, this port is not served (or there is none to see).
    Address(&'a VipVal),
    /// Address, port and protocol are served.
    Served(&'a VipVal),
}

/// What the lists say about a packet's source: [`AclVal::word`], 0 where no entry matched; and whether it is banned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// From the entries for all addresses.
    pub all: u32,
    /// From the entries of the destination's scope.
    pub scope: u32,
}

/// Decides. `charge` is asked at most once, only for a packet to a limited address that everything else admits; it charges
/// the address's limits of the kinds given (bits, `Limit::CONNECTIONS` and so on) and says whether all of them have room.
#[inline(always)]
pub fn decide(
    flow: &Flow,
    target: Target<'_>,
    listed: Listed,
    charge: impl FnOnce(&VipVal, u32) -> bool,
) -> Verdict {
    let (vip, is_served) = match target {
        Target::Foreign => return Verdict { vip_id: 0, reason: Reason::Foreign },
        Target::Address(vip) => (vip, false),
        Target::Served(vip) => (vip, true),
    };
    let reason = match refused(vip, listed) {
        Some(reason) => reason,
        None if is_served => admitted(flow.payload, vip, listed, charge),
        None if !has_room(vip, listed, false, charge) => Reason::OverLimit,
        None => unserved(flow.payload),
    };
    Verdict { vip_id: vip.vip_id, reason }
}

/// The lists' refusal, if they refuse.
#[inline(always)]
pub fn refused(vip: &VipVal, listed: Listed) -> Option<Reason> {
    if is_denied(listed) {
        return Some(Reason::Denied);
    }
    if (listed.all | listed.scope) & AclVal::BANNED != 0 && !is_exempt(listed) {
        return Some(Reason::Banned);
    }
    let outside_all = vip.flags & VipVal::ALLOW_ONLY_ALL != 0 && listed.all & AclVal::ALLOW == 0;
    let outside_scope = vip.flags & VipVal::ALLOW_ONLY_SCOPE != 0 && listed.scope & AclVal::ALLOW == 0;
    if outside_all || outside_scope {
        return Some(Reason::NotAllowed);
    }
    None
}

/// Whether a list refuses the source, whatever else there is.
#[inline(always)]
pub const fn is_denied(listed: Listed) -> bool {
    (listed.all | listed.scope) & AclVal::DENY != 0
}

/// Of a denied source: the scope and the length of the prefix that denies it. Where one does in both scopes, that for all
/// addresses. `scope` is the destination's.
#[inline(always)]
pub const fn denied_by(listed: Listed, scope: u32) -> (u32, u32) {
    if listed.all & AclVal::DENY != 0 {
        (SCOPE_ALL, AclVal::deny_len_of(listed.all))
    } else {
        (scope, AclVal::deny_len_of(listed.scope))
    }
}

/// A served address without a served port.
#[inline(always)]
fn unserved(payload: Payload) -> Reason {
    match payload {
        Payload::TcpOpen(_) | Payload::Tcp(_) | Payload::Udp(_) => Reason::UnservedPort,
        Payload::Error(..) | Payload::Echo | Payload::Other => Reason::OtherProtocol,
        Payload::Fragment => Reason::Fragment,
        Payload::LongChain => Reason::LongChain,
        Payload::Cut => Reason::Truncated,
    }
}

/// A served port, and the lists do not refuse.
#[inline(always)]
fn admitted(
    payload: Payload,
    vip: &VipVal,
    listed: Listed,
    charge: impl FnOnce(&VipVal, u32) -> bool,
) -> Reason {
    let opens = matches!(payload, Payload::TcpOpen(_));
    // Of a pool's address, other nodes may take the connection.
    if opens && vip.flags & VipVal::PAUSED != 0 && vip.pool == 0 {
        return Reason::Paused;
    }
    if !has_room(vip, listed, opens, charge) {
        return Reason::OverLimit;
    }
    match opens {
        true if is_exempt(listed) => Reason::Exempt,
        true => Reason::Opened,
        false => Reason::Admitted,
    }
}

/// Whether the limits that the packet meets have room.
#[inline(always)]
fn has_room(vip: &VipVal, listed: Listed, opens: bool, charge: impl FnOnce(&VipVal, u32) -> bool) -> bool {
    let mut kinds = 0;
    if vip.flags & VipVal::LIMIT_PACKETS != 0 {
        kinds |= Limit::PACKETS | Limit::BYTES;
    }
    if opens && vip.flags & VipVal::LIMIT != 0 {
        kinds |= Limit::CONNECTIONS;
    }
    kinds == 0 || is_exempt(listed) || charge(vip, kinds)
}

/// Whether limits do not hold for the source.
#[inline(always)]
pub fn is_exempt(listed: Listed) -> bool {
    (listed.all | listed.scope) & AclVal::EXEMPT != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::v4_mapped;
    use crate::verdict::Action;
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};

    const ALLOW: u32 = AclVal::ALLOW;
    const DENY: u32 = AclVal::DENY;
    const EXEMPT: u32 = AclVal::EXEMPT;
    const BANNED: u32 = AclVal::BANNED;

    fn flow(payload: Payload) -> Flow {
        Flow { source: v4_mapped([198, 18, 0, 1]), destination: v4_mapped([198, 18, 100, 1]), payload }
    }

    fn vip(flags: u32) -> VipVal {
        VipVal { vip_id: 7, flags, scope: 3, limits: 1, ..VipVal::default() }
    }

    fn open(flags: u32, all: u32, scope: u32, has_room: bool) -> Reason {
        let vip = vip(flags);
        decide(&flow(Payload::TcpOpen(80)), Target::Served(&vip), Listed { all, scope }, |_, _| has_room)
            .reason
    }

    #[test]
    fn deny_beats_everything_in_either_scope() {
        for (all, scope) in
            [(DENY, 0), (0, DENY), (DENY | ALLOW | EXEMPT, ALLOW | EXEMPT), (ALLOW, DENY | ALLOW)]
        {
            assert_eq!(open(VipVal::ALLOW_ONLY_ALL | VipVal::LIMIT, all, scope, true), Reason::Denied);
        }
    }

    #[test]
    fn the_entry_for_all_addresses_is_named_first() {
        let deny = |deny_len| AclVal { flags: DENY as u16, deny_len }.word();
        assert_eq!(denied_by(Listed { all: deny(24), scope: deny(32) }, 3), (SCOPE_ALL, 24));
        assert_eq!(denied_by(Listed { all: ALLOW, scope: deny(128) }, 3), (3, 128));
        assert_eq!(open(0, deny(24), 0, true), Reason::Denied, "the length changes no verdict");
    }

    #[test]
    fn a_ban_yields_to_exempt_and_to_deny_and_to_nothing_else() {
        let only = VipVal::ALLOW_ONLY_ALL;
        for payload in
            [Payload::TcpOpen(80), Payload::Tcp(80), Payload::Udp(80), Payload::Other, Payload::Fragment]
        {
            let vip = vip(only);
            let listed = Listed { all: BANNED | ALLOW, scope: 0 };
            let verdict = decide(&flow(payload), Target::Served(&vip), listed, |_, _| panic!("charged"));
            assert_eq!(verdict, Verdict { vip_id: 7, reason: Reason::Banned });
        }
        assert_eq!(open(only, BANNED, 0, true), Reason::Banned, "before allow-only");
        assert_eq!(open(0, BANNED | DENY, 0, true), Reason::Denied);
        assert_eq!(open(VipVal::LIMIT, BANNED, EXEMPT, false), Reason::Exempt);
        assert_eq!(open(only, BANNED | EXEMPT, 0, false), Reason::NotAllowed);
    }

    #[test]
    fn allow_lists_of_both_scopes_intersect() {
        let both = VipVal::ALLOW_ONLY_ALL | VipVal::ALLOW_ONLY_SCOPE;
        assert_eq!(open(both, ALLOW, ALLOW, true), Reason::Opened);
        assert_eq!(open(both, ALLOW, 0, true), Reason::NotAllowed);
        assert_eq!(open(both, 0, ALLOW, true), Reason::NotAllowed);
        assert_eq!(open(VipVal::ALLOW_ONLY_SCOPE, 0, ALLOW, true), Reason::Opened);
        assert_eq!(open(VipVal::ALLOW_ONLY_ALL, 0, ALLOW, true), Reason::NotAllowed);
    }

    #[test]
    fn exempt_skips_limits_and_nothing_else() {
        assert_eq!(open(VipVal::LIMIT, EXEMPT, 0, false), Reason::Exempt);
        assert_eq!(open(VipVal::LIMIT, 0, EXEMPT, false), Reason::Exempt);
        assert_eq!(open(VipVal::LIMIT | VipVal::ALLOW_ONLY_ALL, EXEMPT, 0, false), Reason::NotAllowed);
        assert_eq!(open(VipVal::LIMIT | VipVal::PAUSED, EXEMPT, 0, false), Reason::Paused);
    }

    #[test]
    fn limits_meet_new_connections_only() {
        let vip = vip(VipVal::LIMIT);
        for payload in [Payload::Tcp(80), Payload::Udp(80)] {
            let charged = |_: &VipVal, _: u32| -> bool { panic!("charged for {payload:?}") };
            let verdict = decide(&flow(payload), Target::Served(&vip), Listed::default(), charged);
            assert_eq!(verdict, Verdict { vip_id: 7, reason: Reason::Admitted });
        }
        assert_eq!(open(VipVal::LIMIT, 0, 0, false), Reason::OverLimit);
        assert_eq!(open(VipVal::LIMIT, 0, 0, true), Reason::Opened);
        assert_eq!(open(0, 0, 0, false), Reason::Opened, "an address without limits charges nothing");
    }

    #[test]
    fn a_refused_source_costs_no_token() {
        let vip = vip(VipVal::LIMIT);
        let charged = |_: &VipVal, _: u32| -> bool { panic!("charged") };
        let listed = Listed { all: DENY, scope: 0 };
        let verdict = decide(&flow(Payload::TcpOpen(80)), Target::Served(&vip), listed, charged);
        assert_eq!(verdict.action(), Action::Drop);
    }

    #[test]
    fn lists_hold_for_every_packet_of_a_served_address() {
        let vip = vip(0);
        let payloads = [
            (Payload::TcpOpen(22), Reason::UnservedPort),
            (Payload::Tcp(22), Reason::UnservedPort),
            (Payload::Udp(53), Reason::UnservedPort),
            (Payload::Other, Reason::OtherProtocol),
            (Payload::Fragment, Reason::Fragment),
            (Payload::LongChain, Reason::LongChain),
            (Payload::Cut, Reason::Truncated),
        ];
        for (payload, reason) in payloads {
            let passed = decide(&flow(payload), Target::Address(&vip), Listed::default(), |_, _| true);
            assert_eq!(passed, Verdict { vip_id: 7, reason });
            assert_eq!(passed.action(), Action::Pass);
            let denied =
                decide(&flow(payload), Target::Address(&vip), Listed { all: 0, scope: DENY }, |_, _| true);
            assert_eq!(denied.reason, Reason::Denied);
        }
    }

    #[test]
    fn what_is_not_ours_passes_whatever_the_lists_say() {
        for payload in [Payload::TcpOpen(80), Payload::Other, Payload::Fragment, Payload::Cut] {
            let verdict =
                decide(&flow(payload), Target::Foreign, Listed { all: DENY, scope: DENY }, |_, _| false);
            assert_eq!((verdict.vip_id, verdict.action()), (0, Action::Pass));
        }
    }

    fn payload() -> impl Strategy<Value = Payload> {
        prop_oneof![
            any::<u16>().prop_map(Payload::TcpOpen),
            any::<u16>().prop_map(Payload::Tcp),
            any::<u16>().prop_map(Payload::Udp),
            (any::<u16>(), any::<u8>()).prop_map(|(port, proto)| Payload::Error(port, proto)),
            Just(Payload::Echo),
            Just(Payload::Other),
            Just(Payload::Fragment),
            Just(Payload::LongChain),
            Just(Payload::Cut),
        ]
    }

    proptest::proptest! {
        /// The rules as the documentation states them, for every packet and every combination of flags.
        #[test]
        fn the_documented_rules_hold(
            payload in payload(),
            is_served: bool,
            flags in 0_u32..512,
            all in 0_u32..16,
            scope in 0_u32..8,
            has_room: bool,
        ) {
            let vip = vip(flags);
            let target = if is_served { Target::Served(&vip) } else { Target::Address(&vip) };
            let mut asked = 0;
            let mut kinds = 0;
            let verdict = decide(&flow(payload), target, Listed { all, scope }, |_, of| { asked += 1; kinds |= of; has_room });
            let drops = verdict.action() == Action::Drop;
            let opens = is_served && matches!(payload, Payload::TcpOpen(_));
            let denied = (all | scope) & DENY != 0;
            let allowed = (flags & VipVal::ALLOW_ONLY_ALL == 0 || all & ALLOW != 0)
                && (flags & VipVal::ALLOW_ONLY_SCOPE == 0 || scope & ALLOW != 0);
            let exempt = (all | scope) & EXEMPT != 0;

            prop_assert_eq!(verdict.vip_id, 7);
            prop_assert!(asked <= 1);
            let meets = if opens && flags & VipVal::LIMIT != 0 { Limit::CONNECTIONS } else { 0 }
                | if flags & VipVal::LIMIT_PACKETS != 0 { Limit::PACKETS | Limit::BYTES } else { 0 };
            let banned = all & BANNED != 0 && !exempt;
            if denied || banned || !allowed {
                prop_assert!(drops && asked == 0, "lists and bans are absolute, and cost no token");
                prop_assert_eq!(verdict.reason == Reason::Banned, banned && !denied);
            } else if opens && flags & VipVal::PAUSED != 0 {
                prop_assert_eq!(verdict.reason, Reason::Paused);
            } else if exempt || meets == 0 {
                prop_assert!(!drops && asked == 0, "exempt sources meet no limit");
            } else {
                prop_assert!(asked == 1 && kinds == meets && drops != has_room);
            }
        }
    }
}
