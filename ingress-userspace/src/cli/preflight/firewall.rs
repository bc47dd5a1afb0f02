//! Rules of the node's firewall that are in the way: those that take the served ports or addresses before us, and those
//! that drop what another node has sent on.
//!
//! They are read through `nft` and `iptables-save`, for only these know how to print rules of other programs.

use std::net::IpAddr;
use std::time::Duration;

use tokio::process::Command;

use super::Finding;

/// A tool that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn findings(vips: &[IpAddr], ports: &[u16]) -> Vec<Finding> {
    let nft = printed("nft", &["list", "ruleset"]).await;
    let mut saved: Option<String> = None;
    for tool in ["iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
        if let Some(rules) = printed(tool, &[]).await {
            saved.get_or_insert_default().push_str(&rules);
        }
    }
    if nft.is_none() && saved.is_none() {
        let found = "rules cannot be looked at: neither nft nor iptables-save can be run here";
        let fix = "run `portcullis preflight` on the node itself, or look by hand for DNAT of the served ports and addresses";
        return vec![Finding::warn("firewall", found, fix)];
    }
    let (nft, saved) = (nft.unwrap_or_default(), saved.unwrap_or_default());
    let rules: Vec<&str> = nft.lines().chain(saved.lines()).map(str::trim).collect();
    vec![host_ports(&rules, ports), addresses(&rules, vips), policies(&rules, ports), invalid(&rules)]
}

async fn printed(tool: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a rule rewrites the destination.
fn is_dnat(rule: &str) -> bool {
    rule.contains("-j DNAT")
        || rule.contains("dnat to")
        || rule.contains("redirect to")
        || rule.contains("-j REDIRECT")
}

/// DNAT of a served port, as a hostPort makes it: it runs before SK_LOOKUP.
fn host_ports(rules: &[&str], ports: &[u16]) -> Finding {
    const CHECK: &str = "hostPort";
    let taken = |rule: &&&str| {
        is_dnat(rule)
            && words_after(rule, "dport").any(|word| ports.iter().any(|port| word == port.to_string()))
    };
    match rules.iter().find(taken) {
        None => Finding::ok(CHECK, "no rule rewrites the served ports"),
        Some(rule) => Finding::fail(
            CHECK,
            format!("a rule takes a served port away: {}", short(rule)),
            "remove the hostPort of the pod that it is for",
        ),
    }
}

/// Words after `dport`, without signs of lists: `--dport 80`, `th dport { 80, 443 }`.
fn words_after<'a>(rule: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let rest = rule.split_once(key).map_or("", |(_, rest)| rest);
    let list = rest.trim_start_matches('s').split(" -").next().unwrap_or_default();
    let end = list.find("dnat").unwrap_or(list.len());
    let list = list.get(..end).unwrap_or_default();
    list.split(|sign: char| !sign.is_ascii_digit()).filter(|word| !word.is_empty())
}

/// A VIP that rules know: kube-proxy sends it straight to the pods of its Service.
fn addresses(rules: &[&str], vips: &[IpAddr]) -> Finding {
    const CHECK: &str = "kube-proxy";
    if vips.is_empty() {
        return Finding::ok(CHECK, "no VIP was named to look for (--vip)");
    }
    let names = |rule: &str, vip: &IpAddr| {
        let vip = vip.to_string();
        rule.split(|sign: char| !(sign.is_ascii_hexdigit() || sign == '.' || sign == ':'))
            .any(|word| word.strip_suffix(':').unwrap_or(word) == vip)
    };
    let is_service = |rule: &str| {
        rule.contains("KUBE-") || rule.contains("service-") || rule.contains("goto ") || is_dnat(rule)
    };
    let found = vips.iter().find_map(|vip| {
        rules.iter().find(|rule| is_service(rule) && names(rule, vip)).map(|rule| (vip, rule))
    });
    match found {
        None => Finding::ok(CHECK, "no rule rewrites a VIP"),
        Some((vip, rule)) => Finding::fail(
            CHECK,
            format!("{vip} is taken before us: {}", short(rule)),
            "publish it with `ipMode: Proxy` (loadBalancerClass portcullis.dev/l4), or remove the Service that has it",
        ),
    }
}

