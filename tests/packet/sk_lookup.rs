//! Which listening socket a connection reaches. The kernel cannot run this program on a packet of ours, so each test has
//! a network namespace where the program is attached and real connections are opened to addresses that nobody bound.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, PerCpuArray, SockMap};
use aya::programs::{SkLookup, SkReuseport};
use ingress_common::flow::{TCP, UDP, addr_of};
use ingress_common::maps::{GroupKey, GroupVal, ListenVal, LookupCount, VipKey, WorkerLoad};
use ingress_tests::netns::Namespace;
use ingress_userspace::bpf::object::OBJECT;
use ingress_userspace::listener::bind::{reserve, shared_socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

const VIP: &str = "198.18.100.1:80";
const VIP6: &str = "[2001:db8:100::1]:80";

/// This thread in a namespace of its own, with the program attached there.
struct Rig {
    ebpf: Ebpf,
    _namespace: Namespace,
}

impl Rig {
    fn new() -> Self {
        let namespace = Namespace::new("lookup").expect("a namespace; needs root");
        namespace.run("ip route add local 198.18.100.1 dev lo").unwrap();
        namespace.run("ip -6 route add local 2001:db8:100::1 dev lo").unwrap();
        let file = File::open(format!("/run/netns/{}", namespace.name())).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let mut ebpf = Ebpf::load(OBJECT.expect("run `cargo xtask build-ebpf` first")).unwrap();
        let program: &mut SkLookup = ebpf.program_mut("portcullis_sk").unwrap().try_into().unwrap();
        program.load().unwrap();
        program.attach(file).unwrap();
        Self { ebpf, _namespace: namespace }
    }

    fn listen(&mut self, key: VipKey, first_slot: u32, slots: u32) {
        self.listen_with_spare(key, (first_slot, slots), (0, 0));
    }

    fn listen_with_spare(
        &mut self,
        key: VipKey,
        (first_slot, slots): (u32, u32),
        (spare_slot, spare_slots): (u32, u32),
    ) {
        let mut listen: HashMap<_, VipKey, ListenVal> =
            HashMap::try_from(self.ebpf.map_mut("listen").unwrap()).unwrap();
        let value = ListenVal { first_slot, slots, spare_slot, spare_slots, port: 0, pad: 0 };
        listen.insert(key, value, 0).unwrap();
    }

    /// Attaches the program that moves waiting connections to the group of a listener, and names the heirs.
    fn inherit(&mut self, listener: &TcpListener, first_slot: u32, slots: u32) {
        let program: &mut SkReuseport = self.ebpf.program_mut("portcullis_move").unwrap().try_into().unwrap();
        program.load().unwrap();
        program.attach(listener).unwrap();
        let bound = listener.local_addr().unwrap();
        let key = GroupKey { port: bound.port(), family: if bound.is_ipv4() { 4 } else { 6 } };
        let mut groups: HashMap<_, GroupKey, GroupVal> =
            HashMap::try_from(self.ebpf.map_mut("groups").unwrap()).unwrap();
        groups.insert(key, GroupVal { first_slot, slots }, 0).unwrap();
    }

    /// What a proxy says of the worker behind a slot.
    fn publish(&mut self, slot: u32, published: u32) {
        let mut assigned: Array<_, WorkerLoad> =
            Array::try_from(self.ebpf.map_mut("assigned").unwrap()).unwrap();
        assigned.set(slot, WorkerLoad { published, assigned: 0 }, 0).unwrap();
    }

    fn place(&mut self, slot: u32, listener: &impl AsRawFd) {
        let mut socks = SockMap::try_from(self.ebpf.map_mut("socks").unwrap()).unwrap();
        socks.set(slot, listener, 0).unwrap();
    }

    fn counted(&self, slot: u32) -> LookupCount {
        let stats: PerCpuArray<_, LookupCount> =
            PerCpuArray::try_from(self.ebpf.map("lk_stats").unwrap()).unwrap();
        stats.get(&slot, 0).unwrap().iter().fold(LookupCount::default(), |sum, value| LookupCount {
            lookups: sum.lookups + value.lookups,
            misses: sum.misses + value.misses,
            errors: sum.errors + value.errors,
            moved: sum.moved + value.moved,
        })
    }
}

fn served(address: &str) -> VipKey {
    let address: SocketAddr = address.parse().unwrap();
    VipKey::served(addr_of(address.ip()), address.port(), TCP)
}

/// Listeners of one SO_REUSEPORT group on loopback, bound as the proxy does.
fn group(count: usize, loopback: SocketAddr) -> Vec<TcpListener> {
    let reserved = reserve(loopback).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    (0..count)
        .map(|_| {
            let listener = shared_socket(address, 128).unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
            listener
        })
        .collect()
}

fn v4_group(count: usize) -> Vec<TcpListener> {
    group(count, (Ipv4Addr::LOCALHOST, 0).into())
}

fn connect(address: &str) -> Result<TcpStream, ErrorKind> {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5))
        .map_err(|error| error.kind())
}

