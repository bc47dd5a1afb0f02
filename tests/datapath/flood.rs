//! A flood of SYNs from sources that do not exist: who does exist notices nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use ingress_tests::node::{CLIENT, CLIENT6, Node, VIP, VIP6, policy};
use ingress_tests::packet::Packet;
use ingress_userspace::bpf::object::OBJECT;
use socket2::{Domain, Protocol, Socket, Type};

/// SYNs a second.
const RATE: u64 = 20_000;
/// How often that many begin anew.
const BATCH: Duration = Duration::from_millis(5);
/// IP headers are given by the sender.
const IPPROTO_RAW: i32 = 255;

/// The other end of the veth pair needs a program, or nothing that XDP sends back arrives; real interfaces do not.
fn pass_at_client(node: &Node) -> Ebpf {
    let mut ebpf = Ebpf::load(OBJECT.expect("run `cargo xtask build-ebpf` first")).unwrap();
    let program: &mut Xdp = ebpf.program_mut("portcullis_null").unwrap().try_into().unwrap();
    program.load().unwrap();
    node.client.enter(|| program.attach("eth0", XdpMode::Driver)).unwrap().unwrap();
    ebpf
}

fn spoofed(is_ipv6: bool, nth: u64) -> IpAddr {
    // Every source once in 65,536.
    let [high, low] = u16::try_from(nth & 0xffff).unwrap().to_be_bytes();
    if is_ipv6 {
        Ipv6Addr::from([0x20, 0x01, 0x0d, 0xb8, 0xf0, 0x0d, high, low, 0, 0, 0, 0, 0, 0, 0, 1]).into()
    } else {
        Ipv4Addr::new(198, 19, high, low).into()
    }
}

/// Sends SYNs to both VIPs, by turns, at the rate of the flood until told to stop.
fn flood(sent: &AtomicU64, stop: &AtomicBool) {
    let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
    let (four, six) = (raw(Domain::IPV4), raw(Domain::IPV6));
    let begun = Instant::now();
    let mut nth: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begun.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
        // What was missed is not made up for in one go.
        nth = nth.max(due.saturating_sub(RATE / 10));
        while nth < due {
            let is_ipv6 = nth % 2 == 1;
            let vip = if is_ipv6 { VIP6 } else { VIP };
            let source = spoofed(is_ipv6, nth / 2).to_string();
            let syn = Packet::syn(&source, vip, 80).source_port(1024 + u16::try_from(nth % 50_000).unwrap());
            let to = SocketAddr::new(vip.parse().unwrap(), 0).into();
            let socket = if is_ipv6 { &six } else { &four };
            // A full queue of the interface drops as a switch does.
            if socket.send_to(&syn.bytes_with_checksum()[14..], &to).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
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
    node.node
        .enter(|| std::fs::write("/proc/sys/net/core/somaxconn", "128"))
        .unwrap()
        .expect("the setting of the namespace");
    node.write("policy.yaml", &policy("limits: [{per: Source, connectionsPerSecond: 1000, burst: 1000}]"))
        .unwrap();
    node
}

#[test]
fn clients_get_their_answers_during_a_flood() {
    let node = node();
    let _pass = pass_at_client(&node);
    let _process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let received = counter(&node, "received");
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| node.client.enter(|| flood(&sent, &stop)).unwrap());
        node.wait_for("cookies", || Ok(cookies_sent(&node) > 1000)).unwrap();
        let before = sent.load(Ordering::Relaxed);
        for nth in 0..100 {
            for (source, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                let outcome = node.get(source, vip, 80).unwrap();
                assert!(outcome.is_ok(), "request {nth} to {vip}: {outcome:?}\n{}", node.logs());
            }
        }
        assert!(sent.load(Ordering::Relaxed) > before, "the flood went on meanwhile");
        stop.store(true, Ordering::Relaxed);
    });
    assert!(counter(&node, "received") > received, "some of them by a cookie");
    let text = node.tool(&["maps", "buckets", "--output", "json"]).unwrap();
    assert!(
        !text.contains("198.19.") && !text.contains("f00d"),
        "a bucket of a source that proved nothing: {text}"
    );
    for mode in ["sent_by_stack", "failed"] {
        println!("{mode}: {}", counter(&node, mode));
    }
    println!("SYNs {}, answered by the program {}", sent.load(Ordering::Relaxed), cookies_sent(&node));
}
