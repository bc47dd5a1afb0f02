//! SYN cookies: while the queue of the socket that a SYN is for is full, the SYN itself is turned into the answer, and the
//! kernel keeps no state until the client proves by its next segment that it got it (RFC 4987, section 3.6).
//!
//! The kernel makes the cookie, of the listening socket and its own secret, and checks it: the queue, the kernel's setting
//! `tcp_syncookies` and its statistics mean the same as without us. What cannot be answered here passes, and the kernel
//! sends the cookie itself.
#![expect(unsafe_code, reason = "references into maps, foreign functions")]

use core::ffi::c_void;

use aya_ebpf::bindings::tcphdr;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_map_lookup_elem, bpf_sk_release, bpf_tcp_gen_syncookie,
};
use ingress_common::flow::{Payload, TCP};
use ingress_common::maps::{ARMED_NS, SLOT_TRIES, VipVal};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;

use crate::context::Context;
use crate::maps::{CLUSTER, NODE_SEEN, SOCKS};
use crate::packet::{Flow, Packet};
use crate::steer::{self, Known};
use crate::tunnel;
use crate::vips::entry;
use crate::write::{Ip, Link, fold, halves, put32};

/// The stack gets the packet.
pub(crate) const NOTHING: u32 = 0;
/// A cookie is due, and made: see [`reply`].
pub(crate) const DUE: u32 = 1;
/// The connection is to be charged: there is room for its SYN in the queue, or the segment proves its source.
pub(crate) const CHARGED: u32 = 2;

/// Longest TCP header, in words.
const LONGEST: usize = 15;
/// The answer's TCP header: the one option is the segment size.
const ANSWER: usize = TcpHdr::LEN + 4;
/// Without window scaling (there is no option for it) the largest window that the kernel itself begins with.
const WINDOW: u16 = 64_240;
/// While no cookie has been due lately, the kernel is asked for one SYN in so many whether one is: to ask takes about as
/// long as all else that is done for a SYN. A power of two.
const SAMPLE: u64 = 8;
/// Which flows these are changes every so many ns, as a power of two.
const TICK: u32 = 20;
/// How often the note that cookies are sent is renewed, in ns.
const NOTE_NS: u64 = 250_000_000;

/// What [`shield`] has to do for a packet.
pub(crate) enum Concern {
    /// Nothing, nor has anybody: it owes nothing.
    None,
    /// A SYN that the kernel is not asked about, which is charged.
    Charged,
    /// To ask the kernel.
    Asked,
}

/// Whether [`shield`] has anything to do.
#[inline(always)]
pub(crate) fn concern(flow: &mut Flow) -> Concern {
    if flow.vip_flags & VipVal::SYNCOOKIE == 0 {
        return Concern::None;
    }
    match flow.payload() {
        Payload::TcpOpen(_) if flow.flags & Flow::PART == 0 => {
            if is_asked(flow) {
                Concern::Asked
            } else {
                Concern::Charged
            }
        }
        Payload::Tcp(_) if flow.flags & Flow::OWES != 0 && is_armed(me(), flow.now()) => Concern::Asked,
        _ => Concern::None,
    }
}

/// This node's row in `node_seen`.
#[inline(always)]
pub(crate) fn me() -> u32 {
    CLUSTER.get(0).map_or(0, |cluster| cluster.me)
}

/// Whether a node has sent cookies lately.
#[inline(always)]
pub(crate) fn is_armed(node: u32, now: u64) -> bool {
    NODE_SEEN.get(node).is_some_and(|seen| seen.armed_ns != 0 && now.wrapping_sub(seen.armed_ns) < ARMED_NS)
}

/// Notes that this node sends cookies.
#[inline(always)]
fn note(now: u64) {
    let Some(seen) = NODE_SEEN.get_ptr_mut(me()) else { return };
    // SAFETY: a checked map value; one word is read, and written rarely, so that CPUs do not take it from each other.
    unsafe {
        if now.wrapping_sub((*seen).armed_ns) > NOTE_NS {
            (*seen).armed_ns = now;
        }
    }
}

/// Makes the cookie for a SYN if one is due; tells the proof of a cookie from other segments.
#[inline(always)]
pub(crate) fn shield<C: Context>(ctx: &C, flow: &mut Flow) -> u32 {
    match flow.payload() {
        Payload::TcpOpen(port) => opens(ctx, flow, port),
        _ if matches!(steer::known(ctx, flow), Known::Cookie) => CHARGED,
        _ => NOTHING,
    }
}

