//! A flood of SYNs from sources that do not exist: who does exist notices nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use ingress_tests::fleet::Fleet;
use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, NODE6, Node, VIP, VIP6, policy};
use ingress_tests::packet::Packet;
use ingress_userspace::bpf::object::OBJECT;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::steering::fleet;

/// Packets a second.
const RATE: u64 = 20_000;
/// How often that many begin anew.
const BATCH: Duration = Duration::from_millis(5);
/// IP headers are given by the sender.
const IPPROTO_RAW: i32 = 255;
/// Addresses behind the node that nobody has, one of each family.
const NOBODY: [&str; 2] = ["198.18.99.9", "2001:db8:99::9"];
/// How long established flows are watched under the flood; `INGRESS_TEST_FLOOD` sets another number.
const SECONDS: u64 = 2;
/// For so long they meet one of the two floods before the other has its turn.
const TURN: Duration = Duration::from_millis(250);
/// What is left of their goodput at least. In a short run on a machine that does something else beside, less shows no fault.
const KEPT: f64 = 0.9;
const KEPT_IN_SHORT: f64 = 0.6;
/// A new connection so often.
const PACE: Duration = Duration::from_millis(20);

/// The other end of the veth pair needs a program, or nothing that XDP sends back arrives; real interfaces do not.
fn pass_at_client(node: &Node) -> Ebpf {
    let mut ebpf = Ebpf::load(OBJECT.expect("run `cargo xtask build-ebpf` first")).unwrap();
    let program: &mut Xdp = ebpf.program_mut("portcullis_null").unwrap().try_into().unwrap();
    program.load().unwrap();
    node.client.enter(|| program.attach("eth0", XdpMode::Driver)).unwrap().unwrap();
    ebpf
}

fn spoofed(is_ipv6: bool, nth: u64) -> IpAddr {
    let [high, low] = u16::try_from(nth & 0xffff).unwrap().to_be_bytes();
    if is_ipv6 {
        Ipv6Addr::from([0x20, 0x01, 0x0d, 0xb8, 0xf0, 0x0d, high, low, 0, 0, 0, 0, 0, 0, 0, 1]).into()
    } else {
        Ipv4Addr::new(198, 19, high, low).into()
    }
}

/// The packets of a flood of SYNs, for both families by turns: no source comes twice within seconds.
struct Flood {
    packets: Vec<(Vec<u8>, SockAddr)>,
    sent: AtomicU64,
}

