//! Interfaces, ports that others listen on, and settings of the network stack.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ingress_common::tunnel;

use super::{Finding, read};
use crate::bpf::interfaces::{Interface, XdpMode};

/// Drivers that run XDP themselves, as far as is known.
const NATIVE: &[&str] = &[
    "atlantic",
    "bnxt_en",
    "bonding",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "enetc",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_core",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netvsc",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "thunder-nicvf",
    "tsnep",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
    "xen-netfront",
    "xen_netfront",
];
/// A frame that fits one page beside what XDP needs of it: longer ones need a driver that handles several buffers.
const ONE_BUFFER: u32 = 3_498;
/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

pub(super) fn findings(all: &[Interface], wanted: &[String], ports: &[u16]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in wanted.iter().filter(|name| all.iter().all(|interface| interface.name != **name)) {
        let found = format!("{name} does not exist");
        findings.push(Finding::fail("interface", found, "correct --interface"));
    }
    let is_ours = |interface: &&Interface| {
        if wanted.is_empty() { interface.is_of_node() } else { wanted.contains(&interface.name) }
    };
    let ours: Vec<&Interface> = all.iter().filter(is_ours).collect();
    if ours.is_empty() && wanted.is_empty() {
        let fix = "name the interfaces that clients come in by with --interface";
        findings.push(Finding::fail("interface", "none carries an address of the node", fix));
    }
    for interface in &ours {
        let folder = Path::new("/sys/class/net").join(&interface.name);
        // In a network namespace the folder may show another one's interfaces.
        let is_shown = read(folder.join("ifindex")).is_some_and(|index| index == interface.index.to_string());
        let driver = is_shown.then(|| driver(&folder)).flatten();
        let mtu = is_shown.then(|| read(folder.join("mtu"))?.parse().ok()).flatten();
        findings.push(xdp(interface, driver.as_deref(), mtu));
        findings.push(reverse_path(
            &interface.name,
            &read_rp_filter("all"),
            &read_rp_filter(&interface.name),
        ));
    }
    findings.extend(vlan(&fs::read_dir("/proc/net/vlan").map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
    )));
    let sockets = |name: &str| read(Path::new("/proc/self/net").join(name)).unwrap_or_default();
    let tcp = [sockets("tcp"), sockets("tcp6")].join("\n");
    for port in ports {
        findings.push(port_of_others(*port, &listeners(&tcp, *port, LISTEN)));
    }
    let udp = [sockets("udp"), sockets("udp6")].join("\n");
    findings.push(tunnel_port(&listeners(&udp, tunnel::PORT, "07")));
    findings.push(conntrack(
        read("/proc/sys/net/netfilter/nf_conntrack_count").as_deref(),
        read("/proc/sys/net/netfilter/nf_conntrack_max").as_deref(),
    ));
    findings
}

/// The driver behind a folder of /sys/class/net; `None`: made in software.
fn driver(folder: &Path) -> Option<String> {
    let link = fs::read_link(folder.join("device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn xdp(interface: &Interface, driver: Option<&str>, mtu: Option<u32>) -> Finding {
    let name = &interface.name;
    let check = "XDP";
    let known = driver.map_or_else(|| "driver not known".to_owned(), |driver| format!("driver {driver}"));
    let known = mtu.map_or_else(|| known.clone(), |mtu| format!("{known}, MTU {mtu}"));
    if let Some(xdp) = interface.xdp {
        let program = xdp.program;
        return match xdp.mode {
            XdpMode::Native => {
                Finding::ok(check, format!("{name} runs program {program} in the driver ({known})"))
            }
            XdpMode::Generic => Finding::warn(
                check,
                format!("{name} runs program {program} in the stack, which is slower ({known})"),
                "use a NIC whose driver has XDP; check MTU and offloads (LRO off)",
            ),
        };
    }
    if interface.nature.is_bare {
        let found = format!("{name} carries packets without Ethernet headers");
        return Finding::fail(
            check,
            found,
            "clients must come in by another interface; name it with --interface",
        );
    }
    match (driver, mtu) {
        (Some(driver), _) if !NATIVE.contains(&driver) => Finding::warn(
            check,
            format!("{name}: {known} is not known to have XDP; xdp-generic works and is slower"),
            "use a NIC whose driver has XDP",
        ),
        (_, Some(mtu)) if mtu > ONE_BUFFER => Finding::warn(
            check,
            format!("{name}: {known}; frames this long need a driver that handles several buffers"),
            format!("where xdp-native is refused, an MTU up to {ONE_BUFFER} helps"),
        ),
        _ => Finding::ok(check, format!("{name}: {known}")),
    }
}

fn read_rp_filter(name: &str) -> String {
    read(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default()
}

/// The larger of the two holds; 1 drops packets whose answers would leave elsewhere.
fn reverse_path(name: &str, all: &str, own: &str) -> Finding {
    let number = |text: &str| text.parse::<u8>().unwrap_or(0);
    match number(all).max(number(own)) {
        1 => Finding::warn(
            "rp_filter",
            format!("strict on {name}: packets of clients that are reached by another interface are dropped"),
            format!("write 2 to /proc/sys/net/ipv4/conf/{name}/rp_filter"),
        ),
        _ => Finding::ok("rp_filter", format!("not strict on {name}")),
    }
}

/// Names of VLAN interfaces: their tags may be taken off before a program sees them.
fn vlan(names: &[String]) -> Option<Finding> {
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "config").collect();
    if names.is_empty() {
        return None;
    }
    let found = format!("{} carry tags; a NIC that takes tags off hides them from XDP", names.join(", "));
    let fix = "run `ethtool -K NIC rxvlan off` where VIPs are reached by a VLAN";
    Some(Finding::warn("VLAN offload", found, fix))
}

/// Sockets of /proc/net/tcp or udp on this port: the local address and the number of the socket.
fn listeners(table: &str, port: u16, state: &str) -> Vec<(IpAddr, u64)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, hex) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == state;
        is_it.then(|| Some((address_of(address)?, fields.get(9)?.parse().ok()?)))?
    };
    table.lines().filter_map(parse).collect()
}

