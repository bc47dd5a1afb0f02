//! A blocking HTTP/1.1 client and origin of a few lines, for scenarios in which only the connection matters.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer: status and body.
    Answered(u16, String),
    /// Nothing came: the packets were dropped.
    TimedOut,
    /// The connection was refused or reset.
    Refused,
    /// Something else, in words.
    Failed(String),
}

impl Outcome {
    /// Whether the answer is 200.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Answered(200, _))
    }
}

/// Sends `GET /` with this host, from `source` if given, on a connection of its own.
pub fn get(source: Option<IpAddr>, to: SocketAddr, host: &str, patience: Duration) -> Outcome {
    match exchange(source, to, host, patience) {
        Ok(text) => parse(&text),
        Err(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::TimedOut,
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

fn exchange(
    source: Option<IpAddr>,
    to: SocketAddr,
    host: &str,
    patience: Duration,
) -> std::io::Result<String> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&to.into(), patience)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience))?;
    // In one piece: a server that answers after the first read may have closed before a second.
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Outcome {
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    match (status, text.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Outcome::Answered(status, body.to_owned()),
        _ => Outcome::Failed(format!("no HTTP response: {text:?}")),
    }
}

/// Answers every request with 200 and `body` until the process ends.
pub fn serve(listener: TcpListener, body: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, body));
        }
    });
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    loop {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => return Ok(()),
                read => head.extend_from_slice(part.get(..read).unwrap_or_default()),
            }
        }
        let is_last = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("connection: close");
        head.clear();
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes())?;
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_tells_an_answer_from_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        serve(listener, "hello");
        let patience = Duration::from_secs(5);
        assert_eq!(get(None, to, "x", patience), Outcome::Answered(200, "hello".to_owned()));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(get(None, closed, "x", patience), Outcome::Refused);
    }
}
