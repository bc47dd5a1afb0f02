//! The loaded object, with maps filled from a model by the product's own compiler, and single packets through it.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a rig that cannot be set up fails its test at once, with the reason"
)]

mod announce;
pub mod bans;
mod hits;
mod limits;
pub mod sockets;
pub mod steering;
pub mod tc;

use std::cell::Cell;
use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, PerCpuArray};
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use ingress_common::flow::addr_of;
use ingress_common::maps::table::MAPS;
use ingress_common::maps::{AclVal, Count, Limit, VIP_IDS, VipKey, VipVal};
use ingress_common::source::{Acl4Key, Acl6Key};
use ingress_common::verdict::{REASONS, Reason};
use ingress_userspace::bpf::object::OBJECT;
use ingress_userspace::bpf::pins::Pins;
use ingress_userspace::compile::maps::bits::{words4, words6};
use ingress_userspace::compile::maps::{MapContents, compile};
use ingress_userspace::model::Model;
use ingress_userspace::model::edge::{
    AddressRange, Counted, Edge, EdgeLimit, EdgePolicy, EdgeScope, Per, Pool,
};
use ingress_userspace::model::listener::{Listener, ListenerName, ListenerProtocol};

/// The program under test.
pub const PROGRAM: &str = "portcullis_xdp";
/// The same steps behind the other hook.
pub const TC_PROGRAM: &str = "portcullis_tc";
/// The one that only passes packets.
pub const EMPTY_PROGRAM: &str = "portcullis_null";

/// What an XDP program returns for a mistake of its own.
pub const XDP_ABORTED: u32 = 0;
/// The packet ends here.
pub const XDP_DROP: u32 = 1;
/// The packet goes to the stack.
pub const XDP_PASS: u32 = 2;
/// The packet leaves where it came in.
pub const XDP_TX: u32 = 3;
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
const TC_ACT_REDIRECT: i32 = 7;
/// What a program may add to a packet.
const ROOM: usize = 256;

/// Where packets meet the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before the stack.
    Xdp,
    /// Where XDP cannot run.
    Tc,
}

/// The XDP program with its own maps: nothing is pinned or attached, and all goes when this is dropped.
pub struct Rig {
    ebpf: Ebpf,
    /// What the maps hold.
    pub contents: MapContents,
    hook: Hook,
    counted: Cell<Option<Vec<Count>>>,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose counter went up; 0: no address's.
    pub vip_id: u32,
    /// Which counter of it.
    pub reason: Reason,
}

/// A packet after the program.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its counter.
    pub seen: Seen,
    /// What the program returned.
    pub verdict: u32,
    /// Its bytes.
    pub output: Vec<u8>,
}

impl Rig {
    /// Loads the programs and fills the maps; `adapt` changes what the compiler made of the model.
    pub fn new(model: &Model, node_addresses: &[IpAddr], adapt: impl FnOnce(&mut MapContents)) -> Self {
        let object =
            OBJECT.expect("the tests were built without the kernel half: run `cargo xtask build-ebpf`");
        let compiled = compile(model, node_addresses, &MapContents::default());
        assert_eq!(compiled.refused, []);
        let mut contents = compiled.contents;
        adapt(&mut contents);
        let mut ebpf = Ebpf::load(object).expect("the object loads; needs root");
        fill(&mut ebpf, &contents);
        for name in [PROGRAM, EMPTY_PROGRAM] {
            let program: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap_or_else(|error| panic!("the verifier accepts {name}: {error:?}"));
        }
        Self { ebpf, contents, hook: Hook::Xdp, counted: Cell::new(None) }
    }

