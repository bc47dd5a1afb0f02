//! Whether an address, or a port of it, is served.
#![expect(unsafe_code, reason = "references into a hash map, keys put together from words")]

use ingress_common::maps::{VipKey, VipVal};

use crate::maps::VIPS_MAP;
use crate::packet::Words;

/// Whether an address is served at all: for most packets of a node the only lookup.
#[inline(always)]
pub(crate) fn address_entry(destination: &Words) -> Option<&'static VipVal> {
    entry(destination, 0, 0)
}

/// The entry of a port of it.
#[inline(always)]
pub(crate) fn entry(address: &Words, port: u16, proto: u8) -> Option<&'static VipVal> {
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { VIPS_MAP.get(as_vip_key(&vip_key(address, port, proto))) }
}

/// A [`VipKey`] in words: stored field by field it would be copied byte by byte, and hashing it would wait for every one.
pub(crate) type VipWords = [u32; 5];

#[inline(always)]
pub(crate) fn vip_key(address: &Words, port: u16, proto: u8) -> VipWords {
    let [a, b, c, d] = *address;
    [a, b, c, d, u32::from(port) | u32::from(proto) << 16]
}

#[inline(always)]
pub(crate) fn as_vip_key(words: &VipWords) -> &VipKey {
    // SAFETY: the bytes of a `VipKey`, see the assertion below; the alignment is higher than needed.
    unsafe { &*(&raw const *words).cast::<VipKey>() }
}

/// The key is put together from words, not from fields; this is what that relies on.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<VipKey>() == 20 && offset_of!(VipKey, port) == 16 && offset_of!(VipKey, proto) == 18);
    assert!(cfg!(target_endian = "little"));
};
