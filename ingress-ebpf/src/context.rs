//! What a packet is to a program: the same at XDP and at TC, so that both run the same steps.
#![expect(
    unsafe_code,
    reason = "fields of the context are read by inline assembly, helpers are foreign functions"
)]

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_pull_data;
use aya_ebpf::programs::{TcContext, XdpContext};

/// So many bytes hold every header that is followed.
const HEADERS: u32 = 256;

/// A packet as a hook hands it over.
pub(crate) trait Context: EbpfContext {
    /// Where its linear part begins.
    fn start(&self) -> usize;
    /// Where its linear part ends.
    fn end(&self) -> usize;
    /// Its bytes, the Ethernet header included.
    fn length(&self) -> u64;
    /// Makes its headers linear. What was read of `start` and `end` before is void.
    fn pull(&self);
}

impl Context for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        (self.data_end() - self.data()) as u64
    }

    /// A driver's first buffer holds them.
    #[inline(always)]
    fn pull(&self) {}
}

/// Reads a field as one load at a constant offset: the compiler likes to compute the address of a field in one branch
/// and load through it in another, which the verifier refuses.
macro_rules! field {
    ($context:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: a load within the context, which the verifier checks.
        unsafe {
            core::arch::asm!("{value} = *(u32 *)({context} + {offset})", value = lateout(reg) value, context = in(reg) $context,
                offset = const $offset, options(nostack, readonly, preserves_flags));
        }
        value
    }};
}
pub(crate) use field;

impl Context for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        field!(self.skb.skb, offset_of!(__sk_buff, data)) as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        field!(self.skb.skb, offset_of!(__sk_buff, data_end)) as usize
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        field!(self.skb.skb, offset_of!(__sk_buff, len))
    }

    #[inline(always)]
    fn pull(&self) {
        let wanted = (self.length() as u32).min(HEADERS);
        if self.start() + wanted as usize > self.end() {
            // Without memory for it the headers stay where they are, and the packet counts as cut.
            // SAFETY: the context is that of this program.
            let _ = unsafe { bpf_skb_pull_data(self.skb.skb, wanted) };
        }
    }
}