    /// The XDP program over the pinned maps of an installation, which hold what the product put there.
    pub fn pinned(pins: &Pins) -> Self {
        let object =
            OBJECT.expect("the tests were built without the kernel half: run `cargo xtask build-ebpf`");
        let paths: Vec<_> = MAPS.iter().map(|map| (map, pins.map(map.name))).collect();
        let mut loader = EbpfLoader::new();
        for (map, path) in &paths {
            loader.map_pin_path(map.name, path.as_path());
            loader.map_max_entries(map.name, map.entries);
        }
        let mut ebpf = loader.load(object).expect("the object loads; needs root");
        let program: &mut Xdp = ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("the verifier accepts {PROGRAM}: {error:?}"));
        Self { ebpf, contents: MapContents::default(), hook: Hook::Xdp, counted: Cell::new(None) }
    }

    /// Has packets meet the steps at TC ingress from now on.
    #[must_use]
    pub fn at_tc(mut self) -> Self {
        let program: &mut SchedClassifier = self.ebpf.program_mut(TC_PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("the verifier accepts {TC_PROGRAM}: {error:?}"));
        self.hook = Hook::Tc;
        self
    }

    /// The counters' block of an address; 0 for `None`.
    pub fn vip_id(&self, address: Option<&str>) -> u32 {
        let Some(address) = address else { return 0 };
        let key = VipKey::address(addr_of(address.parse().unwrap()));
        self.contents.vips.get(&key).unwrap_or_else(|| panic!("{address} is not served")).vip_id
    }

    /// Sends one packet through the program. Checks what holds for every packet: exactly one counter goes up, by one
    /// packet and its length; the verdict is the reason's; the bytes are untouched.
    pub fn run(&mut self, frame: &[u8]) -> Seen {
        let Sent { seen, verdict, output } = self.send(frame);
        assert_eq!(output, frame, "the packet was changed");
        let drops = matches!(seen.reason.action(), ingress_common::verdict::Action::Drop);
        assert_eq!(verdict, if drops { XDP_DROP } else { XDP_PASS }, "the verdict for {:?}", seen.reason);
        seen
    }

    /// Sends one packet through the program, whatever becomes of it. Checks that exactly one counter goes up, by one
    /// packet and its length as it came.
    pub fn send(&mut self, frame: &[u8]) -> Sent {
        let before = self.counted.take().unwrap_or_else(|| self.counts());
        let (verdict, output) = self.pass(frame);
        let after = self.counts();
        let changed: Vec<usize> = (0..before.len()).filter(|row| before[*row] != after[*row]).collect();
        let [row] = changed[..] else { panic!("rows {changed:?} of stats went up") };
        assert_eq!(after[row].packets - before[row].packets, 1, "packets");
        assert_eq!(after[row].bytes - before[row].bytes, frame.len() as u64, "bytes");
        let (vip_id, reason) = Reason::of_row(u32::try_from(row).unwrap());
        let reason = reason.unwrap_or_else(|| panic!("row {row} has no reason"));
        // What is there before the next packet, if nothing else is sent until then.
        self.counted = Cell::new(Some(after));
        Sent { seen: Seen { vip_id, reason }, verdict, output }
    }

    /// Whether the kernel's test run takes a frame: at TC it wants the IP header whole.
    pub fn takes(&self, frame: &[u8]) -> bool {
        let least = match frame.get(12..14) {
            Some([0x08, 0x00]) => 14 + 20,
            Some([0x86, 0xdd]) => 14 + 40,
            _ => 15,
        };
        self.hook == Hook::Xdp || frame.len() >= least
    }

    /// The verdict and the bytes of one packet, without a look at the counters: for many in sequence.
    pub fn pass(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        self.counted.set(None);
        let mut output = vec![0; frame.len() + ROOM];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut output);
        let (verdict, length) = match self.hook {
            Hook::Xdp => {
                let program: &Xdp = self.ebpf.program(PROGRAM).unwrap().try_into().unwrap();
                let result = program.test_run(options).expect("the program runs");
                (result.return_value, result.data_size_out)
            }
            Hook::Tc => {
                let program: &SchedClassifier = self.ebpf.program(TC_PROGRAM).unwrap().try_into().unwrap();
                let result = program.test_run(options).expect("the program runs");
                (of_tc(result.return_value.cast_signed()), result.data_size_out)
            }
        };
        output.truncate(length as usize);
        (verdict, output)
    }

    /// Whether a packet gets through, and nothing else: for thousands of packets, whose counters would take long to read.
    pub fn passes(&self, frame: &[u8]) -> bool {
        let program: &Xdp = self.ebpf.program(PROGRAM).unwrap().try_into().unwrap();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        program.test_run(options).expect("the program runs").return_value == XDP_PASS
    }

    /// The time of one of so many runs over the same packet, in ns. The kernel reports whole ones, rounded down; half of
    /// one is added. (The time of the system call would not do: most of it goes into switching the dispatcher.)
    pub fn time_ns(&self, program: &str, frame: &[u8], repeat: u32) -> f64 {
        self.counted.set(None);
        let program: &Xdp = self.ebpf.program(program).unwrap().try_into().unwrap();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = repeat;
        let result = program.test_run(options).expect("the program runs");
        f64::from(u32::try_from(result.duration.as_nanos()).unwrap()) + 0.5
    }

    /// Replaces an entry of `vips`.
    pub fn set_vip(&mut self, key: VipKey, value: VipVal) {
        let mut vips: HashMap<_, VipKey, VipVal> =
            HashMap::try_from(self.ebpf.map_mut("vips").unwrap()).unwrap();
        vips.insert(key, value, 0).unwrap();
    }

    /// The loaded object.
    pub fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Every row of `stats` of the addresses in use, summed over CPUs.
    pub fn counts(&self) -> Vec<Count> {
        let stats: PerCpuArray<_, Count> = PerCpuArray::try_from(self.ebpf.map("stats").unwrap()).unwrap();
        let highest = self.contents.vips.values().map(|vip| vip.vip_id).max().unwrap_or(0);
        assert!(highest < VIP_IDS);
        (0..(highest + 1) * REASONS)
            .map(|row| {
                if Reason::of_row(row).1.is_none() {
                    return Count::default();
                }
                let values = stats.get(&row, 0).unwrap();
                values.iter().fold(Count::default(), |sum, value| Count {
                    packets: sum.packets + value.packets,
                    bytes: sum.bytes + value.bytes,
                })
            })
            .collect()
    }
}

