//! The client of the two nodes, and what it demands of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ingress_tests::fleet::{CLIENT, CLIENT6, NAMES, address, address6};
use ingress_tests::http::{self, Outcome};
use ingress_tests::netns::{self, Namespace};
use ingress_tests::node::{VIP, VIP6};
use ingress_tests::packet::{ACK, PSH, Packet, RST, SYN};

use super::control::{BOTH, END, LOGS, ask};
use super::counts::Counts;
use super::node::back;
use super::wire::{Segment, Wire};
use super::{CLIENT_MAC, Mac, mac, plug, say};

/// How long a machine may take to be up, and a change to arrive.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections of each family that begin while node 1 is alone. So many that both nodes own some of them later.
const HALF_OPEN: u16 = 24;
/// The first byte of our own segments.
const SEQUENCE: u32 = 0x1111_1111;
/// The last thing that is sent on a connection of our own making.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x.example.test\r\nConnection: close\r\n\r\n";
/// Of the ordinary connections by each way, so many go to each node at least.
const OF_EACH: usize = 2;
/// After so many of them it is no chance any more that one node has none.
const MOST: usize = 40;

/// Plays the client.
pub(crate) fn play() -> anyhow::Result<()> {
    let namespace = Namespace::new("client")?;
    plug(CLIENT_MAC, &namespace)?;
    netns::addresses(&namespace, "eth0", &[&format!("{CLIENT}/24"), &format!("{CLIENT6}/64")])?;
    for number in [1, 2] {
        namespace.run(&format!("ip route add {} via {}", back(number), address(number)))?;
    }
    namespace.enter(|| {
        let outcome = Client::new(&namespace).and_then(|mut client| client.demand_all());
        for number in [1, 2] {
            if outcome.is_err() {
                say(&format!("log of node-{number}\n{}", ask(number, LOGS).unwrap_or_default()));
            }
            // One that cannot be told ends by itself.
            let _ = ask(number, END);
        }
        outcome
    })?
}

/// A connection of our own making: a SYN, and what came back.
#[derive(Clone, Debug)]
struct HalfOpen {
    vip: &'static str,
    source: IpAddr,
    port: u16,
    cookie: u32,
}

impl HalfOpen {
    fn here(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.port)
    }

    fn segment(&self, flags: u8) -> Packet {
        Packet::tcp(&self.source.to_string(), self.vip, 80, flags).source_port(self.port)
    }
}

struct Client<'n> {
    namespace: &'n Namespace,
    wire: Wire,
    /// What was counted last.
    counted: [Counts; 2],
}

impl<'n> Client<'n> {
    fn new(namespace: &'n Namespace) -> anyhow::Result<Self> {
        Ok(Self { namespace, wire: Wire::new()?, counted: Default::default() })
    }

    fn demand_all(&mut self) -> anyhow::Result<()> {
        wait_for("both nodes", || Ok(Counts::of_both().is_ok()))?;
        self.route_by(1)?;
        wait_for("an answer of node-1", || Ok(get(VIP) == answer(1) && get(VIP6) == answer(1)))?;
        let begun = self.begin_while_one_is_alone()?;
        for number in [1, 2] {
            ask(number, BOTH)?;
        }
        for receiver in [1, 2] {
            self.route_by(receiver)?;
            for vip in [VIP, VIP6] {
                for owner in [1, 2] {
                    wait_for("an answer of each node", || Ok(get(vip) == answer(owner)))?;
                }
            }
        }
        let (moved, kept) = self.who_owns_them_now(&begun)?;
        self.proofs_go_where_the_cookie_came_from(&moved, &kept)?;
        self.what_proves_nothing_opens_nothing(&kept)?;
        self.each_connection_is_its_owners_alone()
    }

    /// What both nodes counted since the last time.
    fn grown(&mut self) -> anyhow::Result<[Counts; 2]> {
        let [one_before, two_before] = std::mem::replace(&mut self.counted, Counts::of_both()?);
        let [one, two] = self.counted;
        Ok([one.since(one_before), two.since(two_before)])
    }

    /// From now on segments to the VIPs arrive at this node.
    fn route_by(&self, number: usize) -> anyhow::Result<()> {
        self.namespace.run(&format!("ip route replace {VIP} via {}", address(number)))?;
        self.namespace.run(&format!("ip route replace {VIP6} via {}", address6(number)))?;
        Ok(())
    }

