//! `portcullis probe [/readyz]`: asks the admin endpoint of a running process. Made for exec probes, so that neither a
//! shell nor curl is needed in the image.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::args::tools::ProbeArgs;

/// A process that does not answer within this time is not well.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer that is read; `/readyz` is a few lines.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answers there.
    #[error("{target} cannot be asked; is the process running, and is this its --admin-socket or port?")]
    Unreachable {
        /// Who was asked.
        target: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It answers, but no.
    #[error("{target} answers {status}: {reasons}")]
    No {
        /// Who was asked.
        target: String,
        /// The status line.
        status: String,
        /// The body, on one line.
        reasons: String,
    },
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Asks; prints the answer.
pub async fn run(args: &ProbeArgs, out: &mut (dyn io::Write + Send)) -> Result<(), ProbeError> {
    let target = match &args.socket {
        Some(path) => format!("{}{}", path.display(), args.path),
        None => format!("{}{}", args.address, args.path),
    };
    let answer = async {
        match &args.socket {
            Some(path) => ask(UnixStream::connect(path).await?, &args.path).await,
            None => ask(TcpStream::connect(args.address).await?, &args.path).await,
        }
    };
    let answer =
        tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|source| ProbeError::Unreachable { target: target.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status =
        head.lines().next().and_then(|line| line.split_once(' ')).map_or("nothing", |(_, status)| status);
    if !status.starts_with("200") {
        let reasons = body.trim().replace('\n', "; ");
        return Err(ProbeError::No { target, status: status.to_owned(), reasons });
    }
    Ok(write!(out, "{body}")?)
}

pub(super) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn probe(answer: &'static str) -> Result<String, ProbeError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let args = ProbeArgs { path: "/readyz".to_owned(), socket: None, address };
        let mut out = Vec::new();
        let (ended, ()) = tokio::join!(run(&args, &mut out), server);
        ended.map(|()| String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_ready_process_is_reported_as_it_says() {
        assert_eq!(probe("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n").await.unwrap(), "ready\n");
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_says_why() {
        let error =
            probe("HTTP/1.1 503 Service Unavailable\r\n\r\nagent: no configuration yet\n").await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("503 Service Unavailable: agent: no configuration yet"), "{text}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_plainly() {
        let socket = std::env::temp_dir().join("portcullis-probe-nobody.sock");
        let args = ProbeArgs {
            path: "/readyz".to_owned(),
            socket: Some(socket),
            address: ([127, 0, 0, 1], 1).into(),
        };
        let error = run(&args, &mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("cannot be asked"), "{error}");
    }
}
