//! What the lists say about a packet's source: the longest prefix of the entries for all addresses, and of those of the
//! destination's scope. And what their entries caught.
#![expect(
    unsafe_code,
    reason = "keys are put together from words; a function that the verifier looks at by itself"
)]

use core::mem::transmute;

use aya_ebpf::btf_maps::lpm_trie::Key;
use ingress_common::decide::{Listed, denied_by};
use ingress_common::maps::VipVal;
use ingress_common::prefilter::{may_list4, may_list6};
use ingress_common::source::{Acl4Key, Acl6Key, HitKey, SCOPE_ALL, SCOPE_BITS, prefix};

use crate::maps::{ACL4, ACL4_BITS, ACL6, ACL6_BITS};
use crate::packet::{Flow, Words, is_mapped};
use crate::report;

#[inline(always)]
pub(crate) fn of(source: &Words, vip: &VipVal) -> Listed {
    if vip.flags & (VipVal::LISTS_ALL | VipVal::LISTS_SCOPE) == 0 || !may_list(source) {
        return Listed::default();
    }
    let all = if vip.flags & VipVal::LISTS_ALL != 0 { word_of(source, SCOPE_ALL) } else { 0 };
    let scope = if vip.flags & VipVal::LISTS_SCOPE != 0 { word_of(source, vip.scope) } else { 0 };
    Listed { all, scope }
}

/// Whether the source may have an entry in any scope: for most, the bits say that it has none.
#[inline(always)]
fn may_list(source: &Words) -> bool {
    // A word that cannot be read says nothing.
    if is_mapped(source) {
        may_list4(u32::from_be(source[3]), |word| ACL4_BITS.get(word).copied().unwrap_or(u64::MAX))
    } else {
        may_list6(source, |word| ACL6_BITS.get(word).copied().unwrap_or(u64::MAX))
    }
}

#[inline(always)]
fn word_of(source: &Words, scope: u32) -> u32 {
    let [a, b, c, d] = *source;
    let found = if is_mapped(source) {
        let words = [SCOPE_BITS + 32, scope.to_be(), d];
        // SAFETY: the bytes of a key, see the assertions below.
        ACL4.get(unsafe { &*(&raw const words).cast::<Key<Acl4Key>>() })
    } else {
        let words = [SCOPE_BITS + 128, scope.to_be(), a, b, c, d];
        // SAFETY: the bytes of a key, see the assertions below.
        ACL6.get(unsafe { &*(&raw const words).cast::<Key<Acl6Key>>() })
    };
    found.map_or(0, |value| value.word())
}

/// Counts a packet of a denied source, under the entry that denies it.
#[inline(always)]
pub(crate) fn caught(flow: &mut Flow, listed: Listed, scope: u32, bytes: u64) {
    let (scope, len) = denied_by(listed, scope);
    lists_caught(&raw mut *flow, scope, len, bytes);
}

/// A global function: the verifier checks it once, with any flow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lists_caught(flow: *mut Flow, scope: u32, len: u32, bytes: u64) -> u32 {
    // SAFETY: the verifier checks that callers pass a whole flow, or none.
    let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
    let [a, b, c, d] = prefix(&flow.source, is_mapped(&flow.source), len);
    // SAFETY: the bytes of a key, see the assertions below.
    let entry = unsafe { transmute::<[u32; 6], HitKey>([a, b, c, d, scope, len]) };
    report::caught(&entry, bytes);
    1
}

/// Map keys are put together from words, not from fields; this is what that relies on.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Key<Acl4Key>>() == 12 && offset_of!(Acl4Key, addr) == 4);
    assert!(size_of::<Key<Acl6Key>>() == 24 && offset_of!(Acl6Key, addr) == 4);
    assert!(size_of::<HitKey>() == 24 && offset_of!(HitKey, scope) == 16 && offset_of!(HitKey, len) == 20);
    assert!(cfg!(target_endian = "little"));
};