    /// SYNs that node 1 answers, and nothing more.
    fn begin_while_one_is_alone(&mut self) -> anyhow::Result<Vec<HalfOpen>> {
        self.grown()?;
        let mut begun = Vec::new();
        for nth in 0..HALF_OPEN {
            for (vip, source) in [(VIP, nowhere(nth)), (VIP6, nowhere6(nth))] {
                let mut one = HalfOpen { vip, source, port: 20_000 + nth, cookie: 0 };
                let (node, cookie) = self.open(&one)?;
                ensure!(node == 1, "node-{node} answered while node-1 was alone");
                one.cookie = cookie;
                begun.push(one);
            }
        }
        let [one, two] = self.grown()?;
        let syns = u64::try_from(begun.len())?;
        ensure!((one.cookies, one.by_stack, one.proven) == (syns, 0, 0), "{syns} SYNs: {one:?}");
        ensure!(two == Counts::default(), "node-2 has nothing to do with it: {two:?}");
        say(&format!("{syns} SYNs: as many cookies of node-1"));
        Ok(begun)
    }

    /// Sends a SYN; which node answers, by which number.
    fn open(&mut self, one: &HalfOpen) -> anyhow::Result<(usize, u32)> {
        self.wire.forget()?;
        self.wire.send(&one.segment(SYN).numbers(SEQUENCE, 0), one.vip)?;
        let is_answer = |segment: &Segment| segment.flags == SYN | ACK;
        let answer = self.wire.wait_for("the answer to a SYN", one.here(), is_answer)?;
        Ok((node_of(answer.from)?, answer.sequence))
    }

    /// Of each connection that began, the cookie of its first owner; those that node 2 owns meanwhile, and the others.
    fn who_owns_them_now(&mut self, begun: &[HalfOpen]) -> anyhow::Result<(Vec<HalfOpen>, Vec<HalfOpen>)> {
        let (mut moved, mut kept) = (Vec::new(), Vec::new());
        for one in begun {
            let (node, cookie) = self.open(one)?;
            if node == 1 {
                kept.push(one.clone());
                continue;
            }
            // The same SYN: with one secret it would be the same cookie.
            ensure!(cookie != one.cookie, "both nodes send the cookie {cookie:08x} to {}", one.here());
            moved.push(one.clone());
        }
        for vip in [VIP, VIP6] {
            for (what, some) in [("node-2 owns now", &moved), ("node-1 owns still", &kept)] {
                let count = some.iter().filter(|one| one.vip == vip).count();
                ensure!(count > OF_EACH, "{what} {count} of {HALF_OPEN} flows to {vip}");
            }
        }
        say(&format!("node-2 joined: of {} flows it owns {}", begun.len(), moved.len()));
        Ok((moved, kept))
    }

    /// The proof of a cookie of node 1 opens a connection there, though node 2 receives it or owns the flow meanwhile.
    fn proofs_go_where_the_cookie_came_from(
        &mut self,
        moved: &[HalfOpen],
        kept: &[HalfOpen],
    ) -> anyhow::Result<()> {
        self.grown()?;
        for (nth, receiver) in [(0, 1), (1, 2)] {
            self.route_by(receiver)?;
            for (what, some) in [("node-2 owns it now", moved), ("node-1 owns it", kept)] {
                for vip in [VIP, VIP6] {
                    let one = some.iter().filter(|one| one.vip == vip).nth(nth).context("a flow")?;
                    let answer = self.finish(one)?;
                    let [node_1, node_2] = self.grown()?;
                    let case = format!("{} by node-{receiver}, {what}", one.here());
                    ensure!(answer == NAMES.get(1).copied().unwrap_or_default(), "{case}: {answer:?}");
                    ensure!((node_1.proven, node_1.failed) == (1, 0), "{case}: node-1 {node_1:?}");
                    ensure!((node_2.proven, node_2.failed) == (0, 0), "{case}: node-2 {node_2:?}");
                    say(&format!("{case}: proven to node-1"));
                }
            }
        }
        Ok(())
    }

    /// Proves the cookie of a connection and asks for something; who answered, in the body.
    fn finish(&mut self, one: &HalfOpen) -> anyhow::Result<String> {
        self.wire.forget()?;
        let acknowledged = one.cookie.wrapping_add(1);
        let proof = one.segment(ACK | PSH).numbers(SEQUENCE + 1, acknowledged).text(REQUEST);
        self.wire.send(&proof, one.vip)?;
        let is_end = |segment: &Segment| segment.flags & RST != 0 || !segment.data.is_empty();
        let answer = self.wire.wait_for("an answer or a reset", one.here(), is_end)?;
        // Nothing is sent to nowhere again and again.
        let sent = u32::try_from(REQUEST.len())?;
        self.wire.send(&one.segment(RST).numbers(SEQUENCE + 1 + sent, 0), one.vip)?;
        if answer.flags & RST != 0 {
            bail!("node-{} reset the connection of {}", node_of(answer.from)?, one.here());
        }
        let text = String::from_utf8_lossy(&answer.data).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        let body = body.with_context(|| format!("no answer: {text:?}"))?;
        ensure!(answer.from == mac(1), "{body} answered by the interface of another node");
        Ok(body)
    }

