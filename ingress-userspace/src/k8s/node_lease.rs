//! The Lease by which an agent tells the cluster of its node: how it serves, and what is wrong.
//!
//! One per node, named as the node, in the namespace of the copies: there an agent can write no other Lease. Renewed as a
//! sign of life; only the controller reads it. What is told stands in annotations, for people who read it by kubectl too.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

/// Mode of the node.
pub const MODE: &str = "portcullis.dev/mode";
/// Whose kernel half serves the node, where it is not that of the agent itself.
pub const KERNEL_HALF: &str = "portcullis.dev/kernel-half";
/// Version of the program.
pub const VERSION: &str = "portcullis.dev/version";
/// Release of the kernel.
const KERNEL: &str = "portcullis.dev/kernel";
/// The interfaces that are served, each with its mode.
const INTERFACES: &str = "portcullis.dev/interfaces";
/// How many addresses of pools the node serves.
const ADDRESSES: &str = "portcullis.dev/addresses";
/// Entries of the kernel maps.
const ENTRIES: &str = "portcullis.dev/map-entries";
/// What is wrong; absent when nothing is.
pub const PROBLEMS: &str = "portcullis.dev/problems";
/// What an agent was told does not hold on its node.
pub const FAILING: &str = "portcullis.dev/failing";
/// EdgePolicies that are not enforced as a whole, by name, with blanks between them.
const UNENFORCED: &str = "portcullis.dev/unenforced";
/// Whom the agent banned since it started, by EdgePolicy: `name: words; name: words`.
const BANS: &str = "portcullis.dev/bans";
/// Since when mode and problems are as they are, by the clock of the node.
pub const SINCE: &str = "portcullis.dev/since";
/// Between two signs of life.
pub const PERIOD: Duration = Duration::from_secs(30);
/// Without one for this long, an agent is silent.
pub const SILENCE: Duration = Duration::from_secs(90);
/// Problems are cut here: an Event holds no more either.
const LONGEST: usize = 800;

/// What an agent tells of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Name of the node.
    pub node: String,
    /// Name of the agent's pod.
    pub pod: String,
    /// `xdp-native`, `xdp-generic`, `tc` or `userspace`.
    pub mode: String,
    /// The agent serves without, beside another one whose kernel half serves the node.
    pub is_beside: bool,
    /// What is wrong; empty when nothing is.
    pub problems: String,
    /// What it was told does not hold.
    pub is_failing: bool,
    /// The EdgePolicies that the node does not enforce as a whole, by name.
    pub unenforced: Vec<String>,
    /// Since when it is so.
    pub since: String,
    /// Whom the agent banned since it started, in words, by EdgePolicy. An attack changes it all the time: it is told with
    /// the next sign of life.
    pub bans: BTreeMap<String, String>,
}

/// What is told for people beside it, as of the last sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The interfaces that are served, each with its mode.
    pub interfaces: Vec<(String, &'static str)>,
    /// How many addresses of pools are served; `None`: without a kernel half.
    pub addresses: Option<usize>,
    /// Entries per kernel map.
    pub entries: BTreeMap<&'static str, usize>,
}

impl Figures {
    fn annotations(&self) -> impl Iterator<Item = (String, String)> {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let interfaces = self.interfaces.iter().map(|(name, mode)| format!("{name}={mode}"));
        let entries = self.entries.iter().map(|(map, count)| format!("{map}={count}"));
        let all = [
            (KERNEL, kernel),
            (INTERFACES, interfaces.collect::<Vec<_>>().join(" ")),
            (ADDRESSES, self.addresses.map(|count| count.to_string()).unwrap_or_default()),
            (ENTRIES, entries.collect::<Vec<_>>().join(" ")),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), text))
    }
}