/// How many connections wait in a listener's queue. A connection over loopback is there once `connect` has returned.
fn accepted(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}

#[test]
fn connections_spread_over_a_range_with_holes() {
    let mut rig = Rig::new();
    let listeners = v4_group(3);
    let slots = [3, 7, 12];
    for (slot, listener) in slots.into_iter().zip(&listeners) {
        rig.place(slot, listener);
    }
    rig.listen(served(VIP), 0, 16);
    let streams: Vec<TcpStream> = (0..90).map(|_| connect(VIP).expect("a connection")).collect();
    assert!(streams.iter().all(|stream| stream.peer_addr().unwrap() == VIP.parse().unwrap()));
    let mut sum = 0;
    for (slot, listener) in slots.into_iter().zip(&listeners) {
        let count = accepted(listener);
        // Of 16 equally likely starting points the slots are the next socket for 7, 4 and 5: the smallest share is 22.
        assert!(count > 5, "slot {slot} got {count} of 90");
        assert_eq!(rig.counted(slot).lookups, count as u64);
        sum += count;
    }
    assert_eq!(sum, 90);
    assert_eq!((rig.counted(0).misses, rig.counted(3).errors), (0, 0));
}

#[test]
fn the_accepted_socket_shows_the_address_that_was_asked_for() {
    let mut rig = Rig::new();
    let listeners = v4_group(1);
    rig.place(0, &listeners[0]);
    rig.listen(served(VIP), 0, 1);
    let _stream = connect(VIP).unwrap();
    let (accepted, _) = listeners[0].accept().unwrap();
    assert_eq!(accepted.local_addr().unwrap(), VIP.parse().unwrap());
}

#[test]
fn a_closed_socket_leaves_its_slot_to_the_others() {
    let mut rig = Rig::new();
    let mut listeners = v4_group(2);
    rig.place(0, &listeners[0]);
    rig.place(1, &listeners[1]);
    rig.listen(served(VIP), 0, 2);
    drop(listeners.remove(0));
    let streams: Vec<_> = (0..20).map(|_| connect(VIP).expect("a connection")).collect();
    assert_eq!(accepted(&listeners[0]), streams.len());
}

#[test]
fn without_any_socket_the_kernel_goes_on_as_without_us() {
    let mut rig = Rig::new();
    rig.listen(served(VIP), 40, 10);
    assert_eq!(connect(VIP).unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.counted(40).misses, 1);
    let other = TcpListener::bind("0.0.0.0:80").unwrap();
    let _stream = connect(VIP).expect("whoever else listens on the port gets the connection");
    assert!(other.accept().is_ok());
}

#[test]
fn an_empty_range_is_no_range() {
    let mut rig = Rig::new();
    rig.listen(served(VIP), 0, 0);
    assert_eq!(connect(VIP).unwrap_err(), ErrorKind::ConnectionRefused);
}

#[test]
fn our_socket_goes_before_one_that_is_bound_to_the_port() {
    let mut rig = Rig::new();
    let other = TcpListener::bind("0.0.0.0:80").unwrap();
    other.set_nonblocking(true).unwrap();
    let listeners = v4_group(1);
    rig.place(0, &listeners[0]);
    rig.listen(served(VIP), 0, 1);
    let _stream = connect(VIP).unwrap();
    assert_eq!((accepted(&listeners[0]), accepted(&other)), (1, 0));
}