impl Flood {
    fn to(destinations: [&str; 2]) -> Self {
        let packet = |nth: u64| {
            let is_ipv6 = nth % 2 == 1;
            let to = destinations[usize::from(is_ipv6)];
            let source = spoofed(is_ipv6, nth / 2).to_string();
            let port = 1024 + u16::try_from(nth % 50_000).unwrap();
            let frame = Packet::syn(&source, to, 80).source_port(port).bytes_with_checksum();
            (frame[14..].to_vec(), SocketAddr::new(to.parse().unwrap(), 0).into())
        };
        Self { packets: (0..RATE * 2).map(packet).collect(), sent: AtomicU64::new(0) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Sends at the rate of a flood until told to stop: the first of these, or the other one while `turn` says so.
fn send(floods: [&Flood; 2], turn: &AtomicBool, stop: &AtomicBool) {
    let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
    let (four, six) = (raw(Domain::IPV4), raw(Domain::IPV6));
    let begun = Instant::now();
    let mut nth: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begun.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
        // What was missed is not made up for in one go.
        nth = nth.max(due.saturating_sub(RATE / 10));
        let flood = floods[usize::from(turn.load(Ordering::Relaxed))];
        while nth < due {
            let (packet, to) = &flood.packets[usize::try_from(nth).unwrap() % flood.packets.len()];
            let socket = if to.is_ipv6() { &six } else { &four };
            // A full queue of the interface drops as a switch does.
            if socket.send_to(packet, to).is_ok() {
                flood.sent.fetch_add(1, Ordering::Relaxed);
            }
            nth += 1;
        }
        std::thread::sleep(BATCH);
    }
}

fn counter(node: &Node, name: &str) -> u64 {
    let status = node.status().unwrap();
    status["syn_cookies"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {status:#}"))
}

fn cookies_sent(node: &Node) -> u64 {
    [VIP, VIP6].iter().map(|vip| node.packets(vip, "cookie-sent").unwrap()).sum()
}

/// A node whose queues are full soon, with a limit of connections.
fn node() -> Node {
    let node = Node::new().unwrap();
    // Sources behind the client, so that the stack has somewhere to send its answers.
    node.node.run(&format!("ip route add 198.19.0.0/16 via {CLIENT}")).unwrap();
    node.node.run(&format!("ip route add 2001:db8:f00d::/48 via {CLIENT6}")).unwrap();
    for (nobody, node_address) in NOBODY.iter().zip([NODE, NODE6]) {
        node.client.run(&format!("ip route add {nobody} via {node_address}")).unwrap();
    }
    node.node
        .enter(|| fs::write("/proc/sys/net/core/somaxconn", "128"))
        .unwrap()
        .expect("the setting of the namespace");
    node.write("policy.yaml", &policy("limits: [{per: Source, connectionsPerSecond: 1000, burst: 1000}]"))
        .unwrap();
    node
}

/// No source that proved nothing has a bucket.
fn assert_no_bucket_of_the_flood(node: &Node) {
    let text = node.tool(&["maps", "buckets", "--output", "json"]).unwrap();
    assert!(
        !text.contains("198.19.") && !text.contains("f00d"),
        "a bucket of a source that proved nothing: {text}"
    );
}

fn print_counters(node: &Node, flood: &Flood) {
    for name in ["sent_by_stack", "received", "failed"] {
        println!("{name}: {}", counter(node, name));
    }
    println!("SYNs {}, answered by the program {}", flood.sent(), cookies_sent(node));
}

fn clients_get_their_answers(mode: &str) {
    let node = node();
    let _pass = (mode == "xdp-native").then(|| pass_at_client(&node));
    let _process = node.run("run", &["--mode", mode]).unwrap();
    node.wait_served().unwrap();
    let received = counter(&node, "received");
    let (flood, turn, stop) = (Flood::to([VIP, VIP6]), AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| node.client.enter(|| send([&flood, &flood], &turn, &stop)).unwrap());
        node.wait_for("cookies", || Ok(cookies_sent(&node) > 1000)).unwrap();
        let before = flood.sent();
        for nth in 0..100 {
            for (source, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                let outcome = node.get(source, vip, 80).unwrap();
                assert!(outcome.is_ok(), "request {nth} to {vip}: {outcome:?}\n{}", node.logs());
            }
        }
        assert!(flood.sent() > before, "the flood went on meanwhile");
        stop.store(true, Ordering::Relaxed);
    });
    assert!(counter(&node, "received") > received, "some of them by a cookie");
    assert_eq!(node.status().unwrap()["mode"], mode);
    assert_no_bucket_of_the_flood(&node);
    print_counters(&node, &flood);
}

#[test]
fn clients_get_their_answers_during_a_flood() {
    clients_get_their_answers("xdp-native");
}

#[test]
fn tc_answers_a_flood_as_well() {
    clients_get_their_answers("tc");
}

/// Requests one after the other on a connection until told to stop, counted; a new one where the proxy ends it.
fn keep_asking(to: &str, answered: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(SocketAddr::new(to.parse().unwrap(), 80)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut is_kept = true;
        while is_kept && !stop.load(Ordering::Relaxed) {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x.example.test\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"origin") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).expect("an established connection goes on");
                assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&part[..read]);
            }
            answered.fetch_add(1, Ordering::Relaxed);
            is_kept = !String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("connection: close");
        }
    }
}

