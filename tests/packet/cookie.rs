//! SYN cookies: which SYNs are answered, by which bytes exactly, and who is charged for the connection.
//!
//! Each test has a network namespace, so that the kernel's setting is its own: 2 makes a cookie due for every SYN.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use ingress_common::flow::{TCP, addr_of};
use ingress_common::maps::{Limit, VipKey, VipVal};
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, Seen, Sent, XDP_TX, connections, model, nets, policy, pool};
use ingress_tests::netns::Namespace;
use ingress_tests::packet::{ACK, FIN, Packet, RST, SYN};
use ingress_userspace::model::edge::{EdgePolicy, SynProtection};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const VIP: &str = "198.18.100.1";
const VIP6: &str = "2001:db8:100::1";
const CLIENT: &str = "198.18.7.7";
const CLIENT6: &str = "2001:db8:7::7";
const EXEMPT: &str = "198.18.9.9";
/// Of the interface of a test run, which is the loopback of the namespace.
const MTU: u16 = 9000;
/// Of the packets that the harness builds.
const SEQUENCE: u32 = 0x1111_1111;
const HOUR_NS: u64 = 3_600_000_000_000;

/// This thread in a namespace of its own, where both VIPs have a listener.
struct Site {
    rig: Rig,
    _listeners: [TcpListener; 2],
    _namespace: Namespace,
}

fn site(setting: &str, policies: Vec<EdgePolicy>) -> Site {
    let namespace = Namespace::new("cookie").expect("a namespace; needs root");
    namespace.run(&format!("ip route add local {VIP} dev lo")).unwrap();
    namespace.run(&format!("ip link set lo mtu {MTU}")).unwrap();
    let file = File::open(format!("/run/netns/{}", namespace.name())).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", setting).expect("the setting of the namespace");
    let model = model(vec![pool("edge", &[VIP, VIP6])], policies);
    let mut rig = Rig::new(&model, &[], |contents| {
        // The kernel is asked about every SYN, so that each test knows which.
        for vip in contents.vips.values_mut().filter(|vip| vip.flags & VipVal::SYNCOOKIE != 0) {
            vip.flags |= VipVal::SYNCOOKIE_ALWAYS;
        }
        for limit in contents.limits.values_mut().filter(|limit| limit.rate_ns > 0) {
            let units = limit.burst_ns / limit.rate_ns;
            *limit = Limit { rate_ns: HOUR_NS, burst_ns: units * HOUR_NS, ..*limit };
        }
    });
    let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    rig.listen(format!("{VIP}:80").parse().unwrap(), 3, &four);
    rig.listen(format!("[{VIP6}]:80").parse().unwrap(), 4, &six);
    rig.attach_lookup(file);
    Site { rig, _listeners: [four, six], _namespace: namespace }
}

fn limited() -> EdgePolicy {
    let mut edge = policy("edge", Some("edge"));
    edge.limits = vec![connections(1, 3)];
    edge.exempt = nets(&["198.18.9.0/24"]);
    edge
}

