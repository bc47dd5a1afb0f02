//! What is done with a packet and why. Every packet that the program sees is counted under exactly one reason.

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand the packet to the stack, byte for byte as it came.
    Pass,
    /// Drop it without an answer.
    Drop,
    /// Send it on, or an answer to it back.
    Send,
}

/// Rows of `stats` per `vip_id`: room for more reasons without a new layout.
pub const REASONS: u32 = 32;

/// Why: the closed set behind `stats`, metrics and `portcullis status`. The number is the row within a VIP's block.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The destination is not a served address.
    Foreign = 0,
    /// Neither IPv4 nor IPv6: ARP, a third VLAN tag, …
    NotIp = 1,
    /// A header ends before its fields do.
    Truncated = 2,
    /// A served address, but a port that is not served.
    UnservedPort = 3,
    /// A served address, but neither TCP nor UDP.
    OtherProtocol = 4,
    /// A fragment without ports, to a served address.
    Fragment = 5,
    /// More IPv6 extension headers than are followed, to a served address.
    LongChain = 6,
    /// Belongs to a connection, or a datagram, that the lists admit.
    Admitted = 7,
    /// Opens a connection that lists and limits admit.
    Opened = 8,
    /// Admitted without looking at limits: the source is exempt.
    Exempt = 9,
    /// The source is on a deny list.
    Denied = 10,
    /// There is an allow list, and the source is not on it.
    NotAllowed = 11,
    /// More packets, bytes or new connections than a limit permits.
    OverLimit = 12,
    /// The address takes no new connections for the moment.
    Paused = 13,
    /// Leaves the node from a served address.
    Sent = 14,
    /// Another node owns the flow and gets the packet.
    Steered = 15,
    /// Too long for the tunnel to its owner; the sender is told how long it may be.
    TooBig = 16,
    /// The owner's next hop is not known.
    Unreachable = 17,
    /// An echo request for a VIP, answered.
    EchoAnswered = 18,
    /// A probe of another node, answered.
    ProbeAnswered = 19,
    /// The answer to a probe of ours.
    ProbeReturned = 20,
    /// A neighbour asks for the hardware address of a VIP that this node announces, and is told.
    Announced = 21,
    /// A neighbour asks for a VIP that another node announces, or this one no more.
    Silenced = 22,
    /// Somebody else says that a VIP is his which this node announces.
    Claimed = 23,
    /// Opens a connection, and the queue for these is full; answered by a SYN cookie.
    CookieSent = 24,
    /// The source broke limits until it was banned, and its time is not over.
    Banned = 25,
}

