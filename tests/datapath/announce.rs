//! One node of a pool tells neighbours that the VIPs are its own; what clients see when it dies, is lost or restarts.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ingress_tests::fleet::Fleet;
use ingress_tests::node::{Process, VIP, VIP6};
use socket2::{Domain, Protocol, Socket, Type};

use crate::steering;

/// How long a takeover may take.
const TAKEOVER: Duration = Duration::from_secs(3);
/// How long an agent may be silent, with what it takes until the others know and say so.
const SILENCE: Duration = Duration::from_secs(14);
/// A packet to a node that is gone is not waited for.
const SHORT: Duration = Duration::from_millis(200);

/// Nodes 1 to `count`; the client learned from its neighbours that node 1 has the VIPs.
fn fleet(count: usize) -> (Fleet, Vec<Process>) {
    let (fleet, processes) = steering::fleet(count, "");
    fleet.ask_neighbours().unwrap();
    moves_to(&fleet, 1);
    (fleet, processes)
}

/// Whether the client takes this node for the owner of both VIPs.
fn is_at(fleet: &Fleet, number: usize) -> bool {
    let mac = Some(fleet.mac(number).unwrap());
    [VIP, VIP6].iter().all(|vip| fleet.neighbour(vip).unwrap() == mac)
}

fn moves_to(fleet: &Fleet, number: usize) {
    fleet
        .wait_for(&format!("the VIPs to be at node {number}"), || {
            for vip in [VIP, VIP6] {
                fleet.get_within(vip, SHORT)?;
            }
            Ok(is_at(fleet, number))
        })
        .unwrap();
}

/// How long after `since` the client knows this node for the one that has each VIP and a new connection works, as does
/// every one from then on.
fn works_at(fleet: &Fleet, number: usize, since: Instant) -> [Duration; 2] {
    let mac = Some(fleet.mac(number).unwrap());
    let again = |vip: &str| {
        // A switch that does not know where a node is any more sends to all of them: an answer alone says nothing.
        loop {
            let (outcome, known) = (fleet.get_within(vip, SHORT).unwrap(), fleet.neighbour(vip).unwrap());
            if outcome.is_ok() && known == mac {
                break;
            }
            let has_time = since.elapsed() < 3 * TAKEOVER;
            assert!(has_time, "{vip}: {outcome:?} from {known:?} instead of {mac:?}\n{}", fleet.logs());
        }
        let took = since.elapsed();
        for _ in 0..20 {
            let outcome = fleet.get(vip).unwrap();
            assert!(outcome.is_ok(), "{vip}: {outcome:?}");
        }
        took
    };
    std::thread::scope(|scope| {
        let threads = [VIP, VIP6].map(|vip| scope.spawn(move || again(vip)));
        threads.map(|thread| thread.join().unwrap())
    })
}

fn assert_in_time(what: &str, took: [Duration; 2]) {
    println!("{what}: {took:?}");
    assert!(took.iter().all(|took| *took < TAKEOVER), "{what}: {took:?}");
}

#[test]
fn a_dead_node_is_replaced_within_three_seconds() {
    let (fleet, mut processes) = fleet(3);
    let first = processes.remove(0);
    fleet.unplug(1).unwrap();
    let died = Instant::now();
    first.kill();
    assert_in_time("takeover of a dead node", works_at(&fleet, 2, died));

    fleet.plug(1).unwrap();
    let _again = fleet.start(1, "node-1-again", &["--mode", "xdp-native"]).unwrap();
    works_at(&fleet, 1, Instant::now());
}

#[test]
fn a_node_that_was_cut_off_says_again_where_the_addresses_are() {
    let (fleet, mut processes) = fleet(2);
    fleet.unplug(1).unwrap();
    assert_in_time("takeover of a node that was cut off", works_at(&fleet, 2, Instant::now()));
    // It announced all the time, and nobody heard it.
    fleet.plug(1).unwrap();
    works_at(&fleet, 1, Instant::now());
    // Who stood in for it can die now.
    fleet.unplug(2).unwrap();
    processes.remove(1).kill();
    for _ in 0..10 {
        for vip in [VIP, VIP6] {
            fleet.get_within(vip, SHORT).unwrap();
        }
    }
    works_at(&fleet, 1, Instant::now());
}

#[test]
fn a_node_without_agent_goes_on_for_ten_seconds_and_another_takes_its_addresses() {
    let (fleet, mut processes) = fleet(2);
    processes.remove(0).kill();
    let died = Instant::now();
    let mut requests = 0;
    while !is_at(&fleet, 2) {
        assert!(died.elapsed() < SILENCE, "still at node 1\n{}", fleet.logs());
        for vip in [VIP, VIP6] {
            let outcome = fleet.get(vip).unwrap();
            assert!(outcome.is_ok(), "{vip} after {:?} and {requests} requests: {outcome:?}", died.elapsed());
            requests += 1;
        }
    }
    assert!(died.elapsed() > Duration::from_secs(9), "it moved after {:?}", died.elapsed());
    // The kernel half of node 1 hears the questions, and keeps quiet.
    let quiet = fleet.packets(1, "silenced").unwrap();
    fleet.client.run("ip neigh flush dev eth0").unwrap();
    works_at(&fleet, 2, Instant::now());
    assert!(fleet.packets(1, "silenced").unwrap() > quiet);
}

#[test]
fn a_restart_in_place_moves_no_address() {
    let (fleet, mut processes) = fleet(2);
    let (second, first) = (processes.remove(1), processes.remove(0));
    let heard = second.log().len();
    first.kill();
    let next = fleet.start(1, "node-1-killed", &["--mode", "xdp-native"]).unwrap();
    fleet.wait_for("the next process to serve", || Ok(next.log().contains("data plane is up"))).unwrap();
    works_at(&fleet, 1, Instant::now());
    next.stop().unwrap();
    let last = fleet.start(1, "node-1-stopped", &["--mode", "xdp-native"]).unwrap();
    fleet.wait_for("the last process to serve", || Ok(last.log().contains("data plane is up"))).unwrap();
    // Longer than it takes to miss a node.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        works_at(&fleet, 1, Instant::now());
    }
    let said = &second.log()[heard..];
    assert!(!said.contains("announced pools changed"), "{said}");
}

#[test]
fn pings_are_answered_where_they_arrive() {
    let (fleet, _processes) = fleet(2);
    for vip in [VIP, VIP6] {
        fleet.client.enter(|| ping(vip.parse().unwrap())).unwrap().unwrap();
    }
    assert_eq!(fleet.packets(1, "echo-answered").unwrap(), 2);
    assert_eq!(fleet.packets(2, "echo-answered").unwrap(), 0);
    assert!(fleet.packets(1, "announced").unwrap() >= 2);
    assert_eq!(fleet.packets(2, "announced").unwrap(), 0);
}

/// Sends an echo request and waits for its answer, whose checksum the kernel has judged.
fn ping(to: IpAddr) -> std::io::Result<()> {
    let (protocol, request, reply) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Protocol::ICMPV6, 128, 129),
    };
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
    let to = SocketAddr::new(to, 0);
    let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(&to.into())?;
    // Type, code, checksum and identifier by the kernel, number; then data.
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 7];
    message.extend(b"who is there");
    socket.write_all(&message)?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer)?;
    assert_eq!((answer[0], &answer[6..length]), (reply, &message[6..]));
    Ok(())
}
