//! Random, mutated and truncated packets through the XDP program, by `BPF_PROG_TEST_RUN`.
//!
//! Of every packet: the program never aborts, what holds none of our addresses passes byte for byte, and what the reference
//! can judge gets that verdict and that counter. Limits are on, with room for all. The node takes part in a pool, and
//! other nodes send packets and probes through the tunnel.
#![expect(clippy::indexing_slicing, reason = "numbers from dice below the length of a fixed list")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::bail;
use ingress_common::flow::{Addr, addr_of};
use ingress_common::maps::{Cluster, NodeVal, VIP_IDS};
use ingress_common::source::limited_source;
use ingress_common::tunnel::Header;
use ingress_common::verdict::{Action, REASONS, Reason, Verdict};

use super::plain::Dice;
use crate::kernel::bans::BAN;
use crate::kernel::{Rig, XDP_ABORTED, XDP_DROP, XDP_PASS, everywhere_and_walled, model, pool, without_end};
use crate::packet::{ACK, FIN, Packet, RST, SYN};
use crate::reference::{Expected, expect};
use crate::tunnel::{Outer, Udp};

/// Served addresses, also where a policy stands before them, and addresses of the node.
const OURS: &[&str] = &[
    "198.18.100.1",
    "2001:db8:100::1",
    "198.18.150.1",
    "2001:db8:150::1",
    "198.18.0.10",
    "2001:db8::10",
    "198.18.160.1",
    "2001:db8:160::1",
];
/// Of them, what belongs to the pool of several nodes.
const SHARED: [&str; 2] = ["198.18.160.1", "2001:db8:160::1"];
/// Ends of the tunnel: this node and the other one of the pool.
const ENDS: [[&str; 2]; 2] = [["198.18.0.10", "198.18.0.12"], ["2001:db8::10", "2001:db8::12"]];
const KEY: u64 = 0x1122_3344_5566_7788;
/// Others.
const OTHERS: &[&str] = &["198.18.0.11", "2001:db8::11", "198.18.100.2", "224.0.0.1", "ff02::1"];
/// Anybody, denied, allowed, exempt, banned; both families.
const SOURCES: &[&str] = &[
    "198.18.7.7",
    "198.19.66.6",
    "198.18.1.1",
    "198.18.1.66",
    "198.18.9.9",
    "2001:db8:7::7",
    "2001:db8:66::6",
    "2001:db8:1::1",
    "2001:db8:1::66",
    "2001:db8:9::9",
    "198.18.1.77",
    "2001:db8:1:7::7",
];
/// Banned; of an exempt and of a denied source nobody is to notice it.
const BANNED: &[&str] = &["198.18.1.77", "2001:db8:1:7::1", "198.18.9.9", "2001:db8:66::1"];
/// After so many packets the counters are compared.
const BATCH: u64 = 2_000;
/// The longest packet.
const LONGEST: usize = 1_514;

/// What a run saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Of them, those that the reference could judge.
    pub judged: u64,
    /// Of them, those that were dropped.
    pub dropped: u64,
}

/// The program and the packets that others are made of.
#[expect(missing_debug_implementations, reason = "an object of aya has none")]
pub struct Fuzz {
    rig: Rig,
    seeds: Vec<Vec<u8>>,
    ours: Vec<Vec<u8>>,
    banned: BTreeSet<Addr>,
    dice: Dice,
}

impl Fuzz {
    /// Loads the program; needs root.
    pub fn new(seed: u64) -> Self {
        Self {
            rig: rig(),
            seeds: seeds(),
            ours: OURS.iter().map(|text| octets(text)).collect(),
            banned: BANNED.iter().map(|text| limited_source(&addr_of(ip(text)))).collect(),
            dice: Dice::new(seed),
        }
    }

