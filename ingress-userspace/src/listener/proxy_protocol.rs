//! The PROXY protocol, versions 1 and 2: a load balancer says who is behind the connection, before its first byte.
//!
//! Strict: what is not exactly a header is none, and a connection without one is closed. Nothing is taken from the socket
//! but the header. Checksums and other extensions of version 2 are checked for their bounds only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::peek::{Look, peek};

/// The longest header of version 1, with its line end.
const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is read, extensions included, as in nginx.
const LONGEST_V2: usize = 4096;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length.
    pub length: usize,
    /// The client, and the address that it connected to; `None`: the sender speaks for itself, or does not know.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They do not begin like one.
    #[error("connection does not begin with a PROXY header")]
    Absent,
    /// It is longer than any.
    #[error("PROXY header is too long")]
    TooLong,
    /// Its parts are not as they must be.
    #[error("PROXY header is malformed")]
    Malformed,
}

/// Reads a header from the first bytes of a connection. `Ok(None)`: more of it is needed.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted);
    if begins(SIGNATURE) {
        if bytes.len() < SIGNATURE.len() { Ok(None) } else { parse_v2(bytes) }
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(HeaderError::Absent)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let searched = bytes.get(..LONGEST_V1).unwrap_or(bytes);
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= LONGEST_V1 { Err(HeaderError::TooLong) } else { Ok(None) };
    };
    let line =
        searched.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(HeaderError::Malformed)?;
    let length = end + 2;
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words.as_slice() {
        // What follows is ignored, whatever it is.
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            Some((pair(address(source), from)?, pair(address(destination), to)?))
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            Some((pair(address(source), from)?, pair(address(destination), to)?))
        }
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some(Header { length, addresses }))
}

fn pair(address: Option<IpAddr>, port: &str) -> Result<SocketAddr, HeaderError> {
    let is_plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let has_leading_zero = port.len() > 1 && port.starts_with('0');
    let port = port.parse::<u16>().ok().filter(|_| is_plain && !has_leading_zero);
    match (address, port) {
        (Some(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        _ => Err(HeaderError::Malformed),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let length = 16 + rest;
    if length > LONGEST_V2 {
        return Err(HeaderError::TooLong);
    }
    let Some(payload) = bytes.get(16..length) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Malformed),
    };
    let (addresses, extensions) = match family {
        0x11 | 0x12 => {
            let parts = payload.split_first_chunk::<12>().ok_or(HeaderError::Malformed)?;
            let &[a, b, c, d, e, f, g, h, p, q, r, s] = parts.0;
            let source = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q]));
            let destination = (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([r, s]));
            (Some((SocketAddr::from(source), SocketAddr::from(destination))), parts.1)
        }
        0x21 | 0x22 => {
            let (source, rest) = payload.split_first_chunk::<16>().ok_or(HeaderError::Malformed)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(HeaderError::Malformed)?;
            let (&[p, q, r, s], rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Malformed)?;
            let source = (Ipv6Addr::from(*source), u16::from_be_bytes([p, q]));
            let destination = (Ipv6Addr::from(*destination), u16::from_be_bytes([r, s]));
            (Some((SocketAddr::from(source), SocketAddr::from(destination))), rest)
        }
        // Unix sockets have paths instead of addresses.
        0x31 | 0x32 => (None, payload.get(216..).ok_or(HeaderError::Malformed)?),
        // Unspecified: whatever follows is to be skipped.
        0x00 => (None, &[][..]),
        _ => return Err(HeaderError::Malformed),
    };
    check_extensions(extensions)?;
    Ok(Some(Header { length, addresses: addresses.filter(|_| !is_local) }))
}

