//! `aya::Pod` for the map types: userspace copies them to and from the kernel as bytes.
//!
//! Each is `#[repr(C)]`, made of integers and arrays of integers, with its padding spelt out as fields; the assertion
//! beside each type in `maps` and `source` proves that no byte is uninitialised.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait; this is the one file that implements it")]

use crate::maps::{AclVal, Bucket, Count, Limit, ListenVal, LookupCount, Meta, SlotVal, VipKey, VipVal};
use crate::source::{Acl4Key, Acl6Key, SrcKey};

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
