//! Every map, in the order of `ingress_common::maps::table`, which says what each is for.
//!
//! They carry BTF, so `bpftool map dump` prints their fields by name. Userspace decides where they are pinned.

use aya_ebpf::btf_maps::lpm_trie::LpmTrie;
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, Queue, RingBuf, SockMap,
};
use aya_ebpf::macros::btf_map;
use ingress_common::event::EventRate;
use ingress_common::flow::Addr;
use ingress_common::maps::{
    ACL_HITS, ACLS, AclVal, BAN_ASKS, BANS, BUCKETS, Ban, BanAsk, Bucket, Cluster, Count, EGRESS, EVENTS,
    GATE_SLOTS, GLOBALS, GROUPS, GateSlot, GroupKey, GroupVal, IFACES, IfaceVal, LIMITS, LISTEN_SEEN, Limit,
    ListenVal, LookupCount, Meta, NODES, NodeSeen, NodeVal, PEERS, POOLS, SLOTS, STRIKES, SlotVal, Strikes,
    VIP_IDS, VIPS, VipKey, VipVal, WorkerLoad,
};
use ingress_common::prefilter::{WORDS4, WORDS6};
use ingress_common::source::{Acl4Key, Acl6Key, HitKey, SrcKey};
use ingress_common::steer::TABLE_SLOTS;
use ingress_common::verdict::REASONS;

#[btf_map(name = "meta")]
pub(crate) static META: Array<Meta, 1> = Array::new();

#[btf_map(name = "vips")]
pub(crate) static VIPS_MAP: HashMap<VipKey, VipVal, { VIPS as usize }> = HashMap::new();

#[btf_map(name = "acl4")]
pub(crate) static ACL4: LpmTrie<Acl4Key, AclVal, { ACLS as usize }> = LpmTrie::new();

#[btf_map(name = "acl6")]
pub(crate) static ACL6: LpmTrie<Acl6Key, AclVal, { ACLS as usize }> = LpmTrie::new();

#[btf_map(name = "acl4_bits")]
pub(crate) static ACL4_BITS: Array<u64, { WORDS4 as usize }> = Array::new();

#[btf_map(name = "acl6_bits")]
pub(crate) static ACL6_BITS: Array<u64, { WORDS6 as usize }> = Array::new();

#[btf_map(name = "acl_hits")]
pub(crate) static ACL_HITS_MAP: LruPerCpuHashMap<HitKey, Count, { ACL_HITS as usize }> =
    LruPerCpuHashMap::new();

#[btf_map(name = "limits")]
pub(crate) static LIMITS_MAP: Array<Limit, { LIMITS as usize }> = Array::new();

#[btf_map(name = "gate")]
pub(crate) static GATE: Array<GateSlot, { GATE_SLOTS as usize }> = Array::new();

#[btf_map(name = "globals")]
pub(crate) static GLOBALS_MAP: Array<u64, { GLOBALS as usize }> = Array::new();

#[btf_map(name = "buckets")]
pub(crate) static BUCKETS_MAP: LruHashMap<SrcKey, Bucket, { BUCKETS as usize }> = LruHashMap::new();

#[btf_map(name = "bans")]
pub(crate) static BANS_MAP: LruHashMap<SrcKey, Ban, { BANS as usize }> = LruHashMap::new();

#[btf_map(name = "strikes")]
pub(crate) static STRIKES_MAP: LruHashMap<SrcKey, Strikes, { STRIKES as usize }> = LruHashMap::new();

#[btf_map(name = "ban_asks")]
pub(crate) static BAN_ASKS_MAP: Queue<BanAsk, { BAN_ASKS as usize }> = Queue::new();

#[btf_map(name = "stats")]
pub(crate) static STATS: PerCpuArray<Count, { (VIP_IDS * REASONS) as usize }> = PerCpuArray::new();

#[btf_map(name = "cluster")]
pub(crate) static CLUSTER: Array<Cluster, 1> = Array::new();

/// Which nodes may own the flows of a slot.
pub(crate) type Table = Array<u64, { TABLE_SLOTS as usize }>;

#[btf_map(name = "pools")]
pub(crate) static POOLS_MAP: ArrayOfMaps<Table, { POOLS as usize }> = ArrayOfMaps::new();

#[btf_map(name = "nodes")]
pub(crate) static NODES_MAP: Array<NodeVal, { NODES as usize }> = Array::new();

#[btf_map(name = "node_seen")]
pub(crate) static NODE_SEEN: Array<NodeSeen, { NODES as usize }> = Array::new();

#[btf_map(name = "peers")]
pub(crate) static PEERS_MAP: HashMap<Addr, u32, { PEERS as usize }> = HashMap::new();

#[btf_map(name = "node_stats")]
pub(crate) static NODE_STATS: PerCpuArray<Count, { NODES as usize }> = PerCpuArray::new();

#[btf_map(name = "ifaces")]
pub(crate) static IFACES_MAP: HashMap<u32, IfaceVal, { IFACES as usize }> = HashMap::new();

#[btf_map(name = "egress")]
pub(crate) static EGRESS_MAP: LruPerCpuHashMap<SrcKey, Count, { EGRESS as usize }> = LruPerCpuHashMap::new();

#[btf_map(name = "listen")]
pub(crate) static LISTEN: HashMap<VipKey, ListenVal, { VIPS as usize }> = HashMap::new();

#[btf_map(name = "listen_seen")]
pub(crate) static LISTEN_SEEN_MAP: Array<u64, { LISTEN_SEEN as usize }> = Array::new();

#[btf_map(name = "slots")]
pub(crate) static SLOTS_MAP: Array<SlotVal, { SLOTS as usize }> = Array::new();

/// The sockets of another layout during an upgrade; else empty.
#[btf_map(name = "old_socks")]
pub(crate) static OLD_SOCKS: SockMap<{ SLOTS as usize }> = SockMap::new();

#[btf_map(name = "socks")]
pub(crate) static SOCKS: SockMap<{ SLOTS as usize }> = SockMap::new();

#[btf_map(name = "assigned")]
pub(crate) static ASSIGNED: Array<WorkerLoad, { SLOTS as usize }> = Array::new();

#[btf_map(name = "groups")]
pub(crate) static GROUPS_MAP: HashMap<GroupKey, GroupVal, { GROUPS as usize }> = HashMap::new();

#[btf_map(name = "lk_stats")]
pub(crate) static LK_STATS: PerCpuArray<LookupCount, { SLOTS as usize }> = PerCpuArray::new();

/// Without a type: tools that know the kernel's own loader refuse a value that has a size.
#[btf_map(name = "events")]
pub(crate) static EVENTS_MAP: RingBuf<(), { EVENTS as usize }> = RingBuf::new();

#[btf_map(name = "event_rate")]
pub(crate) static EVENT_RATE: PerCpuArray<EventRate, 1> = PerCpuArray::new();
