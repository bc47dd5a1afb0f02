//! Single packets through the programs at TC.

use aya::maps::HashMap;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use ingress_common::maps::{Count, IfaceVal};
use ingress_common::source::SrcKey;
use ingress_common::verdict::Reason;

use super::Rig;

/// The packet's way at the ingress of TC.
pub const INGRESS: &str = "portcullis_tc";
/// What leaves.
pub const EGRESS: &str = "portcullis_out";
/// The interface on which the kernel tests a program: loopback.
pub(super) const TEST_INTERFACE: u32 = 1;

/// What a program at TC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The next program decides.
    Next,
    /// The packet is dropped.
    Drop,
}

impl Rig {
    /// Sends one packet through a program at TC; what it says and what became of the packet.
    pub fn classify(&mut self, program: &str, frame: &[u8]) -> (Act, Vec<u8>) {
        let program: &mut SchedClassifier = self.ebpf.program_mut(program).unwrap().try_into().unwrap();
        if program.fd().is_err() {
            program.load().expect("the verifier accepts the program");
        }
        let mut output = vec![0; frame.len() + 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut output);
        let result = program.test_run(options).expect("the program runs");
        output.truncate(result.data_size_out as usize);
        let act = match result.return_value.cast_signed() {
            -1 => Act::Next,
            2 => Act::Drop,
            other => panic!("the program at TC said {other}"),
        };
        (act, output)
    }

    /// What was counted under a reason of an address so far.
    pub fn counted(&self, vip_id: u32, reason: Reason) -> Count {
        self.counts()[reason.row(vip_id) as usize]
    }

    /// What was sent to a client from an address so far.
    pub fn sent_to(&self, key: SrcKey) -> Count {
        let egress: aya::maps::PerCpuHashMap<_, SrcKey, Count> =
            self.ebpf.map("egress").unwrap().try_into().unwrap();
        let Ok(values) = egress.get(&key, 0) else { return Count::default() };
        values.iter().fold(Count::default(), |sum, value| Count {
            packets: sum.packets + value.packets,
            bytes: sum.bytes + value.bytes,
        })
    }

    /// The interface of tests has this address.
    pub fn set_interface_address(&mut self, addr4: [u8; 4]) {
        let mut ifaces: HashMap<_, u32, IfaceVal> = self.ebpf.map_mut("ifaces").unwrap().try_into().unwrap();
        ifaces.insert(TEST_INTERFACE, IfaceVal { addr4, ..IfaceVal::default() }, 0).unwrap();
    }
}