impl Reason {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        Self::Foreign,
        Self::NotIp,
        Self::Truncated,
        Self::UnservedPort,
        Self::OtherProtocol,
        Self::Fragment,
        Self::LongChain,
        Self::Admitted,
        Self::Opened,
        Self::Exempt,
        Self::Denied,
        Self::NotAllowed,
        Self::OverLimit,
        Self::Paused,
        Self::Sent,
        Self::Steered,
        Self::TooBig,
        Self::Unreachable,
        Self::EchoAnswered,
        Self::ProbeAnswered,
        Self::ProbeReturned,
        Self::Announced,
        Self::Silenced,
        Self::Claimed,
        Self::CookieSent,
        Self::Banned,
    ];

    /// The name in metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::NotIp => "not-ip",
            Self::Truncated => "truncated",
            Self::UnservedPort => "unserved-port",
            Self::OtherProtocol => "other-protocol",
            Self::Fragment => "fragment",
            Self::LongChain => "long-chain",
            Self::Admitted => "admitted",
            Self::Opened => "opened",
            Self::Exempt => "exempt",
            Self::Denied => "denied",
            Self::NotAllowed => "not-allowed",
            Self::OverLimit => "over-limit",
            Self::Paused => "paused",
            Self::Sent => "sent",
            Self::Steered => "steered",
            Self::TooBig => "too-big",
            Self::Unreachable => "unreachable",
            Self::EchoAnswered => "echo-answered",
            Self::ProbeAnswered => "probe-answered",
            Self::ProbeReturned => "probe-returned",
            Self::Announced => "announced",
            Self::Silenced => "silenced",
            Self::Claimed => "claimed",
            Self::CookieSent => "cookie-sent",
            Self::Banned => "banned",
        }
    }

    /// One line for people.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Foreign => "the destination is not a served address",
            Self::NotIp => "neither IPv4 nor IPv6: ARP, a third VLAN tag, ...",
            Self::Truncated => "a header ends before its fields do",
            Self::UnservedPort => "a served address, but a port that is not served",
            Self::OtherProtocol => "a served address, but neither TCP nor UDP: ping, ...",
            Self::Fragment => "a fragment without ports, to a served address",
            Self::LongChain => "more than 4 IPv6 extension headers, to a served address",
            Self::Admitted => "part of a connection, or a datagram, that the lists admit",
            Self::Opened => "opens a connection that lists and limits admit",
            Self::Exempt => "admitted without looking at limits: the source is exempt",
            Self::Denied => "the source is on a deny list",
            Self::NotAllowed => "there is an allow list, and the source is not on it",
            Self::OverLimit => "more packets, bytes or new connections than a limit permits",
            Self::Paused => "the address takes no new connections for the moment",
            Self::Sent => "leaves the node from a served address",
            Self::Steered => "another node owns the flow and gets the packet",
            Self::TooBig => "too long for the tunnel to its owner; the sender is told how long it may be",
            Self::Unreachable => "the owner's next hop is not known",
            Self::EchoAnswered => "an echo request for a VIP, answered",
            Self::ProbeAnswered => "a probe of another node, answered",
            Self::ProbeReturned => "the answer to a probe of ours",
            Self::Announced => "a neighbour asks who has the VIP, and this node says that it has",
            Self::Silenced => "a neighbour asks who has the VIP; another node answers, or none",
            Self::Claimed => "another host says that it has the VIP, which this node announces",
            Self::CookieSent => {
                "opens a connection, and the queue for these is full; answered by a SYN cookie"
            }
            Self::Banned => "the source broke limits until it was banned, and its time is not over",
        }
    }

    /// What is done with such a packet.
    #[inline(always)]
    pub const fn action(self) -> Action {
        match self {
            Self::Denied
            | Self::NotAllowed
            | Self::OverLimit
            | Self::Paused
            | Self::Unreachable
            | Self::ProbeReturned
            | Self::Silenced
            | Self::Banned => Action::Drop,
            Self::Steered
            | Self::TooBig
            | Self::EchoAnswered
            | Self::ProbeAnswered
            | Self::Announced
            | Self::CookieSent => Action::Send,
            _ => Action::Pass,
        }
    }

    /// The row of `stats` for this reason of a VIP; `vip_id` 0 counts what belongs to none.
    #[inline(always)]
    pub const fn row(self, vip_id: u32) -> u32 {
        vip_id.wrapping_mul(REASONS).wrapping_add(self as u32)
    }

    /// The VIP and reason of a row of `stats`; no reason for a row that nothing counts in.
    pub fn of_row(row: u32) -> (u32, Option<Self>) {
        (row / REASONS, Self::ALL.get((row % REASONS) as usize).copied())
    }
}

/// The decision about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose counter goes up; 0: no VIP's.
    pub vip_id: u32,
    /// Which counter goes up; says what is done, too.
    pub reason: Reason,
}

impl Verdict {
    /// What is done with the packet.
    #[inline(always)]
    pub const fn action(self) -> Action {
        self.reason.action()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_stats_names_its_vip_and_reason() {
        for vip_id in [0, 1, 1023] {
            for reason in Reason::ALL {
                assert_eq!(Reason::of_row(reason.row(vip_id)), (vip_id, Some(reason)));
            }
        }
        assert_eq!(Reason::of_row(31), (0, None));
    }

    #[test]
    fn names_are_unique_and_the_numbers_are_the_positions() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }
}
