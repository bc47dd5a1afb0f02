//! A request on its way to one of the proxies, and the answer.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use ingress_tests::client::{self, Identity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request and how it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) over: Over,
}

#[derive(Clone, Debug)]
pub(crate) enum Over {
    Cleartext,
    /// With this server name.
    Tls(String),
    /// The same by a client with a certificate.
    TlsAs(String, Arc<Identity>),
    /// HTTP/2, over TLS with this server name.
    Http2(String),
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cleartext => "in cleartext",
            Self::Tls(_) => "over TLS",
            Self::TlsAs(..) => "over TLS with a certificate",
            Self::Http2(_) => "over HTTP/2",
        })
    }
}

/// The answer, as text.
pub(crate) async fn exchange(address: SocketAddr, request: &Sent) -> String {
    match &request.over {
        Over::Cleartext => {
            speak(TcpStream::connect(address).await.expect("a listener"), &request.bytes).await
        }
        Over::Tls(name) => {
            speak(client::tls(address, name, &["http/1.1"]).await.expect("a handshake"), &request.bytes).await
        }
        Over::TlsAs(name, identity) => {
            let stream = client::tls_as(address, name, &["http/1.1"], Some(identity)).await;
            speak(stream.expect("a handshake"), &request.bytes).await
        }
        Over::Http2(name) => ask(address, name, &request.bytes).await,
    }
}

/// The request over HTTP/2, its answer written as HTTP/1 writes it.
async fn ask(address: SocketAddr, name: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let host = fields.iter().find(|(name, _)| *name == "Host").map(|(_, host)| *host).unwrap_or_default();
    let mut request = client::request(method, host, target, body.to_owned());
    for (name, value) in fields {
        if !["Host", "Connection", "Content-Length"].contains(&name) {
            let name: http::HeaderName = name.parse().expect("a name");
            request.headers_mut().append(name, value.parse().expect("a value"));
        }
    }
    let mut client = client::Http2::open_tls(address, name).await.expect("a connection");
    let answer = client.send(request).await.expect("an answer");
    let mut text = format!("HTTP/2 {} -\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    format!("{text}\r\n{}", answer.text())
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut answer = Vec::new();
    // Who answers early need not read the rest. A reset after the answer is an end, too.
    let sent = async {
        let _ = writing.write_all(request).await;
    };
    let read = async {
        let _ = reading.read_to_end(&mut answer).await;
    };
    tokio::join!(sent, read);
    String::from_utf8_lossy(&answer).into_owned()
}