fn fill(ebpf: &mut Ebpf, contents: &MapContents) {
    let mut limits: Array<_, Limit> = Array::try_from(ebpf.map_mut("limits").unwrap()).unwrap();
    for (row, limit) in &contents.limits {
        limits.set(*row, limit, 0).unwrap();
    }
    let mut acl4: LpmTrie<_, Acl4Key, AclVal> = LpmTrie::try_from(ebpf.map_mut("acl4").unwrap()).unwrap();
    for ((len, key), value) in &contents.acl4 {
        acl4.insert(&Key::new(*len, *key), value, 0).unwrap();
    }
    let mut acl6: LpmTrie<_, Acl6Key, AclVal> = LpmTrie::try_from(ebpf.map_mut("acl6").unwrap()).unwrap();
    for ((len, key), value) in &contents.acl6 {
        acl6.insert(&Key::new(*len, *key), value, 0).unwrap();
    }
    for (name, words) in [("acl4_bits", words4(&contents.acl4)), ("acl6_bits", words6(&contents.acl6))] {
        let mut bits: Array<_, u64> = Array::try_from(ebpf.map_mut(name).unwrap()).unwrap();
        for (row, word) in (0..).zip(words).filter(|(_, word)| *word != 0) {
            bits.set(row, word, 0).unwrap();
        }
    }
    let mut vips: HashMap<_, VipKey, VipVal> = HashMap::try_from(ebpf.map_mut("vips").unwrap()).unwrap();
    for (key, value) in &contents.vips {
        vips.insert(key, value, 0).unwrap();
    }
}

/// The XDP verdict that means the same.
fn of_tc(verdict: i32) -> u32 {
    match verdict {
        TC_ACT_UNSPEC => XDP_PASS,
        TC_ACT_SHOT => XDP_DROP,
        TC_ACT_REDIRECT => XDP_TX,
        other => panic!("no verdict of ours: {other}"),
    }
}

/// Has the kernel verify every program of the object.
pub fn load_every_program(ebpf: &mut Ebpf) {
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SkLookup(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::SkReuseport(program) => program.load(),
            other => panic!("say how {name} is loaded: {other:?}"),
        };
        loaded.unwrap_or_else(|error| panic!("the verifier accepts {name}: {error:?}"));
    }
}

/// A pool of single addresses.
pub fn pool(name: &str, addresses: &[&str]) -> Pool {
    let block = |text: &&str| -> AddressRange {
        let ip: IpAddr = text.parse().unwrap();
        AddressRange { first: ip, last: ip }
    };
    Pool::new(name, addresses.iter().map(block).collect())
}

/// A policy without content, for a pool or for every address.
pub fn policy(name: &str, pool: Option<&str>) -> EdgePolicy {
    let scope = pool.map_or(EdgeScope::Cluster, |pool| EdgeScope::Pools(vec![pool.to_owned()]));
    EdgePolicy {
        name: name.to_owned(),
        scope,
        allow: vec![],
        deny: vec![],
        exempt: vec![],
        limits: vec![],
        syn_protection: None,
        ban: None,
    }
}

/// A limit of new connections per source.
pub fn connections(per_second: u64, burst: u64) -> EdgeLimit {
    EdgeLimit { of: Counted::Connections, per: Per::Source, per_second, burst }
}

/// Prefixes.
pub fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A policy for every address, and one for the pool `walled` that uses all lists and a limit.
pub fn everywhere_and_walled() -> [EdgePolicy; 2] {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let mut walled = policy("walled", Some("walled"));
    walled.allow = nets(&["198.18.1.0/24", "2001:db8:1::/48", "198.18.9.0/24", "2001:db8:9::/48"]);
    walled.deny = nets(&["198.18.1.66/32", "2001:db8:1::66/128"]);
    walled.exempt = nets(&["198.18.9.0/24", "2001:db8:9::/48"]);
    walled.limits = vec![connections(1, 1)];
    [everywhere, walled]
}

/// Limits that never run out, which leaves their bookkeeping as it is.
pub fn without_end(contents: &mut MapContents) {
    for limit in contents.limits.values_mut() {
        *limit = Limit { rate_ns: 1, burst_ns: 1 << 54, ..*limit };
    }
}

/// A model that serves ports 80 and 443.
pub fn model(pools: Vec<Pool>, policies: Vec<EdgePolicy>) -> Model {
    let listener = |name: &str, port| Listener {
        name: ListenerName(name.to_owned()),
        port,
        protocol: ListenerProtocol::Http,
    };
    Model {
        listeners: vec![listener("http", 80), listener("https", 443)],
        edge: Edge { pools, policies, ..Edge::default() },
        ..Model::default()
    }
}
