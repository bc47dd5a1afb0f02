//! The packet's way where XDP cannot run: the same steps, behind the allocation of the kernel's packet.
//!
//! What passes goes on to the programs behind this one, whoever attached them.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::TcContext;
use ingress_common::verdict::Action;

use crate::context::Context as _;
use crate::xdp;

/// The next program decides; TCX_NEXT, which means the same, has the same number.
pub(crate) const TC_ACT_UNSPEC: i32 = -1;

#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    ctx.pull();
    let done = xdp::way(ctx);
    match done.verdict.action() {
        Action::Pass => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
        // SAFETY: a helper that only takes note.
        Action::Send => unsafe { bpf_redirect(done.interface, 0) as i32 },
    }
}