#[test]
fn other_ports_and_addresses_are_left_alone() {
    let mut rig = Rig::new();
    let listeners = v4_group(1);
    rig.place(0, &listeners[0]);
    rig.listen(served(VIP), 0, 1);
    assert_eq!(connect("198.18.100.1:81").unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(connect("127.0.0.1:80").unwrap_err(), ErrorKind::ConnectionRefused);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let _stream = connect(&other.local_addr().unwrap().to_string()).unwrap();
    assert!(other.accept().is_ok());
    assert_eq!(rig.counted(0), LookupCount::default());
}

#[test]
fn an_entry_for_a_port_goes_before_the_one_for_the_address() {
    let mut rig = Rig::new();
    let listeners = v4_group(2);
    rig.place(0, &listeners[0]);
    rig.place(1, &listeners[1]);
    rig.listen(served(VIP), 0, 1);
    rig.listen(VipKey::address(addr_of("198.18.100.1".parse().unwrap())), 1, 1);
    let _streams = [connect(VIP).unwrap(), connect("198.18.100.1:8443").unwrap()];
    assert_eq!((accepted(&listeners[0]), accepted(&listeners[1])), (1, 1));
}

#[test]
fn ipv6_connections_reach_ipv6_sockets() {
    let mut rig = Rig::new();
    let listeners = group(2, (Ipv6Addr::LOCALHOST, 0).into());
    rig.place(100, &listeners[0]);
    rig.place(101, &listeners[1]);
    rig.listen(served(VIP6), 100, 2);
    let streams: Vec<_> = (0..20).map(|_| connect(VIP6).expect("a connection")).collect();
    assert_eq!(accepted(&listeners[0]) + accepted(&listeners[1]), streams.len());
}

#[test]
fn a_socket_of_the_other_family_is_passed_over_and_counted() {
    let mut rig = Rig::new();
    let wrong = group(1, (Ipv6Addr::LOCALHOST, 0).into());
    let right = v4_group(1);
    rig.place(0, &wrong[0]);
    rig.place(1, &right[0]);
    rig.listen(served(VIP), 0, 2);
    let streams: Vec<_> = (0..20).map(|_| connect(VIP).expect("a connection")).collect();
    assert_eq!(accepted(&right[0]), streams.len());
    assert!(rig.counted(0).errors > 0, "an IPv6-only socket was tried");
}

#[test]
fn another_proxy_takes_over_at_once_when_no_socket_of_the_first_is_left() {
    let mut rig = Rig::new();
    let (mut first, spare) = (v4_group(2), v4_group(2));
    for (slot, listener) in [0, 1, 8, 9].into_iter().zip(first.iter().chain(&spare)) {
        rig.place(slot, listener);
    }
    rig.listen_with_spare(served(VIP), (0, 2), (8, 2));
    let before: Vec<_> = (0..20).map(|_| connect(VIP).unwrap()).collect();
    assert_eq!(first.iter().map(accepted).sum::<usize>(), before.len());
    first.clear();
    let after: Vec<_> = (0..20).map(|_| connect(VIP).unwrap()).collect();
    assert_eq!(spare.iter().map(accepted).sum::<usize>(), after.len());
    assert_eq!(rig.counted(0).misses, 0);
    drop(spare);
    assert_eq!(connect(VIP).unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.counted(0).misses, 1);
}

#[test]
fn of_eight_workers_the_fullest_stays_near_the_mean() {
    let mut rig = Rig::new();
    let listeners = v4_group(8);
    for (slot, listener) in (0..).zip(&listeners) {
        rig.place(slot, listener);
    }
    rig.listen(served(VIP), 0, 8);
    for run in 0..50 {
        (0..8).for_each(|slot| rig.publish(slot, 0));
        let _streams: Vec<_> = (0..64).map(|_| connect(VIP).unwrap()).collect();
        let counts: Vec<usize> = listeners.iter().map(accepted).collect();
        assert!(counts.iter().all(|count| *count <= 12), "run {run}: {counts:?}");
    }
}

#[test]
fn a_worker_that_is_busy_gets_nothing_while_another_is_not() {
    let mut rig = Rig::new();
    let listeners = v4_group(2);
    for (slot, listener) in (0..).zip(&listeners) {
        rig.place(slot, listener);
    }
    rig.listen(served(VIP), 0, 2);
    rig.publish(0, 100);
    rig.publish(1, 10);
    let _streams: Vec<_> = (0..30).map(|_| connect(VIP).unwrap()).collect();
    assert_eq!(listeners.iter().map(accepted).collect::<Vec<_>>(), [0, 30]);
}

/// Connections that wait in a socket that closes, over IPv4 and IPv6.
#[test]
fn connections_that_nobody_accepted_move_when_their_socket_closes() {
    for (vip, loopback) in [(VIP, Ipv4Addr::LOCALHOST.into()), (VIP6, Ipv6Addr::LOCALHOST.into())] {
        let mut rig = Rig::new();
        let mut old = group(4, SocketAddr::new(loopback, 0));
        let new = group(4, old[0].local_addr().unwrap());
        for (slot, listener) in (0..).zip(old.iter().chain(&new)) {
            rig.place(slot, listener);
        }
        rig.listen(served(vip), 0, 4);
        let mut streams: Vec<_> = (0..32).map(|_| connect(vip).unwrap()).collect();
        rig.listen(served(vip), 4, 4);
        rig.inherit(&new[0], 4, 4);
        // One by one, as a process that ends closes them: none may inherit from another.
        while let Some(listener) = old.pop() {
            drop(listener);
        }
        let counts: Vec<usize> = new
            .iter()
            .map(|listener| {
                std::iter::from_fn(|| listener.accept().ok())
                    .map(|(mut stream, _)| stream.write_all(b"new").unwrap())
                    .count()
            })
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), streams.len(), "{counts:?}");
        assert!(counts.iter().all(|count| *count <= 12), "evenly, too: {counts:?}");
        for stream in &mut streams {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "new");
        }
        assert_eq!((4..8).map(|slot| rig.counted(slot).moved).sum::<u64>(), 32);
    }
}

