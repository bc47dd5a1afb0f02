//! Who listens, by port: a row for each process that has sockets for it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use crate::bpf::sockets::{PortReport, SocketReport};
use crate::cli::text_table;

/// Addresses that a row names.
const NAMED: usize = 3;

pub(super) fn print(ports: &[PortReport], out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let head =
        ["served", "addresses", "process", "sockets", "open", "handed over", "moved", "refused", "missed"];
    let rows: Vec<_> = ports.iter().flat_map(rows).collect();
    text_table::print(out, &head, &rows)
}

fn rows(port: &PortReport) -> Vec<Vec<String>> {
    let served = match port.port {
        0 => format!("any/{}", port.protocol),
        number => format!("{number}/{}", port.protocol),
    };
    let addresses = addresses(&port.addresses);
    let first = by_process(&port.sockets).into_iter().map(|(pid, sockets)| (process(pid, ""), sockets));
    let beside =
        by_process(&port.beside).into_iter().map(|(pid, sockets)| (process(pid, ", waits"), sockets));
    let row = |(at, (process, sockets)): (usize, (String, Vec<SocketReport>))| {
        let sum = |of: fn(&SocketReport) -> u64| sockets.iter().map(of).sum::<u64>().to_string();
        vec![
            served.clone(),
            addresses.clone(),
            process,
            sockets.len().to_string(),
            sum(|socket| socket.open),
            sum(|socket| socket.handed_over),
            sum(|socket| socket.moved),
            sum(|socket| socket.refused),
            // Counted for all of them.
            if at == 0 { port.missed.to_string() } else { "-".to_owned() },
        ]
    };
    let rows: Vec<_> = first.chain(beside).enumerate().map(row).collect();
    if !rows.is_empty() {
        return rows;
    }
    let zero = || "0".to_owned();
    let none = "nobody; new connections are dropped".to_owned();
    vec![vec![served, addresses, none, zero(), zero(), zero(), zero(), zero(), port.missed.to_string()]]
}

fn by_process(sockets: &[SocketReport]) -> BTreeMap<Option<u32>, Vec<SocketReport>> {
    let mut processes: BTreeMap<_, Vec<SocketReport>> = BTreeMap::new();
    for socket in sockets {
        processes.entry(socket.pid).or_default().push(*socket);
    }
    processes
}

fn process(pid: Option<u32>, suffix: &str) -> String {
    pid.map_or_else(|| format!("none{suffix}"), |pid| format!("pid {pid}{suffix}"))
}

fn addresses(all: &[IpAddr]) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_with_sockets_for_a_port_has_a_row() {
        let socket = |slot, pid, handed_over| SocketReport {
            slot,
            pid: Some(pid),
            open: 1,
            handed_over,
            refused: 0,
            moved: 0,
        };
        let ips = |count: u8| (1..=count).map(|last| IpAddr::from([198, 18, 100, last])).collect();
        let ports = [
            PortReport {
                port: 80,
                protocol: "tcp",
                addresses: ips(5),
                missed: 5,
                sockets: vec![socket(0, 10, 7), socket(1, 10, 8)],
                beside: vec![socket(2, 20, 9)],
            },
            PortReport {
                port: 53,
                protocol: "udp",
                addresses: ips(1),
                missed: 0,
                sockets: vec![],
                beside: vec![],
            },
        ];
        let mut out = Vec::new();
        print(&ports, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let shared = "198.18.100.1, 198.18.100.2, 198.18.100.3 and 2 more";
        assert_eq!(lines[1], ["80/tcp", shared, "pid 10", "2", "2", "15", "0", "0", "5"], "{text}");
        assert_eq!(lines[2], ["80/tcp", shared, "pid 20, waits", "1", "1", "9", "0", "0", "-"], "{text}");
        assert_eq!(
            lines[3][..3],
            ["53/udp", "198.18.100.1", "nobody; new connections are dropped"],
            "{text}"
        );
    }
}
