//! Looks at the first bytes of a connection and leaves them in the socket, for whoever reads it next: our TLS and HTTP, or an
//! endpoint to which the kernel moves them.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What was made of the bytes so far.
#[derive(Debug)]
pub enum Look<T> {
    /// More are needed.
    More,
    /// Enough.
    Seen(T),
}

/// Looks at up to `most` bytes until `look` has seen enough.
pub async fn peek<T>(
    stream: &TcpStream,
    most: usize,
    mut look: impl FnMut(&[u8]) -> Look<T>,
) -> io::Result<T> {
    let mut buffer = vec![0; most];
    let mut seen = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        // Data that does not suffice is as good as none: readiness is given back, and only new data wakes this task. What
        // arrives between the look and the giving back is not lost, since readiness is numbered.
        let looked = stream.try_io(Interest::READABLE, || {
            let (count, _) = recv(stream, &mut buffer[..], RecvFlags::PEEK)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            let is_complete = count >= most || count == 0;
            let has_ended = ready.is_read_closed() && count == seen;
            seen = count;
            match look(bytes) {
                Look::Seen(found) => Ok(found),
                Look::More if is_complete || has_ended => Err(io::ErrorKind::UnexpectedEof.into()),
                Look::More => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}
