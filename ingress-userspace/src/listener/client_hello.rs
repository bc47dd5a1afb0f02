//! The server name of a ClientHello, read without a TLS library: passthrough must understand every client that its endpoint
//! understands, also those of versions that we do not speak.

/// The longest beginning of a connection that is searched.
pub const LONGEST: usize = 16 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Not enough to tell.
    Incomplete,
    /// A ClientHello, with the server name in lower case.
    Named(String),
    /// Something else, or a ClientHello without a usable name.
    Nameless,
}

/// Reads the first bytes of a connection.
pub fn server_name(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk::<5>() else {
            let is_record = rest.first().is_none_or(|kind| *kind == HANDSHAKE_RECORD);
            return if is_record { Hello::Incomplete } else { Hello::Nameless };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE_RECORD || major != 3 || length == 0 || length > LONGEST {
            return Hello::Nameless;
        }
        let part = body.get(..length).unwrap_or(body);
        message.extend_from_slice(part);
        match hello(&message) {
            Some(Some(name)) => return Hello::Named(name),
            Some(None) => return Hello::Nameless,
            None => {}
        }
        match body.get(length..) {
            Some(next) => rest = next,
            None => return Hello::Incomplete,
        }
    }
}

/// The name of a handshake message; outer `None`: it is not complete.
fn hello(message: &[u8]) -> Option<Option<String>> {
    let (&[kind, a, b, c], body) = message.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if kind != CLIENT_HELLO || length > LONGEST {
        return Some(None);
    }
    body.get(..length).map(name)
}

fn name(body: &[u8]) -> Option<String> {
    // Version, random, session, suites, compression.
    let rest = body.get(34..)?;
    let (_, rest) = sized_by_byte(rest)?;
    let (_, rest) = sized(rest)?;
    let (_, rest) = sized_by_byte(rest)?;
    let (mut extensions, _) = sized(rest)?;
    while !extensions.is_empty() {
        let (&[high, low], rest) = extensions.split_first_chunk::<2>()?;
        let (data, rest) = sized(rest)?;
        if u16::from_be_bytes([high, low]) == SERVER_NAME {
            let (list, _) = sized(data)?;
            let (kind, entry) = list.split_first()?;
            let (host, _) = sized(entry)?;
            let text = std::str::from_utf8(host).ok().filter(|_| *kind == HOST_NAME)?;
            let text = text.strip_suffix('.').unwrap_or(text);
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            return is_plain.then(|| text.to_ascii_lowercase());
        }
        extensions = rest;
    }
    None
}

/// A part behind its length in two bytes, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
}

fn sized_by_byte(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{any, proptest};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// A real ClientHello.
    fn of(name: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_read_once_it_is_there() {
        let bytes = of("App.Example.com");
        assert_eq!(server_name(&bytes), Hello::Named("app.example.com".into()));
        for cut in 0..bytes.len() {
            assert_eq!(server_name(&bytes[..cut]), Hello::Incomplete, "{cut}");
        }
        assert_eq!(server_name(&of("198.18.0.1")), Hello::Nameless);
    }

    #[test]
    fn a_hello_may_be_cut_into_records() {
        let bytes = of("app.example.com");
        let message = &bytes[5..];
        let mut split = Vec::new();
        for part in message.chunks(7) {
            split.extend([22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            split.extend(part);
        }
        assert_eq!(server_name(&split), Hello::Named("app.example.com".into()));
    }

    #[test]
    fn other_bytes_have_no_name() {
        for other in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[22, 3, 1, 0, 0], &[22, 2, 0, 0, 1, 1]]
        {
            assert_eq!(server_name(other), Hello::Nameless);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            server_name(&bytes);
            let length = u8::try_from(bytes.len() & 0xff).unwrap();
            bytes.splice(0..0, [22, 3, 1, 0, length, 1, 0, 0, length.saturating_sub(4)]);
            server_name(&bytes);
        }

        #[test]
        fn damage_is_no_panic(at in 0_usize..300, byte in any::<u8>()) {
            let mut bytes = of("app.example.com");
            let at = at % bytes.len();
            bytes[at] = byte;
            server_name(&bytes);
        }
    }
}