/// A sum of 16-bit words as RFC 1071 has it; 0xffff for a header whose checksum is right.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Checks every byte of an answer to a SYN whose IP header begins at `ip`, but for the cookie, which it returns.
fn cookie_of(name: &str, syn: &[u8], ip: usize, answer: &[u8], segment: u16) -> u32 {
    assert_eq!(answer[..6], syn[6..12], "{name}: back to the sender's hardware address");
    assert_eq!(answer[6..12], syn[..6], "{name}: from ours");
    assert_eq!(answer[12..ip], syn[12..ip], "{name}: the same tags");
    let (addresses, tcp) = if answer[ip] >> 4 == 4 {
        let mut header = vec![0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, answer[ip + 10], answer[ip + 11]];
        header.extend(&syn[ip + 16..ip + 20]);
        header.extend(&syn[ip + 12..ip + 16]);
        assert_eq!(answer[ip..ip + 20], header, "{name}: the IPv4 header");
        assert_eq!(sum(&header), 0xffff, "{name}: its checksum");
        (header[12..].to_vec(), ip + 20)
    } else {
        let mut header = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
        header.extend(&syn[ip + 24..ip + 40]);
        header.extend(&syn[ip + 8..ip + 24]);
        assert_eq!(answer[ip..ip + 40], header, "{name}: the IPv6 header");
        (header[8..].to_vec(), ip + 40)
    };
    let segment = segment.to_be_bytes();
    let mut expected = vec![0, 80, 0xc0, 0x01];
    expected.extend(&answer[tcp + 4..tcp + 8]);
    expected.extend((SEQUENCE + 1).to_be_bytes());
    expected.extend([0x60, SYN | ACK]);
    expected.extend(64_240_u16.to_be_bytes());
    expected.extend([answer[tcp + 16], answer[tcp + 17], 0, 0, 2, 4]);
    expected.extend(segment);
    assert_eq!(answer[tcp..], expected, "{name}: the TCP header, and nothing after it");
    let pseudo = [addresses, vec![0, 6, 0, 24], expected].concat();
    assert_eq!(sum(&pseudo), 0xffff, "{name}: its checksum");
    u32::from_be_bytes(answer[tcp + 4..tcp + 8].try_into().unwrap())
}

fn answered(rig: &mut Rig, name: &str, frame: &[u8], ip: usize, segment: u16) -> u32 {
    let Sent { seen, verdict, output } = rig.send(frame);
    let vip = if frame[ip] >> 4 == 4 { VIP } else { VIP6 };
    assert_eq!(seen, Seen { vip_id: rig.vip_id(Some(vip)), reason: Reason::CookieSent }, "{name}");
    assert_eq!(verdict, XDP_TX, "{name}");
    cookie_of(name, frame, ip, &output, segment)
}

fn syn() -> Packet {
    Packet::syn(CLIENT, VIP, 80)
}

fn syn6() -> Packet {
    Packet::syn(CLIENT6, VIP6, 80)
}

#[test]
fn a_syn_is_turned_into_its_answer() {
    let mut cases: Vec<(String, Packet)> = vec![
        ("SYN".into(), syn()),
        ("IPv6".into(), syn6()),
        ("in a VLAN".into(), syn().vlan(0x8100)),
        ("in two VLANs".into(), syn().vlan(0x88a8).vlan(0x8100)),
        ("in a VLAN, IPv6".into(), syn6().vlan(0x8100)),
        ("in two VLANs, IPv6".into(), syn6().vlan(0x88a8).vlan(0x8100)),
        ("with data".into(), syn().data(100)),
        ("with much data, IPv6".into(), syn6().data(1000)),
        ("padded".into(), syn().padded(60)),
        ("with an IPv4 option".into(), syn().options(1)),
        ("with all IPv4 options".into(), syn().options(10)),
        ("with all options of both".into(), syn().options(10).tcp_options(&[1; 40])),
        ("after hop by hop".into(), syn6().extension(0, 1)),
        ("after two extensions".into(), syn6().extension(60, 3).extension(43, 1)),
        ("in an atomic fragment".into(), syn6().fragment(0, false)),
        ("do not fragment".into(), syn().fragment(0x4000, false)),
        ("a segment size".into(), syn().tcp_options(&[2, 4, 5, 0xb4])),
    ];
    for words in 0..=10 {
        cases.push((format!("{words} words of TCP options"), syn().tcp_options(&vec![1; words * 4])));
        cases.push((format!("{words} words of TCP options, IPv6"), syn6().tcp_options(&vec![1; words * 4])));
    }
    let mut site = site("2", vec![]);
    for hook in ["at XDP", "at TC"] {
        for (name, packet) in &cases {
            // Without both headers.
            let segment = if packet.is_ipv6() { MTU - 60 } else { MTU - 40 };
            let name = format!("{name} {hook}");
            answered(&mut site.rig, &name, &packet.bytes(), packet.link_len(), segment);
        }
        if hook == "at XDP" {
            site.rig = site.rig.at_tc();
        }
    }
}