#[inline(always)]
fn opens<C: Context>(ctx: &C, flow: &mut Flow, port: u16) -> u32 {
    let mut tcp = [0_u32; LONGEST];
    if !header(ctx, flow, &mut tcp) {
        return CHARGED;
    }
    let cookie = cookie(flow, port, &mut tcp);
    if cookie < 0 {
        return CHARGED;
    }
    note(flow.now());
    // Of a connection that it knows, the kernel answers the SYN as the connection demands.
    if matches!(steer::known(ctx, flow), Known::Connection) {
        return NOTHING;
    }
    // Nothing asks for the flow's hash any more.
    flow.hash = u64::from(cookie as u32) | u64::from(u32::from_be(tcp[1])) << 32;
    DUE
}

/// Whether the kernel is asked about this SYN: about every one once a cookie was due, else about a few. Which ones nobody
/// outside can tell: the flow's keyed hash and the time say so or, of a flow that no other node could own and that has no
/// hash, chance. The first ones of a flood get their cookies of the stack.
#[inline(always)]
fn is_asked(flow: &mut Flow) -> bool {
    let now = flow.now();
    flow.vip_flags & VipVal::SYNCOOKIE_ALWAYS != 0 || is_armed(me(), now) || is_sampled(flow.hash, now)
}

#[inline(always)]
fn is_sampled(hash: u64, now: u64) -> bool {
    let chance = if hash != 0 {
        hash ^ (now >> TICK)
    } else {
        // SAFETY: a helper without arguments.
        u64::from(unsafe { bpf_get_prandom_u32() })
    };
    chance % SAMPLE == 0
}

/// Turns a SYN into the answer with the cookie that [`shield`] made; whether the way back is known.
#[inline(always)]
pub(crate) fn reply<C: Context>(ctx: &C, flow: &Flow) -> bool {
    let Payload::TcpOpen(port) = flow.payload() else { return false };
    answer(ctx, flow, port, flow.hash as u32, (flow.hash >> 32) as u32).is_some()
}

/// Copies the whole TCP header, which may end anywhere in the packet; whether all of it is there.
#[inline(always)]
fn header<C: Context>(ctx: &C, flow: &Flow, tcp: &mut [u32; LONGEST]) -> bool {
    /// Where the length of the header is, and its bits.
    const DATA_OFFSET: u32 = 12;
    let Some(first) = Packet::of(ctx).far::<u8>(flow.offset + DATA_OFFSET) else { return false };
    // SAFETY: checked by `far`.
    let mut bytes = u64::from(unsafe { *first }) >> 2;
    // SAFETY: a real instruction that bounds the length for the verifier; the compiler would drop one of its own.
    unsafe { core::arch::asm!("{0} &= 60", inout(reg) bytes, options(nomem, nostack, preserves_flags)) };
    let bytes = bytes as u32;
    if bytes < TcpHdr::LEN as u32 || flow.offset + bytes > flow.end {
        return false;
    }
    // SAFETY: there is room for 60 bytes.
    unsafe { ctx.copy(flow.offset, tcp.as_mut_ptr().cast(), bytes) }
}

/// The kernel's cookie for a SYN; negative: none is due.
#[inline(always)]
fn cookie(flow: &Flow, port: u16, tcp: &mut [u32; LONGEST]) -> i64 {
    // What the kernel reads of an IP header.
    let mut ip = [0_u32; Ipv6Hdr::LEN / 4];
    let [a, b, c, d] = flow.source;
    let [e, f, g, h] = flow.destination;
    if flow.is_ipv6() {
        ip[0] = 0x60;
        (ip[2], ip[3], ip[4], ip[5]) = (a, b, c, d);
        (ip[6], ip[7], ip[8], ip[9]) = (e, f, g, h);
    } else {
        ip[0] = 0x45;
        (ip[3], ip[4]) = (d, h);
    }
    let Some(listen) = crate::sk_lookup::listen(&flow.destination, port, TCP) else { return -1 };
    let (first, slots) = (listen.first_slot, listen.slots);
    if slots == 0 {
        return -1;
    }
    let bytes = (u64::from(tcp[3].to_ne_bytes()[0]) >> 2) as u32;
    // SAFETY: a helper without arguments.
    let start = unsafe { bpf_get_prandom_u32() };
    let mut tries = 0_u64;
    while tries < SLOT_TRIES && tries < u64::from(slots) {
        let slot = first + start.wrapping_add(tries as u32) % slots;
        // SAFETY: a map and a key of its type; what is found is released below.
        let socket =
            unsafe { bpf_map_lookup_elem((&raw const SOCKS).cast_mut().cast(), (&raw const slot).cast()) };
        if !socket.is_null() {
            return of_socket(socket, &mut ip, tcp, bytes);
        }
        tries += 1;
    }
    -1
}

