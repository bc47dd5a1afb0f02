//! The loaded object, with maps filled from a model by the product's own compiler, and single packets through it.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a rig that cannot be set up fails its test at once, with the reason"
)]

use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use ingress_common::flow::addr_of;
use ingress_common::maps::{AclVal, Bucket, Count, Limit, VIP_IDS, VipKey, VipVal};
use ingress_common::source::{Acl4Key, Acl6Key, SrcKey};
use ingress_common::verdict::{REASONS, Reason};
use ingress_userspace::bpf::object::OBJECT;
use ingress_userspace::compile::maps::{MapContents, compile};
use ingress_userspace::model::Model;
use ingress_userspace::model::edge::{AddressRange, Edge, EdgePolicy, EdgeScope, Pool};
use ingress_userspace::model::listener::{Listener, ListenerName, ListenerProtocol};

/// The program under test.
pub const PROGRAM: &str = "portcullis_xdp";
/// The one that only passes packets.
pub const EMPTY_PROGRAM: &str = "portcullis_null";

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The XDP program with its own maps: nothing is pinned or attached, and all goes when this is dropped.
pub struct Rig {
    ebpf: Ebpf,
    /// What the maps hold.
    pub contents: MapContents,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose counter went up; 0: no address's.
    pub vip_id: u32,
    /// Which counter of it.
    pub reason: Reason,
}

impl Rig {
    /// Loads the programs and fills the maps; `adapt` changes what the compiler made of the model.
    pub fn new(model: &Model, node_addresses: &[IpAddr], adapt: impl FnOnce(&mut MapContents)) -> Self {
        let object =
            OBJECT.expect("the tests were built without the kernel half: run `cargo xtask build-ebpf`");
        let compiled = compile(model, node_addresses, &MapContents::default());
        assert_eq!(compiled.refused, Vec::<String>::new());
        let mut contents = compiled.contents;
        adapt(&mut contents);
        let mut ebpf = Ebpf::load(object).expect("the object loads; needs root");
        fill(&mut ebpf, &contents);
        for name in [PROGRAM, EMPTY_PROGRAM] {
            let program: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap_or_else(|error| panic!("the verifier accepts {name}: {error:?}"));
        }
        Self { ebpf, contents }
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
        let before = self.counts();
        let mut output = vec![0; frame.len() + 64];
        let program: &Xdp = self.ebpf.program(PROGRAM).unwrap().try_into().unwrap();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut output);
        let result = program.test_run(options).expect("the program runs");
        output.truncate(result.data_size_out as usize);
        assert_eq!(output, frame, "the packet was changed");
        let after = self.counts();
        let changed: Vec<usize> = (0..before.len()).filter(|row| before[*row] != after[*row]).collect();
        let [row] = changed[..] else { panic!("rows {changed:?} of stats went up") };
        assert_eq!(after[row].packets - before[row].packets, 1, "packets");
        assert_eq!(after[row].bytes - before[row].bytes, frame.len() as u64, "bytes");
        let (vip_id, reason) = Reason::of_row(u32::try_from(row).unwrap());
        let reason = reason.unwrap_or_else(|| panic!("row {row} has no reason"));
        let drops = matches!(reason.action(), ingress_common::verdict::Action::Drop);
        assert_eq!(
            result.return_value,
            if drops { XDP_DROP } else { XDP_PASS },
            "the verdict for {reason:?}"
        );
        Seen { vip_id, reason }
    }

    /// The time of one of so many runs over the same packet, in ns. The kernel reports whole ones, rounded down; half of
    /// one is added. (The time of the system call would not do: most of it goes into switching the dispatcher.)
    pub fn time_ns(&self, program: &str, frame: &[u8], repeat: u32) -> f64 {
        let program: &Xdp = self.ebpf.program(program).unwrap().try_into().unwrap();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = repeat;
        let result = program.test_run(options).expect("the program runs");
        f64::from(u32::try_from(result.duration.as_nanos()).unwrap()) + 0.5
    }

    /// Sets the state of a source's bucket.
    pub fn set_bucket(&mut self, key: SrcKey, tat: u64) {
        let mut buckets: HashMap<_, SrcKey, Bucket> =
            HashMap::try_from(self.ebpf.map_mut("buckets").unwrap()).unwrap();
        buckets.insert(key, Bucket { tat }, 0).unwrap();
    }

    /// The state of a source's bucket, `None` for a source that was not seen.
    pub fn bucket(&self, key: SrcKey) -> Option<u64> {
        let buckets: HashMap<_, SrcKey, Bucket> =
            HashMap::try_from(self.ebpf.map("buckets").unwrap()).unwrap();
        buckets.get(&key, 0).ok().map(|bucket| bucket.tat)
    }

    /// Replaces an entry of `vips`.
    pub fn set_vip(&mut self, key: VipKey, value: VipVal) {
        let mut vips: HashMap<_, VipKey, VipVal> =
            HashMap::try_from(self.ebpf.map_mut("vips").unwrap()).unwrap();
        vips.insert(key, value, 0).unwrap();
    }

    /// Every row of `stats` of the addresses in use, summed over CPUs.
    fn counts(&self) -> Vec<Count> {
        let stats: PerCpuArray<_, Count> = PerCpuArray::try_from(self.ebpf.map("stats").unwrap()).unwrap();
        let highest = self.contents.vips.values().map(|vip| vip.vip_id).max().unwrap_or(0);
        assert!(highest < VIP_IDS);
        (0..(highest + 1) * REASONS)
            .map(|row| {
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
    let mut vips: HashMap<_, VipKey, VipVal> = HashMap::try_from(ebpf.map_mut("vips").unwrap()).unwrap();
    for (key, value) in &contents.vips {
        vips.insert(key, value, 0).unwrap();
    }
}

/// A pool of single addresses.
pub fn pool(name: &str, addresses: &[&str]) -> Pool {
    let block = |text: &&str| -> AddressRange {
        let ip: IpAddr = text.parse().unwrap();
        AddressRange { first: ip, last: ip }
    };
    Pool { name: name.to_owned(), blocks: addresses.iter().map(block).collect() }
}

/// A policy without content, for a pool or for every address.
pub fn policy(name: &str, pool: Option<&str>) -> EdgePolicy {
    let scope = pool.map_or(EdgeScope::Cluster, |pool| EdgeScope::Pools(vec![pool.to_owned()]));
    EdgePolicy { name: name.to_owned(), scope, allow: vec![], deny: vec![], exempt: vec![], limits: vec![] }
}

/// Prefixes.
pub fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
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
        edge: Edge { pools, policies },
        ..Model::default()
    }
}