    /// Sends so many packets.
    pub fn run(&mut self, count: u64) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        while tally.packets < count {
            let size = BATCH.min(count - tally.packets);
            let frames: Vec<Vec<u8>> = (0..size).map(|_| self.frame()).collect();
            self.batch(&frames, &mut tally)?;
        }
        Ok(tally)
    }

    fn batch(&self, frames: &[Vec<u8>], tally: &mut Tally) -> anyhow::Result<()> {
        let before = self.rig.counts();
        let mut expected = vec![0_u64; (VIP_IDS * REASONS) as usize];
        let mut open = 0;
        for frame in frames {
            let (verdict, output) = self.rig.pass(frame);
            tally.packets += 1;
            tally.dropped += u64::from(verdict == XDP_DROP);
            match expect(frame, &self.rig.contents, &self.banned) {
                Expected::Exactly(exactly) => {
                    tally.judged += 1;
                    if let Some(count) = expected.get_mut(exactly.reason.row(exactly.vip_id) as usize) {
                        *count += 1;
                    }
                    check_exactly(frame, verdict, &output, exactly)?;
                }
                Expected::Anything => open += 1,
            }
            let is_ours =
                self.ours.iter().any(|address| frame.windows(address.len()).any(|part| part == address));
            if verdict == XDP_ABORTED || (!is_ours && (verdict != XDP_PASS || output != *frame)) {
                bail!("verdict {verdict} for {}", hex(frame));
            }
        }
        let after = self.rig.counts();
        let rows = before.iter().zip(&after).zip(&expected).enumerate();
        let mut surplus = 0;
        for (row, ((before, after), expected)) in rows {
            let seen = after.packets - before.packets;
            let of = Reason::of_row(u32::try_from(row)?);
            if seen < *expected {
                bail!(
                    "{} packets for {of:?} were counted elsewhere; the first: {}",
                    expected - seen,
                    self.first(frames, of)
                );
            }
            surplus += seen - expected;
        }
        if surplus != open {
            bail!("{surplus} packets were counted beside {open} that may be counted anywhere");
        }
        Ok(())
    }

    /// The first packet of a batch that should have been counted so.
    fn first(&self, frames: &[Vec<u8>], (vip_id, reason): (u32, Option<Reason>)) -> String {
        let is_it = |frame: &&Vec<u8>| match expect(frame, &self.rig.contents, &self.banned) {
            Expected::Exactly(verdict) => verdict.vip_id == vip_id && Some(verdict.reason) == reason,
            Expected::Anything => false,
        };
        frames.iter().find(is_it).map_or_else(String::new, |frame| hex(frame))
    }

    /// A packet from nowhere, or one made of well-formed ones.
    fn frame(&mut self) -> Vec<u8> {
        let dice = &mut self.dice;
        if dice.below(50) == 0 {
            let length = 14 + dice.below(120);
            return (0..length).map(|_| dice.roll().to_le_bytes()[0]).collect();
        }
        let pick =
            |dice: &mut Dice| self.seeds.get(dice.below(self.seeds.len())).cloned().unwrap_or_default();
        let mut frame = pick(dice);
        for _ in 0..dice.below(4) {
            // Headers are where it matters.
            let at = if dice.below(4) == 0 { dice.below(frame.len()) } else { 12 + dice.below(50) };
            match dice.below(8) {
                0 => frame.truncate(at.max(14)),
                1 => {
                    let bit = 1_u8 << dice.below(8);
                    frame.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
                }
                2 | 3 => {
                    let special = [0, 1, 4, 6, 17, 41, 43, 44, 45, 58, 60, 0x7f, 0x80, 0xff][dice.below(14)];
                    frame.iter_mut().skip(at).take(1).for_each(|byte| *byte = special);
                }
                4 => {
                    let (high, low) =
                        ([0x81, 0x88, 0x08, 0x86][dice.below(4)], [0x00, 0xa8, 0x06, 0xdd][dice.below(4)]);
                    frame.splice(12..12, [high, low, 0, 7]);
                }
                5 => {
                    let tail = pick(dice).split_off(14);
                    frame.truncate(at.max(14));
                    frame.extend(tail);
                }
                6 => {
                    let room = dice.below(200);
                    frame.extend((0..room).map(|n| n.to_le_bytes()[0]));
                }
                _ => {
                    let noise = dice.roll().to_le_bytes();
                    frame.iter_mut().skip(at).zip(noise).for_each(|(byte, noise)| *byte = noise);
                }
            }
        }
        frame.truncate(LONGEST);
        frame
    }
}

fn check_exactly(frame: &[u8], verdict: u32, output: &[u8], exactly: Verdict) -> anyhow::Result<()> {
    let should = match exactly.action() {
        Action::Drop => XDP_DROP,
        _ => XDP_PASS,
    };
    if verdict != should {
        bail!("verdict {verdict}, expected {exactly:?} for {}", hex(frame));
    }
    if output != frame {
        bail!("changed, though {exactly:?}: {} became {}", hex(frame), hex(output));
    }
    Ok(())
}