#[inline(always)]
fn of_socket(
    socket: *mut c_void,
    ip: &mut [u32; Ipv6Hdr::LEN / 4],
    tcp: &mut [u32; LONGEST],
    bytes: u32,
) -> i64 {
    let mut bytes = u64::from(bytes);
    // SAFETY: as in `header`: a bound that the verifier sees.
    unsafe { core::arch::asm!("{0} &= 60", inout(reg) bytes, options(nomem, nostack, preserves_flags)) };
    // SAFETY: both headers are at least as long as is said; the socket was found by the caller and is released once.
    unsafe {
        let tcp = tcp.as_mut_ptr().cast::<tcphdr>();
        let ip = ip.as_mut_ptr().cast::<c_void>();
        // Always so, which the verifier no longer knows.
        let cookie = if bytes >= TcpHdr::LEN as u64 {
            bpf_tcp_gen_syncookie(socket, ip, Ipv6Hdr::LEN as u32, tcp, bytes as u32)
        } else {
            -1
        };
        bpf_sk_release(socket);
        cookie
    }
}

#[inline(always)]
fn answer<C: Context>(ctx: &C, flow: &Flow, port: u16, cookie: u32, sequence: u32) -> Option<()> {
    let link = way_back(ctx, flow)?;
    let ip_len = if flow.is_ipv6() { Ipv6Hdr::LEN } else { Ipv4Hdr::LEN };
    let segment = segment_size(ctx, flow, port, ip_len as u32);
    if !ctx.resize((flow.ip as usize + ip_len + ANSWER) as u16) {
        return None;
    }
    link.write(ctx)?;
    let ip = Ip {
        source: flow.destination,
        destination: flow.source,
        protocol: TCP,
        payload: ANSWER as u16,
        id: 0,
    };
    let [window_high, window_low] = WINDOW.to_be_bytes();
    let [segment_high, segment_low] = segment.to_be_bytes();
    let words = [
        flow.ports.rotate_left(16),
        cookie.to_be(),
        sequence.wrapping_add(1).to_be(),
        // Six words long; SYN and ACK.
        u32::from_ne_bytes([0x60, 0x12, window_high, window_low]),
        0,
        u32::from_ne_bytes([2, 4, segment_high, segment_low]),
    ];
    // The pseudo header (RFC 9293, 3.1): an IPv4 address that stands in an IPv6 one adds ones, which is nothing.
    let mut sum = u64::from((ANSWER as u16).to_be()) + u64::from(u16::from(TCP).to_be());
    for address in [&ip.source, &ip.destination] {
        for word in address {
            sum += halves(*word);
        }
    }
    let sum = words.iter().fold(sum, |sum, word| sum + halves(*word));
    let packet = Packet::of(ctx);
    let tcp = if flow.is_ipv6() {
        let base = packet.far::<[u8; Ipv6Hdr::LEN + ANSWER]>(flow.ip)? as usize;
        ip.write6(base);
        base + Ipv6Hdr::LEN
    } else {
        let base = packet.far::<[u8; Ipv4Hdr::LEN + ANSWER]>(flow.ip)? as usize;
        ip.write4(base);
        base + Ipv4Hdr::LEN
    };
    put32(tcp, 0, words[0]);
    put32(tcp, 4, words[1]);
    put32(tcp, 8, words[2]);
    put32(tcp, 12, words[3]);
    put32(tcp, 16, u32::from(!fold(sum)));
    put32(tcp, 20, words[5]);
    Some(())
}

/// What comes from the network goes back where it came from; what another node sent on goes to the client, not to that
/// node, if it leaves by the same interface.
#[inline(always)]
fn way_back<C: Context>(ctx: &C, flow: &Flow) -> Option<Link> {
    /// Where the IP header begins without a tag.
    const UNTAGGED: u32 = 14;
    if !ctx.can_answer() {
        return None;
    }
    let link = Link::of(&Packet::of(ctx), flow.ip, flow.is_ipv6())?;
    if flow.hops == Flow::FROM_NETWORK {
        return Some(link.reversed());
    }
    let hop = tunnel::route(ctx, &flow.destination, &flow.source, flow.is_ipv6())?;
    (hop.interface == ctx.interface() && flow.ip == UNTAGGED)
        .then(|| link.redirected(hop.mac, hop.source_mac))
}

/// What a segment to us may carry: as much as the interface takes, or less if the address says so.
#[inline(always)]
fn segment_size<C: Context>(ctx: &C, flow: &Flow, port: u16, ip_len: u32) -> u16 {
    /// What every IPv4 host takes (RFC 9293, 3.7.1).
    const LEAST: u32 = 536;
    let mut mtu = 0_u32;
    // SAFETY: the context is that of this program; interface 0 is its own.
    unsafe { bpf_check_mtu(ctx.as_ptr(), 0, &raw mut mtu, 0, 0) };
    let taken = mtu.saturating_sub(ip_len + TcpHdr::LEN as u32).clamp(LEAST, 0xffff);
    match entry(&flow.destination, port, TCP) {
        Some(vip) if vip.mss != 0 && u32::from(vip.mss) < taken => vip.mss,
        _ => taken as u16,
    }
}