    /// A number that was nobody's cookie is refused, and counted: so a proof that went to the wrong node would be seen.
    fn what_proves_nothing_opens_nothing(&mut self, kept: &[HalfOpen]) -> anyhow::Result<()> {
        for vip in [VIP, VIP6] {
            let mut one = kept.iter().rfind(|one| one.vip == vip).context("a flow")?.clone();
            one.cookie ^= 0x5_5555;
            let outcome = self.finish(&one);
            let [node_1, node_2] = self.grown()?;
            ensure!(outcome.is_err(), "answered without a cookie: {outcome:?}");
            ensure!(node_1.proven + node_2.proven == 0, "{node_1:?} {node_2:?}");
            ensure!(node_1.failed + node_2.failed == 1, "{node_1:?} {node_2:?}");
        }
        say("what proves nothing is refused and counted");
        Ok(())
    }

    /// Ordinary connections: the owner of each answers its SYN, opens it by its proof and answers the request; the other
    /// node at most sends its packets on.
    fn each_connection_is_its_owners_alone(&mut self) -> anyhow::Result<()> {
        for (receiver, vip) in [(1, VIP), (1, VIP6), (2, VIP), (2, VIP6)] {
            self.route_by(receiver)?;
            self.grown()?;
            let mut owned = BTreeMap::from([(1, 0), (2, 0)]);
            for nth in 0.. {
                if owned.values().all(|count| *count >= OF_EACH) {
                    break;
                }
                ensure!(nth < MOST, "{vip} by node-{receiver}: of {nth} connections {owned:?}");
                let owner = self.connect(receiver, vip)?;
                *owned.entry(owner).or_default() += 1;
            }
            say(&format!("{vip} by node-{receiver}: connections by owner {owned:?}"));
        }
        Ok(())
    }

    /// One connection; who owned it.
    fn connect(&mut self, receiver: usize, vip: &str) -> anyhow::Result<usize> {
        self.wire.forget()?;
        let outcome = get(vip);
        let owner = [1, 2].into_iter().find(|number| outcome == answer(*number));
        let owner = owner.with_context(|| format!("{vip} by node-{receiver}: {outcome:?}"))?;
        let counted = self.grown()?;
        let heard = self.wire.heard()?;
        let case = format!("{vip} by node-{receiver}, owned by node-{owner}: {counted:?}");
        ensure!(heard.iter().all(|segment| segment.from == mac(owner)), "{case}: heard {heard:?}");
        ensure!(heard.iter().all(|segment| segment.flags & RST == 0), "{case}: heard {heard:?}");
        let cookies = heard.iter().filter(|segment| segment.flags == SYN | ACK).count();
        for (number, node) in [1, 2].into_iter().zip(counted) {
            let is_owner = number == owner;
            let expected = Counts {
                cookies: if is_owner { u64::try_from(cookies)? } else { 0 },
                proven: u64::from(is_owner),
                by_stack: 0,
                failed: 0,
                steered: node.steered,
            };
            ensure!(node == expected, "node-{number}, {cookies} cookies heard: {case}");
            let sends_on = number == receiver && !is_owner;
            ensure!((node.steered > 0) == sends_on, "node-{number} sends on what is not its own: {case}");
        }
        Ok(owner)
    }
}

fn get(vip: &str) -> Outcome {
    let Ok(vip) = vip.parse() else { return Outcome::Failed(format!("{vip} is no address")) };
    http::get(None, SocketAddr::new(vip, 80), "x.example.test", Duration::from_secs(10))
}

fn answer(number: usize) -> Outcome {
    Outcome::Answered(200, NAMES.get(number).copied().unwrap_or_default().to_owned())
}

fn node_of(from: Mac) -> anyhow::Result<usize> {
    [1, 2].into_iter().find(|number| mac(*number) == from).with_context(|| format!("{from:x?} is no node"))
}

/// An address of nobody, as [`super::node::NOWHERE`] has it.
fn nowhere(nth: u16) -> IpAddr {
    let [high, low] = nth.to_be_bytes();
    Ipv4Addr::new(198, 19, high, low).into()
}

fn nowhere6(nth: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xf00d, nth, 0, 0, 0, 1).into()
}

fn wait_for(what: &str, mut is_true: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_true()? {
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