impl NodeReport {
    /// The Lease, renewed now.
    pub fn lease(&self, namespace: &str, figures: &Figures, now: Timestamp) -> Lease {
        let mut annotations = BTreeMap::from([
            (MODE.to_owned(), self.mode.clone()),
            (VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            (SINCE.to_owned(), self.since.clone()),
        ]);
        annotations.extend(figures.annotations());
        if self.is_beside {
            annotations.insert(KERNEL_HALF.to_owned(), "of another agent".to_owned());
        }
        if self.is_failing {
            annotations.insert(FAILING.to_owned(), "true".to_owned());
        }
        if !self.unenforced.is_empty() {
            annotations.insert(UNENFORCED.to_owned(), self.unenforced.join(" "));
        }
        if !self.problems.is_empty() {
            annotations.insert(PROBLEMS.to_owned(), cut(&self.problems).to_owned());
        }
        if !self.bans.is_empty() {
            let bans: Vec<String> =
                self.bans.iter().map(|(policy, words)| format!("{policy}: {words}")).collect();
            annotations.insert(BANS.to_owned(), cut(&bans.join("; ")).to_owned());
        }
        Lease {
            metadata: ObjectMeta {
                name: Some(self.node.clone()),
                namespace: Some(namespace.to_owned()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.pod.clone()),
                lease_duration_seconds: i32::try_from(SILENCE.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Whether the node serves by a kernel half: that of the agent, or of the one which it shall replace.
    pub fn serves_by_kernel(&self) -> bool {
        self.mode != "userspace" || self.is_beside
    }

    /// What a Lease tells; `None` for one of somebody else.
    pub fn read(lease: &Lease) -> Option<Self> {
        let annotations = lease.metadata.annotations.as_ref()?;
        let says = |name: &str| annotations.get(name).cloned().unwrap_or_default();
        Some(Self {
            node: lease.metadata.name.clone()?,
            pod: lease.spec.as_ref()?.holder_identity.clone()?,
            mode: annotations.get(MODE)?.clone(),
            is_beside: annotations.contains_key(KERNEL_HALF),
            problems: says(PROBLEMS),
            is_failing: annotations.contains_key(FAILING),
            unenforced: says(UNENFORCED).split_whitespace().map(str::to_owned).collect(),
            since: says(SINCE),
            bans: says(BANS).split("; ").filter_map(|one| one.split_once(": ")).map(owned).collect(),
        })
    }

    /// Whether the same is wrong, or right. Bans come and go.
    pub fn is_as(&self, other: &Self) -> bool {
        let lasting = |report: &Self| Self { since: String::new(), bans: BTreeMap::new(), ..report.clone() };
        lasting(self) == lasting(other)
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()
}

fn owned((name, words): (&str, &str)) -> (String, String) {
    (name.to_owned(), words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let report = NodeReport {
            node: "node-1".to_owned(),
            pod: "edge-1".to_owned(),
            mode: "xdp-generic".to_owned(),
            is_beside: true,
            problems: "eth0 is slow".to_owned(),
            is_failing: true,
            unenforced: vec!["edge".to_owned(), "floods".to_owned()],
            since: "2026-01-01T00:00:00Z".to_owned(),
            bans: BTreeMap::from([
                (
                    "edge".to_owned(),
                    "1 source, lastly 2001:db8::/64 for 600 s, for too many packets".to_owned(),
                ),
                (
                    "floods".to_owned(),
                    "7 sources, lastly 198.18.0.1/32 for 60 s, for too many bytes".to_owned(),
                ),
            ]),
        };
        let lease = report.lease("synced", &Figures::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(NodeReport::read(&lease), Some(report.clone()));
        let fine = NodeReport { problems: String::new(), ..report.clone() };
        let lease = fine.lease("synced", &Figures::default(), Timestamp::UNIX_EPOCH);
        assert!(lease.metadata.annotations.as_ref().is_some_and(|all| !all.contains_key(PROBLEMS)));
        assert_eq!(NodeReport::read(&lease), Some(fine.clone()));
        assert_eq!(NodeReport::read(&Lease::default()), None, "a Lease of somebody else");
        let figures = Figures {
            interfaces: vec![("eth0".to_owned(), "xdp-native"), ("eth1".to_owned(), "tc")],
            addresses: Some(4),
            entries: BTreeMap::from([("acl4", 3), ("vips", 12)]),
        };
        let lease = fine.lease("synced", &figures, Timestamp::UNIX_EPOCH);
        let annotations = lease.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations[INTERFACES], "eth0=xdp-native eth1=tc");
        assert_eq!((&*annotations[ADDRESSES], &*annotations[ENTRIES]), ("4", "acl4=3 vips=12"));
        assert!(!annotations[KERNEL].is_empty());
        assert_eq!(NodeReport::read(&lease), Some(fine), "figures are for people");
        let long = NodeReport { problems: "é".repeat(1000), ..report };
        let lease = long.lease("synced", &Figures::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(NodeReport::read(&lease).map(|read| read.problems.len()), Some(LONGEST));
    }
}
