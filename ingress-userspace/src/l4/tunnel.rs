//! Bytes between two sockets, both ways, until both sides have ended or are silent for too long.
//!
//! The kernel moves them through a pipe, which is held only while there is something to move; where it cannot, they are
//! copied. The end of one side is passed on, and the other may go on sending.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::pipe::Pipe;

/// Bytes copied at once, where they must be.
const BUFFER: usize = 16 * 1024;

/// What a tunnel has moved.
#[derive(Debug, Default)]
pub struct Moved {
    /// To the endpoint.
    pub up: Cell<u64>,
    /// To the client.
    pub down: Cell<u64>,
    /// When the first byte went to the client.
    pub first: Cell<Option<Instant>>,
}

impl Moved {
    /// Bytes went to the endpoint.
    pub fn add_up(&self, bytes: usize) {
        self.up.set(self.up.get() + bytes as u64);
    }

    /// Bytes went to the client.
    pub fn add_down(&self, bytes: usize) {
        if self.first.get().is_none() {
            self.first.set(Some(Instant::now()));
        }
        self.down.set(self.down.get() + bytes as u64);
    }
}

/// Runs a tunnel to its end.
pub async fn tunnel(
    client: &TcpStream,
    endpoint: &TcpStream,
    idle: Duration,
    moved: &Moved,
) -> io::Result<()> {
    let last = Cell::new(Instant::now());
    let both = async {
        let up = one_way(client, endpoint, |bytes| {
            moved.add_up(bytes);
            last.set(Instant::now());
        });
        let down = one_way(endpoint, client, |bytes| {
            moved.add_down(bytes);
            last.set(Instant::now());
        });
        tokio::try_join!(up, down)
    };
    tokio::select! {
        ended = both => ended.map(|_| ()),
        () = silence(&last, idle) => Ok(()),
    }
}

async fn silence(last: &Cell<Instant>, idle: Duration) {
    loop {
        let deadline = last.get() + idle;
        if Instant::now() >= deadline {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// One direction, to its end.
async fn one_way(from: &TcpStream, to: &TcpStream, moved: impl Fn(usize)) -> io::Result<()> {
    loop {
        from.readable().await?;
        let Ok(mut pipe) = Pipe::take() else {
            // Out of descriptors, or of memory for pipes.
            return copy(from, to, moved).await;
        };
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Ok(0) => {
                pipe.give_back();
                return end(to);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.give_back();
                continue;
            }
            // A kind of socket that the kernel cannot move from; nothing was read.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return copy(from, to, moved).await,
            Err(error) => return Err(error),
        }
        while !pipe.is_empty() {
            match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
                Ok(count) => moved(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        pipe.give_back();
        // A fast pair of peers must not keep the thread from everybody else.
        tokio::task::consume_budget().await;
    }
}

/// The same through memory of ours.
async fn copy(from: &TcpStream, to: &TcpStream, moved: impl Fn(usize)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        from.readable().await?;
        let count = match from.try_read(&mut buffer) {
            Ok(0) => return end(to),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut rest = buffer.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            match to.try_write(rest) {
                Ok(count) => {
                    moved(count);
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        tokio::task::consume_budget().await;
    }
}

/// Passes the end of one side on.
fn end(to: &TcpStream) -> io::Result<()> {
    match SockRef::from(to).shutdown(Shutdown::Write) {
        // It has gone already, and so has everything that it wanted.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// More than sockets and pipe hold, so that both sides must wait for each other.
    const MUCH: usize = 6 << 20;

    #[tokio::test]
    async fn copied_bytes_arrive_and_the_end_is_passed_on() {
        let ((mut client, inside), (outside, mut endpoint)) = (pair().await, pair().await);
        let count = Cell::new(0);
        let sent = async {
            client.write_all(&vec![7; MUCH]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let received = async {
            let mut all = Vec::new();
            endpoint.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let copied = copy(&inside, &outside, |bytes| count.set(count.get() + bytes));
        let (ended, (), received) = tokio::join!(copied, sent, received);
        ended.unwrap();
        assert_eq!((received, count.get()), (MUCH, MUCH));
    }

    #[tokio::test]
    async fn one_side_may_end_and_still_read() {
        let ((client, inside), (outside, mut endpoint)) = (pair().await, pair().await);
        let (mut read, mut write) = client.into_split();
        let moved = Moved::default();
        let asks = async {
            write.write_all(b"question").await.unwrap();
            write.shutdown().await.unwrap();
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap();
            answer.len()
        };
        let answers = async {
            let mut question = String::new();
            endpoint.read_to_string(&mut question).await.unwrap();
            endpoint.write_all(&vec![b'a'; MUCH]).await.unwrap();
            endpoint.shutdown().await.unwrap();
            question
        };
        let tunnelled = tunnel(&inside, &outside, Duration::from_secs(60), &moved);
        let (ended, answer, question) = tokio::join!(tunnelled, asks, answers);
        ended.unwrap();
        assert_eq!((question.as_str(), answer), ("question", MUCH));
        assert_eq!((moved.up.get(), moved.down.get()), (8, MUCH as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_tunnel() {
        let ((_client, inside), (outside, _endpoint)) = (pair().await, pair().await);
        let started = Instant::now();
        tunnel(&inside, &outside, Duration::from_secs(600), &Moved::default()).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 600);
    }
}
