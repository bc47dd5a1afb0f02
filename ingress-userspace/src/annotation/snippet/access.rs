//! `allow` and `deny`: the rules of a place, of which the first that names the source decides.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::syntax::Directive;
use crate::annotation::value;

/// Rules as two lists, of which the denied sources come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who is kept out.
    pub denied: Vec<IpNet>,
    /// Who alone is let in; `None`: everybody else.
    pub allowed: Option<Vec<IpNet>>,
}

impl Access {
    /// Nobody is let in.
    pub(super) fn keeps_all_out(&self) -> bool {
        [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
            .iter()
            .all(|all| self.denied.contains(all))
    }

    /// Rules that stand behind these.
    pub(super) fn append(&mut self, mut other: Self) {
        if self.allowed.is_none() {
            self.denied.append(&mut other.denied);
            self.allowed = other.allowed;
        }
    }
}

/// Whether a directive is a rule.
pub(super) fn is_rule(directive: &Directive) -> bool {
    ["allow", "deny"].contains(&directive.name.as_str())
}

/// All rules among directives. The error names the directive.
pub(super) fn read(directives: &[Directive]) -> Result<Access, String> {
    let (mut access, mut allowed) = (Access::default(), Vec::new());
    for directive in directives.iter().filter(|directive| is_rule(directive)) {
        let named = |reason: String| format!("the directive {} {reason}", directive.name);
        let ([source], None) = (directive.args.as_slice(), &directive.block) else {
            return Err(named("is understood with one network, address or all".to_owned()));
        };
        let is_denied = directive.name == "deny";
        match (source.as_str(), is_denied) {
            ("all", true) => {
                if allowed.is_empty() {
                    access.denied = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
                } else {
                    access.allowed = Some(allowed);
                }
                return Ok(access);
            }
            // The rest is never looked at.
            ("all", false) => return Ok(access),
            (text, _) => {
                let network = network(text).map_err(named)?;
                if !is_denied {
                    allowed.push(network);
                } else if let Some(other) = allowed.iter().find(|other| overlap(other, &network)) {
                    return Err(named(format!(
                        "keeps out {network} behind an allow {other} that overlaps it, which is not understood; write the deny \
                         before it"
                    )));
                } else {
                    access.denied.push(network);
                }
            }
        }
    }
    Ok(access)
}

fn network(text: &str) -> Result<IpNet, String> {
    let mut found = value::networks(text).map_err(|reason| format!("has {text:?}, which {reason}"))?;
    match (found.networks.pop(), found.networks.is_empty()) {
        (Some(network), true) => Ok(network),
        _ => Err(format!("has {text:?}, which is not one network or address")),
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::super::syntax;
    use super::*;

    #[track_caller]
    fn check(text: &str, denied: &[&str], allowed: Option<&[&str]>) {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let expected = Access { denied: networks(denied), allowed: allowed.map(networks) };
        assert_eq!(read(&syntax::read(text).unwrap()), Ok(expected), "{text}");
    }

    #[test]
    fn the_first_rule_that_names_the_source_decides() {
        check("", &[], None);
        check("allow 198.18.0.0/15; deny all;", &[], Some(&["198.18.0.0/15"]));
        check(
            "deny 198.18.0.1; allow 198.18.0.0/15; deny all;",
            &["198.18.0.1/32"],
            Some(&["198.18.0.0/15"]),
        );
        check("deny 2001:db8::/32;", &["2001:db8::/32"], None);
        check("deny 198.18.0.1; allow all; deny 198.18.0.2;", &["198.18.0.1/32"], None);
        check("allow 198.18.0.1;", &[], None);
        check("deny all; allow 198.18.0.1;", &["0.0.0.0/0", "::/0"], None);
        check("allow 198.18.0.1; deny 198.18.0.2; deny all;", &["198.18.0.2/32"], Some(&["198.18.0.1/32"]));
    }

    #[test]
    fn what_two_lists_cannot_say_is_refused() {
        for bad in
            ["allow 198.18.0.1; deny 198.18.0.0/15;", "allow unix:;", "deny;", "deny a b;", "allow $x;"]
        {
            assert!(read(&syntax::read(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
