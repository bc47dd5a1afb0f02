//! What a packet is to a program: the same at XDP and at TC, so that both run the same steps.
#![expect(
    unsafe_code,
    reason = "fields of the context are read by inline assembly, helpers are foreign functions"
)]

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, xdp_md,
};
use aya_ebpf::helpers::bpf_skb_pull_data;
use aya_ebpf::helpers::generated::{
    bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use ingress_common::maps::IfaceVal;
use ingress_common::verdict::Reason;

use crate::maps::IFACES_MAP;
use crate::packet::Flow;

/// So many bytes hold every header that is followed.
const HEADERS: u32 = 256;

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

/// A packet as a hook hands it over.
pub(crate) trait Context: EbpfContext {
    /// Where its linear part begins.
    fn start(&self) -> usize;
    /// Where its linear part ends.
    fn end(&self) -> usize;
    /// Its bytes, the Ethernet header included.
    fn length(&self) -> u64;
    /// The same, for less: the linear part is taken for all of it where the IP packet ends within (at `end`, by its own
    /// account). What then is missing is padding that the stack cuts off.
    fn length_until(&self, end: u32) -> u64;
    /// Makes its headers linear. What was read of `start` and `end` before is void.
    fn pull(&self);
    /// The interface that it came in by.
    fn interface(&self) -> u32;
    /// Whether what is sent back by that interface arrives.
    fn can_answer(&self) -> bool;
    /// Makes room for `bytes` more in front of the IP header, and `link` more before these. What the bytes before the IP
    /// header then hold is up to the hook: write all of them.
    fn grow(&self, bytes: u16, link: i32, outer: OuterHeaders) -> bool;
    /// Takes the first `bytes` after the Ethernet header away, likewise. What then begins is of IPv6, or of IPv4; `changes`
    /// says whether that is another family than before, of which the stack has to know.
    fn shrink(&self, bytes: u16, is_ipv6: bool, changes: bool) -> bool;
    /// Cuts or lengthens it to this many bytes.
    fn resize(&self, bytes: u16) -> bool;
    /// Copies `bytes` of it, from an offset on, wherever they are.
    ///
    /// # Safety
    ///
    /// There is room for so many at `to`.
    unsafe fn copy(&self, offset: u32, to: *mut u8, bytes: u32) -> bool;

    /// [`crate::tunnel::open`], checked on its own.
    fn open(&self, flow: &mut Flow) -> u32;
    /// [`crate::steer::choose`], likewise.
    fn choose(&self, flow: &mut Flow);
    /// [`crate::tunnel::send`], likewise.
    fn send(&self, flow: &mut Flow) -> u64;
    /// [`crate::cookie::shield`], likewise.
    fn shield(&self, flow: &mut Flow) -> u32;
    /// [`crate::cookie::reply`], likewise.
    fn reply(&self, flow: &mut Flow) -> bool;
    /// [`crate::answer::too_big`], likewise.
    fn too_big(&self, flow: &mut Flow, mtu: u16) -> bool;
    /// [`crate::answer::echo`], likewise.
    fn echo(&self, flow: &mut Flow) -> bool;
    /// [`crate::announce::heard`], likewise; the number of a reason.
    fn hear(&self, flow: &mut Flow) -> u32;
}

/// The long stages of a packet's way for one kind of context, as global functions: the verifier checks each of them once,
/// with any flow, instead of once for every way in which a packet comes to it. The short ones are inlined: a call and its
/// return take as long as a lookup in an array.
macro_rules! stages {
    ($context:ident, $raw:ident, $open:ident, $choose:ident, $send:ident, $shield:ident, $reply:ident, $too_big:ident, $echo:ident, $hear:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $open(ctx: *mut $raw, flow: *mut Flow) -> u32 {
            // SAFETY: the verifier checks that callers pass a whole flow, or none.
            unsafe { flow.as_mut() }
                .map_or(crate::tunnel::FOREIGN, |flow| crate::tunnel::open(&$context::new(ctx), flow))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $choose(ctx: *mut $raw, flow: *mut Flow) -> u32 {
            // SAFETY: as above.
            if let Some(flow) = unsafe { flow.as_mut() } {
                crate::steer::choose(&$context::new(ctx), flow);
            }
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $send(ctx: *mut $raw, flow: *mut Flow) -> u64 {
            // SAFETY: as above.
            unsafe { flow.as_mut() }
                .map_or(crate::tunnel::UNREACHABLE, |flow| crate::tunnel::send(&$context::new(ctx), flow))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $shield(ctx: *mut $raw, flow: *mut Flow) -> u32 {
            // SAFETY: as above.
            unsafe { flow.as_mut() }
                .map_or(crate::cookie::NOTHING, |flow| crate::cookie::shield(&$context::new(ctx), flow))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $reply(ctx: *mut $raw, flow: *mut Flow) -> bool {
            // SAFETY: as above.
            unsafe { flow.as_mut() }.is_some_and(|flow| crate::cookie::reply(&$context::new(ctx), flow))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $too_big(ctx: *mut $raw, flow: *mut Flow, mtu: u16) -> bool {
            // SAFETY: as above.
            unsafe { flow.as_mut() }
                .is_some_and(|flow| crate::answer::too_big(&$context::new(ctx), flow, mtu))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $echo(ctx: *mut $raw, flow: *mut Flow) -> bool {
            // SAFETY: as above.
            unsafe { flow.as_mut() }.is_some_and(|flow| crate::answer::echo(&$context::new(ctx), flow))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $hear(ctx: *mut $raw, flow: *mut Flow) -> u32 {
            // SAFETY: as above.
            unsafe { flow.as_mut() }.map_or(Reason::Foreign as u32, |flow| {
                crate::announce::heard(&$context::new(ctx), flow) as u32
            })
        }
    };
    (methods $open:ident, $choose:ident, $send:ident, $shield:ident, $reply:ident, $too_big:ident, $echo:ident, $hear:ident) => {
        #[inline(always)]
        fn open(&self, flow: &mut Flow) -> u32 {
            $open(self.as_ptr().cast(), flow)
        }

        #[inline(always)]
        fn choose(&self, flow: &mut Flow) {
            $choose(self.as_ptr().cast(), flow);
        }

        #[inline(always)]
        fn send(&self, flow: &mut Flow) -> u64 {
            $send(self.as_ptr().cast(), flow)
        }

        #[inline(always)]
        fn shield(&self, flow: &mut Flow) -> u32 {
            $shield(self.as_ptr().cast(), flow)
        }

        #[inline(always)]
        fn reply(&self, flow: &mut Flow) -> bool {
            $reply(self.as_ptr().cast(), flow)
        }

        #[inline(always)]
        fn too_big(&self, flow: &mut Flow, mtu: u16) -> bool {
            $too_big(self.as_ptr().cast(), flow, mtu)
        }

        #[inline(always)]
        fn echo(&self, flow: &mut Flow) -> bool {
            $echo(self.as_ptr().cast(), flow)
        }

        #[inline(always)]
        fn hear(&self, flow: &mut Flow) -> u32 {
            $hear(self.as_ptr().cast(), flow)
        }
    };
}

stages!(
    XdpContext,
    xdp_md,
    xdp_open,
    xdp_choose,
    xdp_send,
    xdp_shield,
    xdp_reply,
    xdp_too_big,
    xdp_echo,
    xdp_hear
);
stages!(TcContext, __sk_buff, tc_open, tc_choose, tc_send, tc_shield, tc_reply, tc_too_big, tc_echo, tc_hear);

/// What will stand in front of a packet: TC has to know.
#[derive(Clone, Copy)]
pub(crate) struct OuterHeaders {
    pub(crate) is_ipv6: bool,
    pub(crate) is_udp: bool,
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
        // SAFETY: the context is that of this program. Counts the buffers after the first, too.
        unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    #[inline(always)]
    fn length_until(&self, end: u32) -> u64 {
        let linear = (self.end() - self.start()) as u64;
        if u64::from(end) > linear { self.length() } else { linear }
    }

    /// A driver's first buffer holds them.
    #[inline(always)]
    fn pull(&self) {}

    #[inline(always)]
    fn interface(&self) -> u32 {
        field!(self.ctx, offset_of!(xdp_md, ingress_ifindex)) as u32
    }

    #[inline(always)]
    fn can_answer(&self) -> bool {
        // SAFETY: the agent never writes through this reference.
        let known = unsafe { IFACES_MAP.get(self.interface()) };
        known.is_none_or(|interface| interface.flags & IfaceVal::MUTE == 0)
    }

    #[inline(always)]
    fn grow(&self, bytes: u16, link: i32, _: OuterHeaders) -> bool {
        // SAFETY: the context is that of this program; it refuses what has no room.
        unsafe { bpf_xdp_adjust_head(self.ctx, -(i32::from(bytes) + link)) == 0 }
    }

    #[inline(always)]
    fn shrink(&self, bytes: u16, _: bool, _: bool) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(self.ctx, i32::from(bytes)) == 0 }
    }

    #[inline(always)]
    fn resize(&self, bytes: u16) -> bool {
        let delta = i64::from(bytes) - self.length() as i64;
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_tail(self.ctx, delta as i32) == 0 }
    }

    #[inline(always)]
    unsafe fn copy(&self, offset: u32, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: as above; the caller answers for the room.
        unsafe { bpf_xdp_load_bytes(self.ctx, offset, to.cast(), bytes) == 0 }
    }

    stages!(methods xdp_open, xdp_choose, xdp_send, xdp_shield, xdp_reply, xdp_too_big, xdp_echo, xdp_hear);
}

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
    fn length_until(&self, _: u32) -> u64 {
        self.length()
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

    #[inline(always)]
    fn interface(&self) -> u32 {
        field!(self.skb.skb, offset_of!(__sk_buff, ifindex)) as u32
    }

    #[inline(always)]
    fn can_answer(&self) -> bool {
        true
    }

    /// A tag stands beside the packet here, and none can be added.
    #[inline(always)]
    fn grow(&self, bytes: u16, link: i32, outer: OuterHeaders) -> bool {
        if link != 0 {
            return false;
        }
        let family = if outer.is_ipv6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        let udp = if outer.is_udp { BPF_F_ADJ_ROOM_ENCAP_L4_UDP } else { 0 };
        // SAFETY: the context is that of this program.
        unsafe {
            bpf_skb_adjust_room(self.skb.skb, i32::from(bytes), BPF_ADJ_ROOM_MAC, u64::from(family | udp))
                == 0
        }
    }

    /// Another family since Linux 6.3 only.
    #[inline(always)]
    fn shrink(&self, bytes: u16, is_ipv6: bool, changes: bool) -> bool {
        let flags = match (changes, is_ipv6) {
            (false, _) => 0,
            (true, false) => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
            (true, true) => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        };
        // SAFETY: as above.
        unsafe {
            bpf_skb_adjust_room(self.skb.skb, -i32::from(bytes), BPF_ADJ_ROOM_MAC, u64::from(flags)) == 0
        }
    }

    #[inline(always)]
    fn resize(&self, bytes: u16) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_change_tail(self.skb.skb, u32::from(bytes), 0) == 0 }
    }

    #[inline(always)]
    unsafe fn copy(&self, offset: u32, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: as above; the caller answers for the room.
        unsafe { bpf_skb_load_bytes(self.skb.skb.cast(), offset, to.cast(), bytes) == 0 }
    }

    stages!(methods tc_open, tc_choose, tc_send, tc_shield, tc_reply, tc_too_big, tc_echo, tc_hear);
}
