//! Every map, in the order of `ingress_common::maps::table`, which says what each is for.
//!
//! They carry BTF, so `bpftool map dump` prints their fields by name. Userspace decides where they are pinned.

use aya_ebpf::btf_maps::lpm_trie::LpmTrie;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, SockMap};
use aya_ebpf::macros::btf_map;
use ingress_common::maps::{
    ACLS, AclVal, BUCKETS, Bucket, Count, LIMITS, Limit, ListenVal, LookupCount, Meta, SLOTS, SlotVal,
    VIP_IDS, VIPS, VipKey, VipVal,
};
use ingress_common::source::{Acl4Key, Acl6Key, SrcKey};
use ingress_common::verdict::REASONS;

#[btf_map(name = "meta")]
pub(crate) static META: Array<Meta, 1> = Array::new();

#[btf_map(name = "vips")]
pub(crate) static VIPS_MAP: HashMap<VipKey, VipVal, { VIPS as usize }> = HashMap::new();

#[btf_map(name = "acl4")]
pub(crate) static ACL4: LpmTrie<Acl4Key, AclVal, { ACLS as usize }> = LpmTrie::new();

#[btf_map(name = "acl6")]
pub(crate) static ACL6: LpmTrie<Acl6Key, AclVal, { ACLS as usize }> = LpmTrie::new();

#[btf_map(name = "limits")]
pub(crate) static LIMITS_MAP: Array<Limit, { LIMITS as usize }> = Array::new();

#[btf_map(name = "buckets")]
pub(crate) static BUCKETS_MAP: LruHashMap<SrcKey, Bucket, { BUCKETS as usize }> = LruHashMap::new();

#[btf_map(name = "stats")]
pub(crate) static STATS: PerCpuArray<Count, { (VIP_IDS * REASONS) as usize }> = PerCpuArray::new();

#[btf_map(name = "listen")]
pub(crate) static LISTEN: HashMap<VipKey, ListenVal, { VIPS as usize }> = HashMap::new();

#[btf_map(name = "slots")]
pub(crate) static SLOTS_MAP: Array<SlotVal, { SLOTS as usize }> = Array::new();

#[btf_map(name = "socks")]
pub(crate) static SOCKS: SockMap<{ SLOTS as usize }> = SockMap::new();

#[btf_map(name = "lk_stats")]
pub(crate) static LK_STATS: PerCpuArray<LookupCount, { SLOTS as usize }> = PerCpuArray::new();
