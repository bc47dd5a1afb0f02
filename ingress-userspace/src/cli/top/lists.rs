//! `portcullis top lists`. The counts are in the kernel; whose the entries are, only an agent knows.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::TopError;
use crate::args::tools::{OutputFormat, TopArgs};
use crate::bpf::hits::{self, Caught};
use crate::bpf::maps::Maps;
use crate::bpf::pins::Pins;
use crate::cli::{probe, text_table};
use crate::compile::maps::owners::ListOwners;

/// An agent that does not answer within this time is not asked.
const PATIENCE: Duration = Duration::from_secs(2);

const NOTHING: &str = "no entry of a deny list has caught anything in the kernel of this node; connections refused at accept \
                       are counted by policy, in portcullis_denied_connections_total";

pub(super) async fn run(args: &TopArgs, out: &mut (dyn io::Write + Send)) -> Result<(), TopError> {
    let mut caught = match ask(&args.admin_socket).await {
        Some(caught) => caught,
        None => hits::caught(&Maps::open(&Pins::new(&args.bpffs))?, &ListOwners::default())?,
    };
    let entries = caught.len();
    caught.truncate(args.number);
    match args.output {
        OutputFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&caught)?)?,
        OutputFormat::Table => print(&caught, entries, out)?,
    }
    Ok(())
}

/// What the agent tells; `None` when there is none to ask.
async fn ask(socket: &Path) -> Option<Vec<Caught>> {
    let answer = async { probe::ask(UnixStream::connect(socket).await?, "/lists").await };
    let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn print(caught: &[Caught], entries: usize, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    if caught.is_empty() {
        return writeln!(out, "{NOTHING}");
    }
    let row = |caught: &Caught| {
        vec![
            caught.prefix.to_string(),
            caught.policy.clone().unwrap_or_else(|| "-".to_owned()),
            hits::in_words(caught.addresses.as_deref()),
            caught.packets.to_string(),
            caught.bytes.to_string(),
        ]
    };
    let rows: Vec<_> = caught.iter().map(row).collect();
    text_table::print(out, &["prefix", "policy", "holds for", "packets", "bytes"], &rows)?;
    match entries.saturating_sub(caught.len()) {
        0 => Ok(()),
        others => writeln!(out, "\nand {others} more entries (-n)"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn caught(prefix: &str, policy: Option<&str>, packets: u64) -> Caught {
        Caught {
            prefix: prefix.parse().unwrap(),
            policy: policy.map(str::to_owned),
            addresses: policy.map(|_| vec![IpAddr::from([198, 18, 100, 10])]),
            packets,
            bytes: 60 * packets,
        }
    }

    fn printed(all: &[Caught], entries: usize) -> String {
        let mut out = Vec::new();
        print(all, entries, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_names_entry_policy_and_addresses() {
        let all = [caught("203.0.113.0/24", Some("edge"), 5), caught("2001:db8:66::/48", None, 1)];
        assert_eq!(
            printed(&all, 4),
            "PREFIX            POLICY  HOLDS FOR      PACKETS  BYTES\n\
             203.0.113.0/24    edge    198.18.100.10  5        300\n\
             2001:db8:66::/48  -       every address  1        60\n\
             \nand 2 more entries (-n)\n"
        );
    }

    #[test]
    fn nothing_caught_is_said() {
        assert_eq!(printed(&[], 0), format!("{NOTHING}\n"));
    }
}
