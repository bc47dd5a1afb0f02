//! The client's end of the wire: every segment that comes from a VIP, with the hardware address of the node that sent it,
//! and segments of our own making.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ingress_tests::node::{VIP, VIP6};
use ingress_tests::packet::Packet;
use socket2::{Domain, Protocol, Socket, Type};

use super::Mac;

/// Every protocol, in network byte order (linux/if_ether.h).
const ETH_P_ALL: i32 = 0x0300;
/// IP headers are given by the sender.
const IPPROTO_RAW: i32 = 255;
const ETHERNET: usize = 14;
/// How long a segment may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A segment from port 80 of a VIP.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The node that sent it.
    pub(crate) from: Mac,
    /// The client's side of the connection.
    pub(crate) to: SocketAddr,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) data: Vec<u8>,
}

/// The wire of the namespace in which this was made.
pub(crate) struct Wire {
    ear: Socket,
    four: Socket,
    six: Socket,
    heard: Vec<Segment>,
}

impl Wire {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)));
        let ear = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ETH_P_ALL)))?;
        ear.set_nonblocking(true)?;
        Ok(Self { ear, four: raw(Domain::IPV4)?, six: raw(Domain::IPV6)?, heard: Vec::new() })
    }

    pub(crate) fn send(&self, packet: &Packet, to: &str) -> anyhow::Result<()> {
        let to: IpAddr = to.parse()?;
        let frame = packet.bytes_with_checksum();
        let socket = if to.is_ipv6() { &self.six } else { &self.four };
        let bytes = frame.get(ETHERNET..).context("an IP packet")?;
        socket.send_to(bytes, &SocketAddr::new(to, 0).into())?;
        Ok(())
    }

    /// What was heard since [`Wire::forget`].
    pub(crate) fn heard(&mut self) -> anyhow::Result<&[Segment]> {
        let mut frame = vec![0; 65_536];
        loop {
            match (&self.ear).read(&mut frame) {
                Ok(length) => self.heard.extend(frame.get(..length).and_then(segment)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(&self.heard),
                Err(error) => bail!("listening at the wire: {error}"),
            }
        }
    }

    pub(crate) fn forget(&mut self) -> anyhow::Result<()> {
        self.heard()?;
        self.heard.clear();
        Ok(())
    }

    /// Waits for a segment to this side of a connection.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        to: SocketAddr,
        is_it: impl Fn(&Segment) -> bool,
    ) -> anyhow::Result<Segment> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.heard()?.iter().find(|segment| segment.to == to && is_it(segment));
            if let Some(segment) = found {
                return Ok(segment.clone());
            }
            if Instant::now() > deadline {
                let heard: Vec<_> = self.heard()?.iter().filter(|segment| segment.to == to).collect();
                bail!("waited {PATIENCE:?} for {what} to {to}; heard {heard:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads a frame; `None`: it does not come from a VIP.
fn segment(frame: &[u8]) -> Option<Segment> {
    const TCP: u8 = 6;
    let from = frame.get(6..12)?.try_into().ok()?;
    let ip = frame.get(ETHERNET..)?;
    let (source, to, protocol, header, length) = match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => (
            IpAddr::from(octets::<4>(ip, 12)?),
            IpAddr::from(octets::<4>(ip, 16)?),
            *ip.get(9)?,
            usize::from(ip.first()? & 15) * 4,
            usize::from(u16::from_be_bytes(octets(ip, 2)?)),
        ),
        [0x86, 0xdd] => (
            IpAddr::from(octets::<16>(ip, 8)?),
            IpAddr::from(octets::<16>(ip, 24)?),
            *ip.get(6)?,
            40,
            40 + usize::from(u16::from_be_bytes(octets(ip, 4)?)),
        ),
        _ => return None,
    };
    if protocol != TCP || ![VIP, VIP6].iter().any(|vip| vip.parse() == Ok(source)) {
        return None;
    }
    // Ethernet pads short frames.
    let tcp = ip.get(header..length)?;
    let data = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from,
        to: SocketAddr::new(to, u16::from_be_bytes(octets(tcp, 2)?)),
        flags: *tcp.get(13)?,
        sequence: u32::from_be_bytes(octets(tcp, 4)?),
        data: tcp.get(data..)?.to_vec(),
    })
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