/// Sockets for datagrams of one SO_REUSEPORT group.
fn datagrams(count: usize, address: SocketAddr) -> Vec<UdpSocket> {
    let mut address = address;
    (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = UdpSocket::from(socket);
            address = socket.local_addr().unwrap();
            socket
        })
        .collect()
}

#[test]
fn datagrams_of_a_sender_meet_the_same_socket_and_senders_spread() {
    for (vip, loopback) in [(VIP, Ipv4Addr::LOCALHOST.into()), (VIP6, Ipv6Addr::LOCALHOST.into())] {
        let mut rig = Rig::new();
        let sockets = datagrams(4, SocketAddr::new(loopback, 0));
        for (slot, socket) in (20..).zip(&sockets) {
            rig.place(slot, socket);
        }
        let to: SocketAddr = vip.parse().unwrap();
        rig.listen(VipKey::served(addr_of(to.ip()), to.port(), UDP), 20, 4);
        let mut counts = [0; 4];
        for _ in 0..100 {
            let sender = UdpSocket::bind(SocketAddr::new(loopback, 0)).unwrap();
            (0..3).for_each(|_| assert_eq!(sender.send_to(b"x", to).unwrap(), 1));
            let received: Vec<usize> = sockets
                .iter()
                .map(|socket| std::iter::from_fn(|| socket.recv(&mut [0; 9]).ok()).count())
                .collect();
            let at = received.iter().position(|count| *count == 3);
            counts[at.unwrap_or_else(|| panic!("not all at one socket: {received:?}"))] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
        assert_eq!((20..24).map(|slot| rig.counted(slot).lookups).sum::<u64>(), 300);
    }
}

#[test]
fn datagrams_and_connections_to_the_same_port_are_told_apart() {
    let mut rig = Rig::new();
    let listeners = v4_group(1);
    let sockets = datagrams(1, (Ipv4Addr::LOCALHOST, 0).into());
    rig.place(0, &listeners[0]);
    rig.place(1, &sockets[0]);
    let to: SocketAddr = VIP.parse().unwrap();
    rig.listen(served(VIP), 0, 1);
    rig.listen(VipKey::served(addr_of(to.ip()), to.port(), UDP), 1, 1);
    let _stream = connect(VIP).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"x", to).unwrap();
    assert_eq!(accepted(&listeners[0]), 1);
    assert_eq!(sockets[0].recv(&mut [0; 9]).unwrap(), 1);
    assert_eq!((rig.counted(0).errors, rig.counted(1).errors), (0, 0));
}