/// New connections at an even pace until told to stop: how many, and what failed.
fn keep_coming(node: &Node, (source, to): (&str, &str), stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut asked, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let outcome = node.get(source, to, 80).unwrap();
        if !outcome.is_ok() {
            failed.push(format!("{to}: {outcome:?}"));
        }
        asked += 1;
        std::thread::sleep(PACE);
    }
    (asked, failed)
}

/// The last processor for the flood alone, the others for everything else, where there are several.
fn processors() -> (CpuSet, CpuSet) {
    let all = sched_getaffinity(None).unwrap();
    let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let [others @ .., last] = &numbers[..] else { panic!("no processor") };
    let set = |numbers: &[usize]| {
        let mut set = CpuSet::new();
        for cpu in numbers {
            set.set(*cpu);
        }
        set
    };
    (set(&[*last]), if others.is_empty() { all } else { set(others) })
}

#[test]
fn established_flows_keep_their_goodput_during_a_flood() {
    let seconds = std::env::var("INGRESS_TEST_FLOOD").ok();
    let (seconds, kept) = match &seconds {
        Some(seconds) => (seconds.parse().expect("INGRESS_TEST_FLOOD is a number of seconds"), KEPT),
        None => (SECONDS, KEPT_IN_SHORT),
    };
    // On a thread of its own: what it may run on is inherited by all that it starts.
    std::thread::scope(|scope| scope.spawn(|| goodput(seconds, kept)).join()).unwrap();
}

fn goodput(seconds: u64, kept: f64) {
    let (own, others) = processors();
    sched_setaffinity(None, &others).unwrap();
    let node = node();
    let _pass = pass_at_client(&node);
    let _process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let (syns, foreign) = (Flood::to([VIP, VIP6]), Flood::to(NOBODY));
    let (is_foreign, stop, answered) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (node, stop, answered) = (&node, &stop, &answered);
        for vip in [VIP, VIP6] {
            scope.spawn(move || node.client.enter(|| keep_asking(vip, answered, stop)).unwrap());
        }
        node.wait_for("established flows", || Ok(answered.load(Ordering::Relaxed) > 100)).unwrap();
        scope.spawn(|| {
            let work = || {
                sched_setaffinity(None, &own).unwrap();
                send([&syns, &foreign], &is_foreign, stop);
            };
            node.client.enter(work).unwrap();
        });
        node.wait_for("cookies", || Ok(cookies_sent(node) > 1000)).unwrap();
        let coming =
            [(CLIENT, VIP), (CLIENT6, VIP6)].map(|way| scope.spawn(move || keep_coming(node, way, stop)));
        let turns = seconds * 1000 / u64::try_from(TURN.as_millis()).unwrap();
        let mut during = [0.0, 0.0];
        let (began, cookies) = ([syns.sent(), foreign.sent()], cookies_sent(node));
        for turn in 0..turns * 2 {
            is_foreign.store(turn % 2 == 1, Ordering::Relaxed);
            let (before, since) = (answered.load(Ordering::Relaxed), Instant::now());
            std::thread::sleep(TURN);
            let requests = answered.load(Ordering::Relaxed) - before;
            during[usize::from(turn % 2 == 1)] +=
                requests as f64 / since.elapsed().as_secs_f64() / turns as f64;
        }
        let cookies = cookies_sent(node) - cookies;
        stop.store(true, Ordering::Relaxed);
        let [under_syns, under_foreign] = during;
        let ratio = under_syns / under_foreign;
        println!(
            "requests/s on established flows: {under_syns:.0} under SYNs ({} of them, {cookies} cookies), {under_foreign:.0} \
             under foreign packets ({}): {ratio:.3}",
            syns.sent() - began[0],
            foreign.sent() - began[1],
        );
        for coming in coming {
            let (asked, failed) = coming.join().unwrap();
            println!("new connections: {asked}, failed {}", failed.len());
            assert_eq!(failed, Vec::<String>::new(), "of {asked} new connections\n{}", node.logs());
        }
        assert!(ratio >= kept, "only {ratio:.3} of the goodput is left");
    });
    assert_no_bucket_of_the_flood(&node);
    print_counters(&node, &syns);
}

