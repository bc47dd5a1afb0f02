//! Traffic that is not ours passes as if nothing were attached.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ingress_tests::node::{CLIENT, CLIENT6, NODE, NODE6, Node};

/// Bytes that do not repeat within a packet.
fn pattern(length: usize) -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn node_with_kernel_half() -> (Node, ingress_tests::node::Process) {
    let node = Node::new().unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    (node, process)
}

#[test]
fn datagrams_and_streams_to_the_node_arrive_unchanged() {
    let (node, _process) = node_with_kernel_half();
    for (client, own) in [(CLIENT, NODE), (CLIENT6, NODE6)] {
        let bind = |address: &str| SocketAddr::new(address.parse().unwrap(), 0);
        let receiver = node.node.enter(|| UdpSocket::bind(bind(own))).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = node.client.enter(|| UdpSocket::bind(bind(client))).unwrap().unwrap();
        let to = receiver.local_addr().unwrap();
        // The last is sent in fragments.
        for length in [0, 1, 18, 1000, 1400, 4000] {
            let sent = pattern(length);
            sender.send_to(&sent, to).unwrap();
            let mut buffer = vec![0; 65536];
            let (read, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(from, sender.local_addr().unwrap());
            assert_eq!(buffer[..read], sent, "{length} bytes to {own}");
        }

        let listener = node.node.enter(|| TcpListener::bind(bind(own))).unwrap().unwrap();
        let to = listener.local_addr().unwrap();
        let sent = pattern(1 << 20);
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut received = Vec::new();
                listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
                received
            });
            let mut stream = node.client.enter(|| TcpStream::connect(to)).unwrap().unwrap();
            stream.write_all(&sent).unwrap();
            drop(stream);
            reader.join().unwrap()
        });
        assert!(received == sent, "a stream to {own}");
    }
}