#[test]
fn the_segment_size_is_that_of_the_address_where_it_has_one() {
    let mut site = site("2", vec![]);
    for (vip, packet) in [(VIP, syn()), (VIP6, syn6())] {
        let key = VipKey::served(addr_of(vip.parse().unwrap()), 80, TCP);
        let value = site.rig.contents.vips[&key];
        site.rig.set_vip(key, VipVal { mss: 1380, ..value });
        answered(&mut site.rig, vip, &packet.bytes(), 14, 1380);
    }
}

#[test]
fn what_cannot_be_answered_goes_to_the_stack() {
    let mut site = site("2", vec![]);
    for hook in ["at XDP", "at TC"] {
        let cases = [
            ("with FIN", Packet::tcp(CLIENT, VIP, 80, SYN | FIN).bytes(), Reason::Opened),
            ("with RST", Packet::tcp(CLIENT, VIP, 80, SYN | RST).bytes(), Reason::Opened),
            ("a first fragment", syn().data(60).fragment(0, true).bytes(), Reason::Opened),
            ("a first fragment, IPv6", syn6().data(60).fragment(0, true).bytes(), Reason::Opened),
            ("options that are not there", syn().tcp_options(&[1; 20]).cut(60).bytes(), Reason::Opened),
            ("the same, IPv6", syn6().tcp_options(&[1; 20]).cut(80).bytes(), Reason::Opened),
            (
                "options that the IP length leaves out",
                syn().tcp_options(&[1; 8]).transport_bytes(24).padded(70).bytes(),
                Reason::Opened,
            ),
            ("a port without a listener", Packet::syn(CLIENT, VIP, 443).bytes(), Reason::Opened),
            ("an ACK", Packet::tcp(CLIENT, VIP, 80, ACK).bytes(), Reason::Admitted),
            ("a SYN-ACK", Packet::tcp(CLIENT, VIP, 80, SYN | ACK).bytes(), Reason::Admitted),
        ];
        for (name, frame, reason) in cases {
            assert_eq!(site.rig.run(&frame).reason, reason, "{name} {hook}");
        }
        if hook == "at XDP" {
            site.rig = site.rig.at_tc();
        }
    }
}

#[test]
fn nothing_is_answered_while_no_cookie_is_due() {
    for setting in ["1", "0"] {
        let mut site = site(setting, vec![]);
        for packet in [syn(), syn6(), syn().tcp_options(&[1; 40])] {
            assert_eq!(site.rig.run(&packet.bytes()).reason, Reason::Opened, "tcp_syncookies = {setting}");
        }
    }
    let mut off = policy("off", Some("edge"));
    off.syn_protection = Some(SynProtection::Off);
    let mut site = site("2", vec![off.clone()]);
    assert_eq!(site.rig.run(&syn().bytes()).reason, Reason::Opened, "switched off");
    let mut always = policy("everywhere", None);
    always.syn_protection = Some(SynProtection::Always);
    let mut site = self::site("2", vec![off, always]);
    assert_eq!(site.rig.send(&syn().bytes()).seen.reason, Reason::CookieSent, "the strongest word holds");
}

#[test]
fn a_few_syns_are_asked_about_until_a_cookie_is_due() {
    let mut site = site("2", vec![]);
    for hook in ["at XDP", "at TC"] {
        let key = VipKey::served(addr_of(VIP.parse().unwrap()), 80, TCP);
        let value = site.rig.contents.vips[&key];
        site.rig.set_vip(key, VipVal { flags: value.flags & !VipVal::SYNCOOKIE_ALWAYS, ..value });
        site.rig.forget(0);
        let rounds = 20;
        let mut passed = 0;
        for _ in 0..rounds {
            while site.rig.send(&syn().bytes()).seen.reason != Reason::CookieSent {
                passed += 1;
            }
            for _ in 0..10 {
                assert_eq!(
                    site.rig.send(&syn().bytes()).seen.reason,
                    Reason::CookieSent,
                    "all from then on {hook}"
                );
            }
            site.rig.forget(0);
        }
        // One in eight, by chance: 140 are expected, and a number outside is one in millions.
        assert!((8..rounds * 8 * 3).contains(&passed), "{passed} {hook}");
        if hook == "at XDP" {
            site.rig = site.rig.at_tc();
        }
    }
}

