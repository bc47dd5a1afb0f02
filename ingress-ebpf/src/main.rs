//! The kernel half: entry points, panic handler, licence. What the programs do is in `xdp` and `sk_lookup`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "compare-and-swap is only reachable as an intrinsic: the BPF target declares no atomics"
)]

mod maps;
mod packet;
mod report;
mod sk_lookup;
mod xdp;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{sk_lookup, xdp};
use aya_ebpf::programs::{SkLookupContext, XdpContext};

/// Lists and limits for packets that arrive on an interface.
#[xdp(frags)]
fn portcullis_xdp(ctx: XdpContext) -> u32 {
    xdp::run(&ctx)
}

/// Hands connections for served addresses to the proxy's sockets.
#[sk_lookup]
fn portcullis_sk(ctx: SkLookupContext) -> u32 {
    sk_lookup::run(&ctx)
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

// No helper that these programs call is reserved for GPL programs.
#[expect(unsafe_code, reason = "the loader finds the licence by its section")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
