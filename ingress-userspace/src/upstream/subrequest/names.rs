//! Names → addresses, by the system's resolver, kept for a moment: a name that is asked for by every request is looked up
//! every few seconds, and one that cannot be resolved does not keep a thread busy for each request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::SubrequestError;

/// How long an answer holds.
const HOLDS: Duration = Duration::from_secs(10);
/// How long a failure holds.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);
/// How long the last answer is used while the resolver fails.
const STALE: Duration = Duration::from_secs(60);
/// Names that are kept.
const MOST: usize = 256;

/// Names of one worker.
#[derive(Debug, Default)]
pub struct Names(RefCell<HashMap<String, Known>>);

#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    found: Instant,
    /// The resolver failed then.
    failed: Option<Instant>,
}

impl Names {
    /// The addresses of a host that is a name or an address.
    pub async fn look_up(
        &self,
        host: &str,
        port: u16,
        is_ipv4_only: bool,
    ) -> Result<Vec<SocketAddr>, SubrequestError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.0.borrow().get(host).cloned();
        let has_failed = |known: &Known| known.failed.is_some_and(|failed| failed.elapsed() < FAILURE_HOLDS);
        let addresses = match known {
            Some(known) if !known.addresses.is_empty() && known.found.elapsed() < HOLDS => known.addresses,
            Some(known) if has_failed(&known) => known.usable(failure())?,
            known => match tokio::net::lookup_host((host, port)).await {
                Ok(found) => self.learn(host, found.map(|address| address.ip()).collect()),
                Err(error) => self.failed(host, known, error)?,
            },
        };
        let wanted = addresses.into_iter().filter(|address| address.is_ipv4() || !is_ipv4_only);
        Ok(wanted.map(|address| SocketAddr::new(address, port)).collect())
    }

    fn learn(&self, host: &str, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        self.keep(host, Known { addresses: addresses.clone(), found: Instant::now(), failed: None });
        addresses
    }

    fn failed(
        &self,
        host: &str,
        known: Option<Known>,
        error: io::Error,
    ) -> Result<Vec<IpAddr>, SubrequestError> {
        let now = Instant::now();
        let mut known = known.unwrap_or(Known { addresses: Vec::new(), found: now, failed: None });
        known.failed = Some(now);
        self.keep(host, known.clone());
        known.usable(error)
    }

    fn keep(&self, host: &str, known: Known) {
        let mut names = self.0.borrow_mut();
        if names.len() >= MOST {
            names.retain(|_, known| known.found.elapsed() < HOLDS);
        }
        if names.len() >= MOST {
            names.clear();
        }
        names.insert(host.to_owned(), known);
    }
}

impl Known {
    fn usable(self, error: io::Error) -> Result<Vec<IpAddr>, SubrequestError> {
        if self.addresses.is_empty() || self.found.elapsed() > STALE {
            return Err(SubrequestError::Resolve(error));
        }
        Ok(self.addresses)
    }
}

fn failure() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name was not resolved a moment ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_resolver_and_failures_are_kept_for_a_moment() {
        let names = Names::default();
        let found = names.look_up("2001:db8::1", 80, true).await.unwrap();
        assert_eq!(found, ["[2001:db8::1]:80".parse().unwrap()]);
        let known = Known { addresses: Vec::new(), found: Instant::now(), failed: Some(Instant::now()) };
        names.keep("gone.example", known);
        assert!(matches!(names.look_up("gone.example", 80, false).await, Err(SubrequestError::Resolve(_))));
        let both = ["2001:db8::1", "198.18.0.1"].map(|address| address.parse().unwrap());
        names.learn("known.example", both.to_vec());
        assert_eq!(names.look_up("known.example", 8080, false).await.unwrap().len(), 2);
        let found = names.look_up("known.example", 8080, true).await.unwrap();
        assert_eq!(found, ["198.18.0.1:8080".parse().unwrap()]);
    }
}
