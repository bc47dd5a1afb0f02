//! What the client asks of the nodes, which may be in another machine: a line over TCP, and an answer to the end of the
//! connection. To the nodes this is traffic that they forward.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::node::back;
use anyhow::{Context as _, bail};

const PORT: u16 = 7001;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A node that nobody asks anything for so long ends.
const SILENCE: Duration = Duration::from_secs(180);

/// What `portcullis status` of the node tells, as JSON.
pub(crate) const STATUS: &str = "status";
/// The ends of its logs.
pub(crate) const LOGS: &str = "logs";
/// From now on it takes node 2 for a member of the pool, too.
pub(crate) const BOTH: &str = "both are members";
/// It ends.
pub(crate) const END: &str = "end";

/// Asks a node.
pub(crate) fn ask(number: usize, what: &str) -> anyhow::Result<String> {
    let to = SocketAddr::new(back(number).parse()?, PORT);
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{what}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once('\n') {
        Some(("done", rest)) => Ok(rest.to_owned()),
        Some(("failed", why)) => bail!("node-{number}, asked for {what}: {why}"),
        _ => bail!("node-{number} broke off when asked for {what}"),
    }
}

/// Answers until told to end; to be called in the namespace behind the node.
pub(crate) fn serve(number: usize, act: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let listener = TcpListener::bind((back(number), PORT))?;
    socket2::SockRef::from(&listener).set_read_timeout(Some(SILENCE))?;
    loop {
        let (mut stream, _) =
            listener.accept().with_context(|| format!("nobody asked node-{number} within {SILENCE:?}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let line = line.trim_end();
        let answer = match act(line) {
            Ok(text) => format!("done\n{text}"),
            Err(error) => format!("failed\n{error:#}"),
        };
        stream.write_all(answer.as_bytes())?;
        if line == END {
            return Ok(());
        }
    }
}
