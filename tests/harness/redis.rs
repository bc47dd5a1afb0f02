//! A Redis of the distribution's package, on loopback, for one test.
#![expect(clippy::expect_used, reason = "a broken rig fails its test by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;

use crate::proxy::eventually;
use crate::secure::Pair;

/// Its password.
pub const PASSWORD: &str = "hunter2";

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
    folder: PathBuf,
}

impl Redis {
    /// Starts one on any free port.
    pub async fn start() -> anyhow::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(free).await
    }

    /// Starts one on this port.
    pub async fn start_at(address: SocketAddr) -> anyhow::Result<Self> {
        Self::launch(address, None).await
    }

    /// Starts one that speaks TLS alone.
    pub async fn start_tls(pair: &Pair) -> anyhow::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::launch(free, Some(pair)).await
    }

    async fn launch(address: SocketAddr, pair: Option<&Pair>) -> anyhow::Result<Self> {
        let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("portcullis-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        match pair {
            None => drop(command.args(["--port", &port])),
            Some(pair) => {
                std::fs::write(folder.join("tls.crt"), &pair.certificate)?;
                std::fs::write(folder.join("tls.key"), &pair.key)?;
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                // Of clients, whom it asks for nothing: it does not start without any.
                command.args([
                    "--tls-cert-file",
                    "tls.crt",
                    "--tls-key-file",
                    "tls.key",
                    "--tls-ca-cert-file",
                    "tls.crt",
                ]);
            }
        }
        let process = command
            .args(["--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server cannot be started: `cargo xtask setup` installs it")?;
        let redis = Self { address, process, folder };
        eventually(|| TcpStream::connect(address).ok()).await.context("redis-server does not listen")?;
        Ok(redis)
    }

    /// Ends it.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        self.process.wait().expect("a child can be waited for");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