#[test]
fn the_syn_of_a_connection_that_the_kernel_knows_is_the_kernels() {
    let mut site = site("1", vec![]);
    let stream =
        TcpStream::connect_timeout(&format!("{VIP}:80").parse().unwrap(), Duration::from_secs(5)).unwrap();
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").unwrap();
    let own = stream.local_addr().unwrap();
    let again = Packet::syn(&own.ip().to_string(), VIP, 80).source_port(own.port()).bytes();
    assert_eq!(site.rig.run(&again).reason, Reason::Opened);
    let another = Packet::syn(&own.ip().to_string(), VIP, 80).source_port(own.port() ^ 1).bytes();
    assert_eq!(site.rig.send(&another).seen.reason, Reason::CookieSent);
}

/// The segment by which a client proves that it got a cookie.
fn proof(source: &str, vip: &str, port: u16, cookie: u32) -> Vec<u8> {
    let packet = Packet::tcp(source, vip, 80, ACK).source_port(port);
    let mut frame = packet.bytes();
    let tcp = if packet.is_ipv6() { 54 } else { 34 };
    frame[tcp + 4..tcp + 8].copy_from_slice(&(SEQUENCE + 1).to_be_bytes());
    frame[tcp + 8..tcp + 12].copy_from_slice(&cookie.wrapping_add(1).to_be_bytes());
    frame
}

/// What becomes of the proofs of ten cookies.
fn proofs(rig: &mut Rig, source: &str, vip: &str) -> Vec<Reason> {
    (0..10)
        .map(|nth| {
            let port = 40_000 + nth;
            let Sent { seen, output, .. } = rig.send(&Packet::syn(source, vip, 80).source_port(port).bytes());
            assert_eq!(seen.reason, Reason::CookieSent, "SYN {nth} of {source}");
            let tcp = if source.contains(':') { 54 } else { 34 };
            let cookie = u32::from_be_bytes(output[tcp + 4..tcp + 8].try_into().unwrap());
            let forged = proof(source, vip, port, cookie.wrapping_add(0x0101_0101));
            assert_eq!(rig.run(&forged).reason, Reason::Admitted, "for the stack to refuse");
            rig.run(&proof(source, vip, port, cookie)).reason
        })
        .collect()
}

#[test]
fn the_proof_is_charged_and_not_the_syn() {
    let mut site = site("2", vec![limited()]);
    for hook in ["at XDP", "at TC"] {
        // Ten times the burst, and all of them answered.
        for _ in 0..30 {
            let frame = Packet::syn("198.18.8.8", VIP, 80).bytes();
            assert_eq!(site.rig.send(&frame).seen.reason, Reason::CookieSent, "{hook}");
        }
        assert_eq!(site.rig.buckets(), 0, "a source that proved nothing has no bucket {hook}");
        if hook == "at XDP" {
            site.rig = site.rig.at_tc();
        }
    }
    for (source, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        let mut expected = vec![Reason::Admitted; 3];
        expected.extend([Reason::OverLimit; 7]);
        assert_eq!(proofs(&mut site.rig, source, vip), expected, "{source}");
    }
    assert_eq!(proofs(&mut site.rig, EXEMPT, VIP), [Reason::Admitted; 10], "an exempt source");
}

#[test]
fn without_cookies_the_syn_is_charged() {
    let mut site = site("1", vec![limited()]);
    let frame = syn().bytes();
    let reasons: Vec<Reason> = (0..5).map(|_| site.rig.run(&frame).reason).collect();
    assert_eq!(reasons[..3], [Reason::Opened; 3]);
    assert_eq!(reasons[3..], [Reason::OverLimit; 2]);
}
