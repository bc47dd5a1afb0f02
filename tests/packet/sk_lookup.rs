//! Which listening socket a connection reaches. The kernel cannot run this program on a packet of ours, so each test has
//! a network namespace where the program is attached and real connections are opened to addresses that nobody bound.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{HashMap, PerCpuArray, SockMap};
use aya::programs::SkLookup;
use ingress_common::flow::{TCP, addr_of};
use ingress_common::maps::{ListenVal, LookupCount, VipKey};
use ingress_tests::netns::Namespace;
use ingress_userspace::bpf::object::OBJECT;
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
        let mut listen: HashMap<_, VipKey, ListenVal> =
            HashMap::try_from(self.ebpf.map_mut("listen").unwrap()).unwrap();
        listen.insert(key, ListenVal { first_slot, slots, port: 0, pad: 0 }, 0).unwrap();
    }

    fn place(&mut self, slot: u32, listener: &TcpListener) {
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
        })
    }
}

fn served(address: &str) -> VipKey {
    let address: SocketAddr = address.parse().unwrap();
    VipKey::served(addr_of(address.ip()), address.port(), TCP)
}

/// Listeners of one SO_REUSEPORT group on loopback.
fn group(count: usize, loopback: SocketAddr) -> Vec<TcpListener> {
    let mut address = loopback;
    (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(128).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = TcpListener::from(socket);
            address = listener.local_addr().unwrap();
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