/// What a node of a fleet counted: cookies of the program or the stack, connections that one opened, proofs that were none.
fn counted(fleet: &Fleet, number: usize) -> [u64; 3] {
    let status = fleet.status(number).unwrap();
    let of_kernel = |name: &str| status["syn_cookies"][name].as_u64().unwrap();
    let sent = fleet.packets(number, "cookie-sent").unwrap() + of_kernel("sent_by_stack");
    [sent, of_kernel("received"), of_kernel("failed")]
}

#[test]
fn the_owner_of_a_flow_sends_its_cookie_and_gets_its_proof() {
    let (fleet, _processes) = fleet(2, "");
    for number in [1, 2] {
        let set = || {
            fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
            // Or the kernel does not tell XDP the way to the client of a packet that came by the other node.
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        };
        fleet.node(number).unwrap().enter(set).unwrap().unwrap();
    }
    // While a node has sent none lately, it asks for a few SYNs only whether it shall.
    fleet
        .wait_for("cookies of both nodes", || {
            let [four, six] = [fleet.get(VIP)?, fleet.get(VIP6)?];
            assert!(four.is_ok() && six.is_ok(), "{four:?} {six:?}");
            Ok(fleet.packets(1, "cookie-sent")? > 0 && fleet.packets(2, "cookie-sent")? > 0)
        })
        .unwrap();
    let mut owners = BTreeMap::new();
    let mut before = [1, 2].map(|number| counted(&fleet, number));
    for (receiver, vip) in [(1, VIP), (1, VIP6), (2, VIP), (2, VIP6)] {
        fleet.route_by(receiver).unwrap();
        for nth in 0..4 {
            let outcome = fleet.get(vip).unwrap();
            let Outcome::Answered(200, name) = outcome else { panic!("request {nth} to {vip}: {outcome:?}") };
            let owner = if name == "node-1" { 0 } else { 1 };
            let after = [1, 2].map(|number| counted(&fleet, number));
            let grown = |node: usize, what: usize| after[node][what] - before[node][what];
            let seen = format!("{name} answered; {before:?} → {after:?}");
            assert!(grown(owner, 0) >= 1 && grown(owner, 1) >= 1, "its own cookie: {seen}");
            // The owner's origin is asked by connections with cookies, too, so its figures may grow by more than one.
            assert_eq!((grown(1 - owner, 0), grown(1 - owner, 1)), (0, 0), "nobody else: {seen}");
            assert_eq!((grown(0, 2), grown(1, 2)), (0, 0), "no proof went astray: {seen}");
            *owners.entry(name).or_insert(0) += 1;
            before = after;
        }
    }
    assert_eq!(owners.len(), 2, "both own flows: {owners:?}");
}

#[test]
fn what_the_setting_of_the_node_does_not_permit_is_said() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy("synProtection: Always")).unwrap();
    let process = node.run("run", &["--mode", "tc"]).unwrap();
    node.wait_served().unwrap();
    let said = "EdgePolicy edge: spec.synProtection = \"Always\" holds as Auto on this node: net.ipv4.tcp_syncookies is 1";
    let socket = node.folder.join("run.sock");
    let status = || node.tool(&["status", "--admin-socket", socket.to_str().unwrap()]);
    node.wait_for("the line in status", || Ok(status()?.contains(&format!("degraded: {said}")))).unwrap();
    assert!(status().unwrap().contains("syn cookies: while a queue is full; sent by tc 0"), "{:?}", status());
    assert!(process.log().contains("tcp_syncookies is 1; set it to 2"), "{}", process.log());
    node.node.enter(|| fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")).unwrap().unwrap();
    node.write("policy.yaml", &policy("synProtection: Always, deny: [203.0.113.0/24]")).unwrap();
    node.wait_for("the line to go", || Ok(!status()?.contains("synProtection"))).unwrap();
    assert!(status().unwrap().contains("syn cookies: for every connection"), "{:?}", status());
}
