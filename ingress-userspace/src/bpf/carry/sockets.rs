//! Listening sockets from the SOCKMAP of another layout into ours, slot by slot, by a program that the kernel runs once
//! for each: they go on accepting, and the agent never holds them.

use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use ingress_common::maps::{CARRY_SLOT_AT, SLOTS};
use tracing::warn;

/// The program.
pub(in crate::bpf) const PROGRAM: &str = "portcullis_carry";
/// The map of the object that stands for the other layout's `socks`.
pub(in crate::bpf) const OLD_SOCKETS: &str = "old_socks";
const REFUSED: u32 = 2;

/// Moves what each slot holds; how many sockets. Slots keep their numbers.
pub(in crate::bpf) fn move_sockets(
    program: &mut SchedClassifier,
    from: &Path,
) -> Result<usize, ProgramError> {
    program.load()?;
    let mut moved = 0;
    for slot in 0..SLOTS {
        let mut frame = [0; 64];
        // An ethertype for experiments: the kernel looks for nothing behind it.
        frame.iter_mut().skip(12).zip([0x88, 0xb5]).for_each(|(to, byte)| *to = byte);
        frame.iter_mut().skip(CARRY_SLOT_AT).zip(slot.to_ne_bytes()).for_each(|(to, byte)| *to = byte);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        match program.test_run(options)?.return_value {
            0 => moved += 1,
            REFUSED => {
                warn!(slot, from = %from.display(), "socket of another layout cannot be taken over, its proxy hands it over again");
            }
            _ => {}
        }
    }
    Ok(moved)
}
