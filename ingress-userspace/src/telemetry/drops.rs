//! Dropped packets that the kernel told of: the newest are kept, for as many as ask (`portcullis drops`).
//!
//! The ring buffer of the kernel has one reader, who takes the records out; that is the agent, and everybody else reads here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many are kept; the oldest goes first.
const KEPT: usize = 4_096;
/// How many are given at once.
const PAGE: usize = 128;

/// A packet that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// When.
    pub time: Timestamp,
    /// Why: the name of a reason.
    pub reason: String,
    /// The served address; `None`: it is served no more.
    pub address: Option<IpAddr>,
    /// The port that it is for; `None`: it has none.
    pub port: Option<u16>,
    /// `tcp` or `udp`; `None`: it has no ports.
    pub protocol: Option<String>,
    /// Who sent it.
    pub source: IpAddr,
    /// From which port; `None`: it has none.
    pub source_port: Option<u16>,
    /// The interface that it came in by.
    pub interface: String,
    /// Its bytes, the Ethernet header included.
    pub bytes: u32,
    /// Further drops that were not told of before this one, on the same CPU.
    pub untold: u32,
}

/// What somebody who asks gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Number of the newest of `drops`, to be asked from; of the newest of all, where there are none.
    pub newest: u64,
    /// The oldest first.
    pub drops: Vec<Dropped>,
}

/// The newest dropped packets.
#[derive(Clone, Debug, Default)]
pub struct DropLog(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Number of the newest; the first is 1.
    newest: u64,
    drops: VecDeque<Dropped>,
}

impl DropLog {
    /// Takes note of some.
    pub fn add(&self, drops: impl IntoIterator<Item = Dropped>) {
        let mut kept = self.kept();
        for dropped in drops {
            kept.newest += 1;
            if kept.drops.len() == KEPT {
                kept.drops.pop_front();
            }
            kept.drops.push_back(dropped);
        }
    }

    /// Those after a number, as many as one answer holds. Empty for a number that was not given yet, as by an earlier process.
    pub fn after(&self, number: u64) -> Page {
        let kept = self.kept();
        let forgotten = kept.newest - kept.drops.len() as u64;
        let from = number.max(forgotten);
        let skip = usize::try_from(from - forgotten).unwrap_or(usize::MAX);
        let drops: Vec<_> = kept.drops.iter().skip(skip).take(PAGE).cloned().collect();
        let newest = if drops.is_empty() { kept.newest } else { from + drops.len() as u64 };
        Page { newest, drops }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(port: u16) -> Dropped {
        Dropped {
            time: Timestamp::UNIX_EPOCH,
            reason: "denied".to_owned(),
            address: None,
            port: Some(port),
            protocol: Some("tcp".to_owned()),
            source: IpAddr::from([198, 18, 0, 1]),
            source_port: None,
            interface: "eth0".to_owned(),
            bytes: 60,
            untold: 0,
        }
    }

    #[test]
    fn everyone_reads_all_in_pages() {
        let log = DropLog::default();
        assert_eq!(log.after(0), Page::default());
        log.add((0..300).map(dropped));
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            let page = log.after(from);
            if page.drops.is_empty() {
                break;
            }
            from = page.newest;
            seen.extend(page.drops.iter().filter_map(|dropped| dropped.port));
        }
        assert_eq!(seen, (0..300).collect::<Vec<u16>>());
        log.add([dropped(7)]);
        assert_eq!(log.after(from).drops, [dropped(7)]);
        assert_eq!(log.after(9_999), Page { newest: 301, drops: Vec::new() });
    }

    #[test]
    fn only_the_newest_are_kept() {
        let log = DropLog::default();
        log.add((0..5_000).map(dropped));
        assert_eq!(log.after(0).drops[0], dropped(5_000 - 4_096));
        assert_eq!(log.after(4_999), Page { newest: 5_000, drops: vec![dropped(4_999)] });
    }
}