/// Chains that drop by default.
fn policies(rules: &[&str], ports: &[u16]) -> Finding {
    const CHECK: &str = "firewall";
    let drops = |rule: &&&str| {
        rule.starts_with(":INPUT DROP") || (rule.contains("hook input") && rule.contains("policy drop"))
    };
    let accepts = |rule: &str, port: u16| {
        let is_accepted = rule.contains("-j ACCEPT") || rule.contains("accept");
        is_accepted && words_after(rule, "dport").any(|word| word == port.to_string())
    };
    if !rules.iter().any(|rule| drops(&rule)) {
        return Finding::ok(CHECK, "input is accepted by default");
    }
    let closed: Vec<String> = ports
        .iter()
        .filter(|port| !rules.iter().any(|rule| accepts(rule, **port)))
        .map(u16::to_string)
        .collect();
    if closed.is_empty() {
        return Finding::ok(CHECK, "input is dropped by default, and the served ports are accepted");
    }
    let fix = format!(
        "accept TCP {}, and UDP {} from the other nodes",
        closed.join(", "),
        ingress_common::tunnel::PORT
    );
    Finding::warn(CHECK, "input is dropped by default, and no rule accepts the served ports by number", fix)
}

/// Rules that drop packets of connections whose beginning they did not see: those that another node sent on.
fn invalid(rules: &[&str]) -> Finding {
    const CHECK: &str = "invalid state";
    let drops = |rule: &&&str| {
        let is_state =
            rule.contains("state INVALID") || rule.contains("ct state invalid") || rule.contains("! --syn");
        is_state && (rule.contains("-j DROP") || rule.ends_with("drop") || rule.contains("-j REJECT"))
    };
    match rules.iter().find(drops) {
        None => Finding::ok(CHECK, "no rule drops packets for their state"),
        Some(rule) => Finding::warn(
            CHECK,
            format!("connections that move between nodes may be dropped: {}", short(rule)),
            "exempt the served addresses and ports from it, or from tracking by `notrack` rules",
        ),
    }
}

fn short(rule: &str) -> String {
    const LONGEST: usize = 120;
    if rule.chars().count() <= LONGEST {
        return rule.to_owned();
    }
    rule.chars().take(LONGEST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const PORTS: &[u16] = &[80, 443];

    #[test]
    fn dnat_of_a_served_port_is_found_in_either_language() {
        for (rule, level) in [
            ("-A CNI-DN-1 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080", Level::Fail),
            ("ip protocol tcp th dport 443 dnat to 10.0.0.5:8443", Level::Fail),
            ("tcp dport { 80, 443 } dnat to 10.0.0.5", Level::Fail),
            ("-A CNI-DN-1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.5:80", Level::Ok),
            ("tcp dport 80 accept", Level::Ok),
        ] {
            assert_eq!(host_ports(&[rule], PORTS).level, level, "{rule}");
        }
    }

    #[test]
    fn a_vip_that_kube_proxy_rewrites_is_found() {
        let vip = [IpAddr::from([198, 18, 100, 10])];
        for (rule, level) in [
            ("-A KUBE-SERVICES -d 198.18.100.10/32 -p tcp -m tcp --dport 80 -j KUBE-EXT-A", Level::Fail),
            ("198.18.100.10 . tcp . 80 : goto external-A,", Level::Fail),
            ("-A KUBE-SERVICES -d 198.18.100.101/32 -p tcp -m tcp --dport 80 -j KUBE-EXT-A", Level::Ok),
            ("-A INPUT -d 198.18.100.10/32 -j ACCEPT", Level::Ok),
        ] {
            assert_eq!(addresses(&[rule], &vip).level, level, "{rule}");
        }
        assert!(addresses(&[], &[]).found.contains("--vip"));
    }

    #[test]
    fn a_closed_firewall_and_state_rules_are_told() {
        let closed = "type filter hook input priority filter; policy drop;";
        assert_eq!(policies(&[closed], PORTS).level, Level::Warn);
        assert!(
            policies(&[":INPUT DROP [0:0]", "-A INPUT -p tcp --dport 80 -j ACCEPT"], PORTS)
                .fix
                .contains("TCP 443,")
        );
        assert_eq!(policies(&[closed, "tcp dport { 80, 443 } accept"], PORTS).level, Level::Ok);
        assert_eq!(policies(&["tcp dport 80 drop"], PORTS).level, Level::Ok);
        assert_eq!(invalid(&["-A INPUT -m conntrack --ctstate INVALID -j DROP"]).level, Level::Warn);
        assert_eq!(invalid(&["ct state invalid drop"]).level, Level::Warn);
        assert_eq!(invalid(&["ct state established,related accept"]).level, Level::Ok);
    }
}
