//! `aya::Pod` for the map types: userspace copies them to and from the kernel as bytes.
//!
//! Each is `#[repr(C)]`, made of integers and arrays of integers, with its padding spelt out as fields; the assertion
//! beside each type in `maps` and `source` proves that no byte is uninitialised.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait; this is the one file that implements it")]

use crate::event::EventRate;
use crate::maps::{
    AclVal, Ban, BanAsk, Bucket, Cluster, Count, GroupKey, GroupVal, IfaceVal, Limit, ListenVal, LookupCount,
    Meta, NodeSeen, NodeVal, SlotVal, Strikes, VipKey, VipVal, WorkerLoad,
};
use crate::source::{Acl4Key, Acl6Key, HitKey, SrcKey};

// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Meta {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for VipKey {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for VipVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for AclVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Limit {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Bucket {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Count {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for IfaceVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for ListenVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for SlotVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for LookupCount {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for SrcKey {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Acl4Key {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Acl6Key {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for HitKey {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Cluster {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for NodeVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for NodeSeen {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for GroupKey {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for GroupVal {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for WorkerLoad {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for EventRate {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Ban {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for BanAsk {}
// SAFETY: repr(C) of integers without padding, asserted beside the type.
unsafe impl aya::Pod for Strikes {}
