//! What the kernel's own setting of SYN cookies permits, and what the kernel counted of them.
//!
//! The programs ask the kernel for every cookie, so `net.ipv4.tcp_syncookies` of the network namespace decides: 0 none, 1
//! while the queue of a socket is full, 2 for every connection. It holds for IPv6, too.

use std::fs;

use serde::Serialize;

use crate::model::edge::{EdgePolicy, SynProtection};

const SETTING: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const COUNTERS: &str = "/proc/net/netstat";

/// The setting, and what the stack counted since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SynCookies {
    /// `net.ipv4.tcp_syncookies`; `None`: this kernel has none.
    pub setting: Option<u8>,
    /// Cookies that the stack sent itself.
    pub sent_by_stack: u64,
    /// Connections opened by a cookie, whoever sent it.
    pub received: u64,
    /// Segments that looked like the proof of a cookie and were none.
    pub failed: u64,
}

/// What holds in this network namespace.
pub fn read() -> SynCookies {
    let text = fs::read_to_string(COUNTERS).unwrap_or_default();
    let counter = |name: &str| counter(&text, name).unwrap_or_default();
    SynCookies {
        setting: setting(),
        sent_by_stack: counter("SyncookiesSent"),
        received: counter("SyncookiesRecv"),
        failed: counter("SyncookiesFailed"),
    }
}

fn setting() -> Option<u8> {
    fs::read_to_string(SETTING).ok()?.trim().parse().ok()
}

/// A figure of `/proc/net/netstat`: lines come in pairs, names and then values.
fn counter(text: &str, name: &str) -> Option<u64> {
    let (names, values) = text
        .lines()
        .zip(text.lines().skip(1))
        .find(|(names, values)| names.starts_with("TcpExt:") && values.starts_with("TcpExt:"))?;
    let at = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// What policies ask for and the setting of this node does not permit, a sentence each.
pub fn unmet(policies: &[EdgePolicy]) -> Vec<String> {
    unmet_at(policies, setting())
}

fn unmet_at(policies: &[EdgePolicy], setting: Option<u8>) -> Vec<String> {
    let asks = |policy: &EdgePolicy| policy.syn_protection;
    let always = policies.iter().find(|policy| asks(policy) == Some(SynProtection::Always));
    match (setting, always) {
        (None | Some(0), _) if policies.iter().any(|policy| asks(policy) == Some(SynProtection::Off)) && always.is_none() => {
            Vec::new()
        }
        (None, _) => vec![
            "no SYN cookies: this kernel has no net.ipv4.tcp_syncookies; use one built with CONFIG_SYN_COOKIES=y".to_owned(),
        ],
        (Some(0), _) => vec![
            "no SYN cookies: net.ipv4.tcp_syncookies is 0; set it to 1, or write synProtection: Off into an EdgePolicy".to_owned(),
        ],
        (Some(1), Some(policy)) => vec![format!(
            "EdgePolicy {}: spec.synProtection = \"Always\" holds as Auto on this node: net.ipv4.tcp_syncookies is 1; set it to 2",
            policy.name
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::EdgeScope;

    fn policy(name: &str, syn_protection: Option<SynProtection>) -> EdgePolicy {
        EdgePolicy {
            name: name.to_owned(),
            scope: EdgeScope::Cluster,
            allow: vec![],
            deny: vec![],
            exempt: vec![],
            limits: vec![],
            ban: None,
            syn_protection,
        }
    }

    #[test]
    fn a_setting_that_does_not_permit_what_is_asked_for_is_named() {
        let silent = [policy("a", None)];
        let off = [policy("a", Some(SynProtection::Off))];
        let always = [policy("a", None), policy("b", Some(SynProtection::Always))];
        for policies in [&silent[..], &off, &[]] {
            assert!(unmet_at(policies, Some(1)).is_empty());
            assert!(unmet_at(policies, Some(2)).is_empty());
        }
        assert!(unmet_at(&always, Some(2)).is_empty());
        assert!(unmet_at(&always, Some(1))[0].contains("EdgePolicy b: spec.synProtection"));
        assert!(unmet_at(&silent, Some(0))[0].contains("tcp_syncookies is 0"));
        assert!(unmet_at(&always, Some(0))[0].contains("tcp_syncookies is 0"));
        assert!(unmet_at(&off, Some(0)).is_empty());
        assert!(unmet_at(&silent, None)[0].contains("CONFIG_SYN_COOKIES"));
    }

    #[test]
    fn counters_stand_under_their_names() {
        let text =
            "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed\nTcpExt: 3 2 1\nIpExt: A\nIpExt: 9\n";
        assert_eq!(counter(text, "SyncookiesSent"), Some(3));
        assert_eq!(counter(text, "SyncookiesFailed"), Some(1));
        assert_eq!(counter(text, "A"), None);
        assert_eq!(counter("", "SyncookiesSent"), None);
    }

    #[test]
    fn this_kernel_has_the_setting() {
        assert!(read().setting.is_some_and(|setting| setting <= 2));
    }
}
