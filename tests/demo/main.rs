//! The demo: both halves on real input, one line per claim with what was expected and what was seen.
//!
//! As root: client, node and two backends in network namespaces, the agent with XDP in the driver of the node's veth, the
//! proxy as an unprivileged user, and a virtual address that is bound nowhere. Otherwise: the userspace part of the
//! same script on loopback. Exit status 0 only if every claim held.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the demo talks to its user")]

mod backend;
mod client;
mod manifests;
mod rig;
mod script;

use std::net::{IpAddr, SocketAddr};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "portcullis-demo")]
struct Cli {
    /// Leave everything running afterwards and print commands to try; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the demo starts of itself inside the namespaces.
#[derive(Subcommand)]
#[command(hide = true)]
enum Part {
    /// An application.
    Backend { name: String, listen: SocketAddr },
    /// A WebSocket exchange; prints the answer.
    Websocket { address: SocketAddr, host: String, text: String },
    /// Requests on new connections until standard input ends; prints `held failed reason`.
    Load { address: SocketAddr, host: String },
    /// Connections from one source at once; prints how many were established.
    Burst { source: IpAddr, address: SocketAddr, count: u32 },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Backend { name, listen }) => backend::serve(name, listen).await?,
        Some(Part::Websocket { address, host, text }) => {
            println!("{}", client::websocket(address, &host, &text).await?)
        }
        Some(Part::Load { address, host }) => {
            let (held, failure) = client::steady_load(address, &host);
            println!("{held} {}", failure.unwrap_or_else(|| "none".to_owned()));
        }
        Some(Part::Burst { source, address, count }) => {
            println!("{}", client::connection_burst(source, address, count).await?);
        }
        None => {
            let ended = tokio::select! {
                ended = script::run(cli.keep) => ended.unwrap_or_else(|error| {
                    println!("FAIL the demo could not go on: {error:#}");
                    false
                }),
                _ = interrupted() => {
                    println!("interrupted: cleaned up");
                    return Ok(std::process::ExitCode::from(130));
                }
            };
            return Ok(if ended { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE });
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// Ctrl-C or SIGTERM. Returning drops the script, and with it everything that it started.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
