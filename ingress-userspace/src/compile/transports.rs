//! Upstream policies → transports, one per distinct policy. One that is as it was before is taken over, with its open
//! connections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::Model;
use crate::model::policy::upstream::{Upstream, UpstreamProtocol};
use crate::tls::client::{ClientTls, Material};
use crate::tls::resolver::Certificates;
use crate::upstream::transport::{RouteTransport, Transport, UpstreamVersion};

/// The transports of all routes.
#[derive(Debug, Default)]
pub struct Transports {
    known: HashMap<Upstream, Result<RouteTransport, String>>,
    /// Numbers given away so far.
    count: u64,
}

impl Transports {
    /// Makes what is new and forgets what no route uses any more.
    pub fn update(&mut self, model: &Model, certificates: &Certificates) {
        let routes = model.hosts.iter().flat_map(|host| &host.routes);
        let of_routes = routes.map(|route| &route.policies.upstream);
        let of_checks = model.checks.values().map(|check| &check.upstream);
        let used: HashSet<&Upstream> = of_routes.chain(of_checks).collect();
        self.known.retain(|policy, _| used.contains(policy));
        for policy in used {
            if !self.known.contains_key(policy) {
                let made = self.make(policy, model, certificates);
                self.known.insert(policy.clone(), made);
            }
        }
    }

    /// The transport of a policy, or why there is none.
    pub fn of(&self, policy: &Upstream) -> Result<RouteTransport, String> {
        match self.known.get(policy) {
            Some(made) => made.clone(),
            None => Err("the way to speak to its endpoints was not compiled".to_owned()),
        }
    }

    fn make(
        &mut self,
        policy: &Upstream,
        model: &Model,
        certificates: &Certificates,
    ) -> Result<RouteTransport, String> {
        let version = match (policy.protocol, policy.is_http10) {
            (UpstreamProtocol::Grpc | UpstreamProtocol::Grpcs, _) => UpstreamVersion::Http2,
            (_, true) => UpstreamVersion::Http10,
            (_, false) => UpstreamVersion::Http11,
        };
        let plain = |id| Arc::new(Transport { id, version, tls: None });
        let mut tls = || {
            let tls = client_tls(policy, model, certificates, version)?;
            Ok::<_, String>(Arc::new(Transport { id: self.next(), version, tls: Some(tls) }))
        };
        Ok(match policy.protocol {
            UpstreamProtocol::Http if version == UpstreamVersion::Http11 => RouteTransport::plain(),
            UpstreamProtocol::Http | UpstreamProtocol::Grpc => RouteTransport::Fixed(plain(self.next())),
            UpstreamProtocol::Https | UpstreamProtocol::Grpcs => RouteTransport::Fixed(tls()?),
            UpstreamProtocol::AutoHttp => {
                let https = tls()?;
                RouteTransport::ByScheme { http: plain(self.next()), https }
            }
        })
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

fn client_tls(
    policy: &Upstream,
    model: &Model,
    certificates: &Certificates,
    version: UpstreamVersion,
) -> Result<ClientTls, String> {
    let certificate = match &policy.tls.certificate {
        None => None,
        Some(wanted) => Some(certificates.get(&wanted.id).ok_or_else(|| {
            format!("the certificate of Secret {}/{} cannot be used", wanted.id.namespace, wanted.id.name)
        })?),
    };
    let authorities = match &policy.tls.verify {
        None => None,
        Some(verify) => Some(
            model.authorities.get(&verify.authorities).ok_or("the authorities that it trusts are missing")?,
        ),
    };
    let is_http2 = version == UpstreamVersion::Http2;
    ClientTls::new(&policy.tls, Material { certificate, authorities, is_http2 })
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::self_signed;

    #[test]
    fn equal_policies_share_a_transport_across_models_and_others_do_not() {
        let certificates = Certificates::new(self_signed::generate().unwrap());
        let mut transports = Transports::default();
        let mut id = |policy: &Upstream| {
            let made = transports.make(policy, &Model::default(), &certificates).unwrap();
            made.of(crate::proxy::context::Scheme::Https).id
        };
        let of = |protocol| Upstream { protocol, ..Upstream::default() };
        assert_eq!(id(&of(UpstreamProtocol::Http)), 0);
        let others = [UpstreamProtocol::Https, UpstreamProtocol::Grpc, UpstreamProtocol::Grpcs]
            .map(|protocol| id(&of(protocol)));
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), 3);
    }
}
