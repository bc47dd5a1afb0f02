//! Limits, and what has been used of them.

/// Value of `limits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// What is counted, a bit: [`Limit::CONNECTIONS`], [`Limit::PACKETS`] or [`Limit::BYTES`]; 0: the row is free.
    pub kind: u32,
    /// Whose bucket it is: [`Limit::SOURCE`] or [`Limit::ADDRESS`].
    pub per: u32,
    /// Names the buckets: rows of the same limit of the same policy share it, whatever the rate.
    pub bucket: u32,
    /// So many refused packets of a source within `ban_within_ns` ask for a ban; 0: never.
    pub ban_after: u32,
    /// Time that one connection or packet costs.
    pub rate_ns: u64,
    /// Time that a byte costs, in ns / 2^20.
    pub rate_q20: u64,
    /// Time that may be borrowed.
    pub burst_ns: u64,
    /// For how long refused packets count together.
    pub ban_within_ns: u64,
    /// Names the policy in `strikes`, `ban_asks` and `bans`: what its limits refuse counts together.
    pub policy: u32,
    /// Always 0.
    pub pad: u32,
}
const _: () = assert!(size_of::<Limit>() == 4 + 4 + 4 + 4 + 8 + 8 + 8 + 8 + 4 + 4);

impl Limit {
    /// New TCP connections.
    pub const CONNECTIONS: u32 = 1;
    /// Packets of any kind.
    pub const PACKETS: u32 = 1 << 1;
    /// Bytes of packets, the Ethernet header included.
    pub const BYTES: u32 = 1 << 2;

    /// A bucket for each source.
    pub const SOURCE: u32 = 0;
    /// A bucket for each served address.
    pub const ADDRESS: u32 = 1;
}

/// Value of `buckets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time, monotonic clock in ns.
    pub tat: u64,
}
const _: () = assert!(size_of::<Bucket>() == 8);

/// Value of `gate`: what the sources that share a slot have used of a limit together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateSlot {
    /// Theoretical arrival time of all of them, while they are within the limit together. Stands still while they are not:
    /// what each of them may have used by then.
    pub tat: u64,
    /// Until then each of them has a bucket of its own in `buckets`.
    pub apart_until: u64,
}
const _: () = assert!(size_of::<GateSlot>() == 8 + 8);