/// Addresses with and without policies.
fn rig() -> Rig {
    let [everywhere, mut walled] = everywhere_and_walled();
    walled.ban = Some(BAN);
    let node: Vec<IpAddr> = OURS[4..6].iter().map(ip).collect();
    let pools = vec![pool("open", &OURS[..2]), pool("walled", &OURS[2..4]), pool("shared", &SHARED)];
    let mut rig = Rig::new(&model(pools, vec![everywhere, walled]), &node, without_end);
    BANNED.iter().for_each(|source| rig.ban(source, u64::MAX));
    SHARED.iter().for_each(|address| rig.join(address));
    rig.set_cluster(Cluster { seed: 1, keys: [KEY, 0], me: 1, flags: 0 });
    for (id, end) in (1..).zip(0..2) {
        let node = NodeVal {
            addr: addr_of(ip(&ENDS[0][end])),
            source: addr_of(ip(&ENDS[0][0])),
            ifindex: 1,
            mac: [2; 6],
            mtu: 1_000,
            ..NodeVal::default()
        };
        rig.set_node(id, node, &ENDS.map(|ends| ends[end]));
    }
    // Half of the flows belong to the other node.
    let hashes: Vec<u64> = (0..1 << 15).map(|half| half << 49).collect();
    rig.set_candidates([2, 1, 0, 0], &hashes);
    rig
}

/// Well-formed packets of every kind between all of these addresses.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        Packet::ethernet(0x0806, &[0; 28]),
        Packet::ethernet(0x88cc, &[2, 7, 4]),
        Packet::ethernet(38, &[0x42; 38]),
    ];
    seeds.extend(tunnels());
    for to in OURS.iter().chain(OTHERS) {
        for from in SOURCES.iter().filter(|from| ip(from).is_ipv4() == ip(to).is_ipv4()) {
            for packet in kinds(from, to) {
                seeds.push(packet.bytes());
                seeds.push(packet.vlan(0x8100).bytes());
            }
        }
    }
    seeds
}

/// What the other node sends. As often as all the rest of a kind, since much can go wrong in them.
fn tunnels() -> Vec<Vec<u8>> {
    let mut tunnels = Vec::new();
    for [here, there] in ENDS {
        for (source, vip) in [(SOURCES[0], SHARED[0]), (SOURCES[5], SHARED[1])] {
            let packet = Packet::syn(source, vip, 80).data(9);
            let inner = packet.bytes().split_off(packet.link_len());
            let over_udp = [0, Header::PROBE, Header::ANSWER, Header::ANSWER | Header::SILENT].map(|flags| {
                Some(Udp { source_port: 50_000, version: Header::VERSION, flags, pool: 1, key: KEY })
            });
            for udp in over_udp.into_iter().chain([None]) {
                let (source, destination) = (ip(&there), ip(&here));
                let outer = Outer { macs: [[2; 6]; 2], vlan: 0, source, destination, hops: 1, udp };
                tunnels.extend(std::iter::repeat_n(outer.around(&inner), 100));
            }
        }
    }
    tunnels
}

fn kinds(from: &str, to: &str) -> Vec<Packet> {
    let mut kinds = Vec::new();
    for port in [80, 443, 22, 7447] {
        kinds
            .extend([SYN, ACK, SYN | ACK, FIN | ACK, RST, 0].map(|flags| Packet::tcp(from, to, port, flags)));
        kinds.push(Packet::udp(from, to, port));
    }
    kinds.extend([1, 4, 41, 47, 50, 58, 132].map(|protocol| Packet::other(from, to, protocol)));
    let quoted = Packet::tcp(to, from, 50_000, ACK).source_port(80);
    let quoted = quoted.bytes().split_off(quoted.link_len());
    for kind in [1, 2, 3, 4, 11, 12] {
        let error = [&[kind, 0, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
        let protocol = if ip(&from).is_ipv4() { 1 } else { 58 };
        kinds.push(Packet::carrying(from, from, to, protocol, &error));
    }
    let syn = Packet::syn(from, to, 80).data(40);
    kinds.extend([(0, true), (0, false), (3, true)].map(|(offset, more)| syn.clone().fragment(offset, more)));
    if ip(&from).is_ipv4() {
        kinds.extend([1, 10].map(|words| syn.clone().options(words)));
    } else {
        kinds.extend([0, 43, 60].map(|kind| syn.clone().extension(kind, 1)));
        kinds.push(syn.clone().extension(0, 1).extension(60, 2).extension(43, 1).extension(60, 1));
        kinds.push(syn.extension(0, 1).extension(60, 2).extension(43, 1).extension(60, 1).extension(60, 1));
    }
    kinds
}

fn ip(text: &&str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn octets(text: &str) -> Vec<u8> {
    match ip(&text) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
