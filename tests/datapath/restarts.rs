//! Proxies replaced again and again under load: no client notices.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingress_tests::node::{CLIENT, CLIENT6, Node, Process, VIP, VIP6};

use crate::takeover::serving_pids;

/// `INGRESS_TEST_RESTARTS` sets another number.
const RESTARTS: usize = 12;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x.example.test\r\n\r\n";

/// Ends the load, also when the test fails.
pub(crate) struct End<'a>(pub(crate) &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Requests, each on a connection of its own, until told to stop: how many, and what failed.
pub(crate) fn fresh(node: &Node, (source, to): (&str, &str), stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut sent, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let outcome = node.get(source, to, 80).unwrap();
        if !outcome.is_ok() {
            failed.push(format!("{outcome:?}"));
        }
        sent += 1;
    }
    (sent, failed)
}

/// Requests one after the other on connections that stay open until the proxy says that it will close them.
pub(crate) fn kept(node: &Node, to: &str, stop: &AtomicBool) -> (usize, Vec<String>) {
    let to = SocketAddr::new(to.parse().unwrap(), 80);
    let work = || {
        let (mut sent, mut failed) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            match connection(to, stop, &mut sent) {
                Ok(()) => {}
                Err(error) => failed.push(format!("request {sent}: {error}")),
            }
        }
        (sent, failed)
    };
    node.client.enter(work).unwrap()
}

fn connection(to: SocketAddr, stop: &AtomicBool, sent: &mut usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    while !stop.load(Ordering::Relaxed) {
        *sent += 1;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"origin") {
            let mut part = [0; 1024];
            match stream.read(&mut part)? {
                0 => return Err(std::io::Error::other(String::from_utf8_lossy(&answer))),
                read => answer.extend_from_slice(&part[..read]),
            }
        }
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if !answer.starts_with("http/1.1 200") {
            return Err(std::io::Error::other(answer));
        }
        if answer.contains("connection: close") {
            break;
        }
    }
    Ok(())
}

#[test]
fn restarts_of_the_proxy_cost_no_request() {
    let number = std::env::var("INGRESS_TEST_RESTARTS");
    let restarts =
        number.map_or(RESTARTS, |number| number.parse().expect("INGRESS_TEST_RESTARTS is a number"));
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let mut serving = node.proxy("proxy-0").unwrap();
    node.wait_served().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (node, stop) = (&node, &stop);
        let loads = [
            scope.spawn(move || fresh(node, (CLIENT, VIP), stop)),
            scope.spawn(move || fresh(node, (CLIENT6, VIP6), stop)),
            scope.spawn(move || kept(node, VIP, stop)),
            scope.spawn(move || kept(node, VIP6, stop)),
        ];
        let _end = End(stop);
        let mut ending: Vec<Process> = Vec::new();
        for number in 1..=restarts {
            let next = node.proxy(&format!("proxy-{number}")).unwrap();
            let pid = u64::from(next.id());
            node.wait_for("the next proxy to serve", || Ok(serving_pids(node)? == [pid])).unwrap();
            let old = std::mem::replace(&mut serving, next);
            old.terminate().unwrap();
            ending.push(old);
            // Not all at once: an agent takes sixteen proxies at most.
            if ending.len() > 8 {
                assert!(ending.remove(0).wait().unwrap().success());
            }
        }
        for old in ending {
            assert!(old.wait().unwrap().success());
        }
        stop.store(true, Ordering::Relaxed);
        for load in loads {
            let (sent, failed) = load.join().unwrap();
            assert!(sent > restarts * 5, "only {sent} requests");
            assert_eq!(failed, Vec::<String>::new(), "of {sent} requests");
        }
    });
}