/// Words in the order of the machine, as the kernel prints them.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let (bytes, _) = words.as_flattened().split_first_chunk::<16>()?;
    Some(Ipv6Addr::from(*bytes).into())
}

fn port_of_others(port: u16, listeners: &[(IpAddr, u64)]) -> Finding {
    let check = "port";
    if listeners.is_empty() {
        return Finding::ok(check, format!("nobody listens on TCP {port}"));
    }
    let who: Vec<String> = listeners.iter().map(|(address, socket)| who(*address, *socket)).collect();
    let found = format!("TCP {port} is listened on: {}", who.join(", "));
    if listeners.iter().all(|(_, socket)| is_ours(*socket)) {
        return Finding::ok(check, found);
    }
    let fix = "kernel modes take new connections before it does; userspace mode cannot: end it when the change is made";
    Finding::warn(check, found, fix)
}

fn is_ours(socket: u64) -> bool {
    process_of(socket).is_some_and(|name| name == "portcullis")
}

fn who(address: IpAddr, socket: u64) -> String {
    match process_of(socket) {
        Some(name) => format!("{address} by {name}"),
        None => address.to_string(),
    }
}

fn tunnel_port(listeners: &[(IpAddr, u64)]) -> Finding {
    let port = tunnel::PORT;
    match listeners {
        [] => Finding::ok("tunnel port", format!("nobody uses UDP {port}")),
        // Our own agent sends its probes from there.
        [(address, socket), ..] if is_ours(*socket) => {
            Finding::ok("tunnel port", format!("UDP {port} is used: {}", who(*address, *socket)))
        }
        [(address, socket), ..] => Finding::fail(
            "tunnel port",
            format!("UDP {port} is used: {}", who(*address, *socket)),
            "end it: packets of other nodes come to this port",
        ),
    }
}

/// The name of the process that holds a socket, if it can be seen.
fn process_of(socket: u64) -> Option<String> {
    let wanted = format!("socket:[{socket}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.to_string_lossy() == wanted) {
            return read(process.path().join("comm"));
        }
    }
    None
}

fn conntrack(count: Option<&str>, most: Option<&str>) -> Finding {
    const CHECK: &str = "conntrack";
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let (Some(count), Some(most)) = (number(count), number(most)) else {
        return Finding::ok(CHECK, "not in use");
    };
    let found = format!("{count} of {most} entries");
    let fix = "raise net.netfilter.nf_conntrack_max, or exempt the served addresses by `notrack` rules";
    match count.saturating_mul(100).checked_div(most).unwrap_or(100) {
        90.. => Finding::fail(CHECK, format!("{found}: new connections will be dropped"), fix),
        50.. => Finding::warn(CHECK, found, fix),
        _ => Finding::ok(CHECK, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::bpf::interfaces::{AttachedXdp, Nature};

    fn eth0(xdp: Option<XdpMode>) -> Interface {
        Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![IpAddr::from([198, 18, 0, 1])],
            xdp: xdp.map(|mode| AttachedXdp { program: 7, mode }),
            nature: Nature { is_up: true, ..Nature::default() },
        }
    }

    #[test]
    fn an_interface_is_judged_by_what_runs_then_by_driver_and_mtu() {
        assert_eq!(xdp(&eth0(Some(XdpMode::Native)), Some("e1000e"), None).level, Level::Ok);
        assert_eq!(xdp(&eth0(Some(XdpMode::Generic)), Some("ice"), None).level, Level::Warn);
        assert_eq!(xdp(&eth0(None), Some("ice"), Some(1_500)).found, "eth0: driver ice, MTU 1500");
        assert_eq!(xdp(&eth0(None), Some("e1000e"), Some(1_500)).level, Level::Warn);
        assert_eq!(xdp(&eth0(None), Some("ice"), Some(9_000)).level, Level::Warn);
        let mut bare = eth0(None);
        bare.nature.is_bare = true;
        assert_eq!(xdp(&bare, None, None).level, Level::Fail);
    }

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
             2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n";
        let expected = [(IpAddr::from([127, 0, 0, 1]), 4711), (IpAddr::from(Ipv6Addr::UNSPECIFIED), 4713)];
        assert_eq!(listeners(table, 80, LISTEN), expected);
        assert!(listeners(table, 443, LISTEN).is_empty());
        assert_eq!(port_of_others(443, &[]).level, Level::Ok);
        assert_eq!(port_of_others(80, &[(IpAddr::from([127, 0, 0, 1]), u64::MAX)]).level, Level::Warn);
        assert_eq!(tunnel_port(&[(IpAddr::from([0, 0, 0, 0]), u64::MAX)]).level, Level::Fail);
    }

    #[test]
    fn settings_of_the_stack_are_judged() {
        assert_eq!(reverse_path("eth0", "0", "1").level, Level::Warn);
        assert_eq!(reverse_path("eth0", "2", "1").level, Level::Ok, "the larger holds");
        assert_eq!(conntrack(Some("10"), Some("100")).level, Level::Ok);
        assert_eq!(conntrack(Some("60"), Some("100")).level, Level::Warn);
        assert_eq!(conntrack(Some("95"), Some("100")).level, Level::Fail);
        assert_eq!(conntrack(None, None).level, Level::Ok);
        assert_eq!(vlan(&["config".to_owned()]), None);
        assert_eq!(vlan(&["config".to_owned(), "eth0.7".to_owned()]).unwrap().level, Level::Warn);
    }
}