/// Type, length, value, one after the other to the end.
fn check_extensions(mut rest: &[u8]) -> Result<(), HeaderError> {
    while !rest.is_empty() {
        let Some((&[_, high, low], values)) = rest.split_first_chunk::<3>() else {
            return Err(HeaderError::Malformed);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = values.get(length..).ok_or(HeaderError::Malformed)?;
    }
    Ok(())
}

/// Takes the header from a connection.
pub async fn read(stream: &TcpStream, within: Duration) -> io::Result<Header> {
    let look = |bytes: &[u8]| match parse(bytes) {
        Ok(Some(header)) => Look::Seen(Ok(header)),
        Ok(None) => Look::More,
        Err(error) => Look::Seen(Err(error)),
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no PROXY header in time");
    let header = timeout(within, peek(stream, LONGEST_V2, look)).await.map_err(|_elapsed| late())??;
    let header = header.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    // All of it is there: it was seen.
    let mut left = vec![0; header.length];
    let mut at = 0;
    while let Some(room) = left.get_mut(at..).filter(|room| !room.is_empty()) {
        match stream.try_read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn addresses(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn version_1_is_read_and_nothing_behind_it() {
        let four = b"PROXY TCP4 198.18.0.1 198.18.0.2 56324 443\r\nGET / HTTP/1.1\r\n";
        let read = parse(four).unwrap().unwrap();
        assert_eq!(read, Header { length: 44, addresses: addresses("198.18.0.1:56324", "198.18.0.2:443") });
        let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        assert_eq!(
            parse(six).unwrap().unwrap().addresses,
            addresses("[2001:db8::1]:1", "[2001:db8::2]:65535")
        );
        for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 x y z\r\n"] {
            assert_eq!(parse(unknown).unwrap().unwrap().addresses, None);
        }
    }

    #[test]
    fn version_1_is_strict() {
        for bad in [
            "PROXY TCP4 198.18.0.1 198.18.0.2 56324\r\n",
            "PROXY TCP4 198.18.0.1 198.18.0.2 56324 443 \r\n",
            "PROXY  TCP4 198.18.0.1 198.18.0.2 56324 443\r\n",
            "PROXY TCP4 198.18.0.1 198.18.0.2 65536 443\r\n",
            "PROXY TCP4 198.18.0.1 198.18.0.2 +1 443\r\n",
            "PROXY TCP4 198.18.0.1 198.18.0.2 01 443\r\n",
            "PROXY TCP4 198.018.0.1 198.18.0.2 1 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
            "PROXY TCP6 198.18.0.1 198.18.0.2 1 443\r\n",
            "PROXY UDP4 198.18.0.1 198.18.0.2 1 443\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(HeaderError::Malformed), "{bad:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(107));
        assert_eq!(parse(long.as_bytes()), Err(HeaderError::TooLong));
        for other in ["GET / HTTP/1.1\r\n", "\r\n\r\nGET", "\x16\x03\x01", "proxy TCP4", "X"] {
            assert_eq!(parse(other.as_bytes()), Err(HeaderError::Absent), "{other:?}");
        }
    }

    #[test]
    fn version_2_is_read_with_its_extensions() {
        let mut payload = vec![198, 18, 0, 1, 198, 18, 0, 2, 0x30, 0x39, 1, 187];
        payload.extend([4, 0, 1, 0xff, 5, 0, 0]);
        let bytes = v2(0x21, 0x11, &payload);
        let read = parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (read.length, read.addresses),
            (bytes.len(), addresses("198.18.0.1:12345", "198.18.0.2:443"))
        );
        assert_eq!(parse(&v2(0x20, 0x11, &payload)).unwrap().unwrap().addresses, None, "local");
        assert_eq!(parse(&v2(0x21, 0x00, &[1, 2, 3])).unwrap().unwrap().addresses, None, "unspecified");
        let mut six = [0_u8; 36];
        (six[0], six[15], six[31], six[33], six[35]) = (0x20, 1, 2, 7, 80);
        assert_eq!(
            parse(&v2(0x21, 0x21, &six)).unwrap().unwrap().addresses,
            addresses("[2000::1]:7", "[::2]:80")
        );
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])).unwrap().unwrap().addresses, None, "unix");
    }

    #[test]
    fn version_2_has_bounds() {
        let payload = [198, 18, 0, 1, 198, 18, 0, 2, 0x30, 0x39, 1, 187];
        let with = |more: &[u8]| [&payload[..], more].concat();
        for (name, bytes) in [
            ("version", v2(0x11, 0x11, &payload)),
            ("command", v2(0x22, 0x11, &payload)),
            ("family", v2(0x21, 0x41, &payload)),
            ("short addresses", v2(0x21, 0x11, &payload[..11])),
            ("short addresses of version 6", v2(0x21, 0x21, &payload)),
            ("cut extension", v2(0x21, 0x11, &with(&[4, 0]))),
            ("extension beyond the end", v2(0x21, 0x11, &with(&[4, 0, 2, 1]))),
            ("huge extension", v2(0x21, 0x11, &with(&[4, 0xff, 0xff]))),
        ] {
            assert_eq!(parse(&bytes), Err(HeaderError::Malformed), "{name}");
        }
        let mut long = v2(0x21, 0x11, &payload);
        (long[14], long[15]) = (0xff, 0xff);
        assert_eq!(parse(&long), Err(HeaderError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
            let mut signed = SIGNATURE.to_vec();
            signed.extend(&bytes);
            if let Ok(Some(header)) = parse(&signed) {
                prop_assert!(header.length <= signed.len());
            }
            let mut old = b"PROXY ".to_vec();
            old.extend(&bytes);
            let _ = parse(&old);
        }

        #[test]
        fn a_part_of_a_header_asks_for_more(a in any::<[u8; 4]>(), port in any::<u16>(), cut in 0_usize..100) {
            let source = SocketAddr::from((a, port));
            let text = format!("PROXY TCP4 {} 198.18.0.1 {port} 443\r\n", source.ip());
            let read = parse(text.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(read.addresses.unwrap().0, source);
            let part = &text.as_bytes()[..cut.min(text.len() - 1)];
            prop_assert_eq!(parse(part), Ok(None));
        }
    }
}
