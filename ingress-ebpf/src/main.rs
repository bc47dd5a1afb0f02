//! The kernel half: entry points, panic handler, licence. What the programs do is in `xdp`, `tc`, `egress`,
//! `sk_lookup` and `sk_reuseport`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "compare-and-swap is only reachable as an intrinsic: the BPF target declares no atomics"
)]

mod announce;
mod answer;
mod bans;
mod carry;
mod context;
mod cookie;
mod egress;
mod event;
mod judge;
mod limits;
mod lists;
mod maps;
mod packet;
mod report;
mod sk_lookup;
mod sk_reuseport;
mod steer;
mod tc;
mod transport;
mod tunnel;
mod vips;
mod write;
mod xdp;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, sk_lookup, sk_reuseport, xdp};
use aya_ebpf::programs::{SkLookupContext, SkReuseportContext, TcContext, XdpContext};

/// Lists and limits for packets that arrive on an interface.
#[xdp(frags)]
fn portcullis_xdp(ctx: XdpContext) -> u32 {
    xdp::run(&ctx)
}

/// The same where XDP cannot run: at the ingress of TC.
#[classifier]
fn portcullis_tc(ctx: TcContext) -> i32 {
    tc::run(&ctx)
}

/// Counts and corrects what leaves from served addresses.
#[classifier]
fn portcullis_out(ctx: TcContext) -> i32 {
    egress::run(&ctx)
}

/// Takes over sockets of another layout of maps. Never attached.
#[classifier]
fn portcullis_carry(ctx: TcContext) -> i32 {
    carry::run(&ctx)
}

/// Hands connections for served addresses to the proxy's sockets.
#[sk_lookup]
fn portcullis_sk(ctx: SkLookupContext) -> u32 {
    sk_lookup::run(&ctx)
}

/// Moves connections that wait in a socket that closes to another of its group.
#[sk_reuseport(migrate)]
fn portcullis_move(ctx: SkReuseportContext) -> u32 {
    sk_reuseport::run(&ctx)
}

/// Does nothing: the measure that `cargo xtask bench kernel` compares with. Never attached.
#[xdp(frags)]
fn portcullis_null(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The verifier proves that no path panics; the compiler asks for a handler all the same.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Some helpers (the kernel's routing table, its SYN cookies) are reserved for programs under a licence that the GPL permits.
#[expect(unsafe_code, reason = "the loader finds the licence by its section")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
