//! TLS settings and the hosts of a listener → its TLS configurations. Hosts with equal settings share one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::Model;
use crate::model::host::{Host, HostPattern};
use crate::model::policy::client_certificate::{ClientAuth, ClientAuthorities, Trust};
use crate::model::tls::Ciphers;
use crate::tls::client_certificate::Judge;
use crate::tls::resolver::CertificateTable;
use crate::tls::server::{HostTls, Sessions, TlsError, TlsTable, config};

/// The table of one listener. Hosts whose clients cannot be judged are named in `refused`; their requests are refused, since
/// no connection is good for them.
pub(super) fn table<'a>(
    model: &'a Model,
    hosts: impl Iterator<Item = &'a Host>,
    certificates: CertificateTable,
    sessions: &Sessions,
    refused: &mut Vec<String>,
) -> Result<TlsTable, TlsError> {
    let settings = &model.global.tls;
    let certificates = Arc::new(certificates);
    let mut table = TlsTable::new(settings, Arc::clone(&certificates), sessions)?;
    let mut made: HashMap<(&Ciphers, Option<&Trust>), HostTls> = HashMap::new();
    let hosts: Vec<&Host> = hosts.collect();
    // Names without settings of their own get the default's, and that asks for a certificate then.
    let is_default_asking =
        hosts.iter().any(|host| host.pattern == HostPattern::Any && trust(host).is_some());
    for host in hosts {
        let trust = trust(host);
        if host.ciphers.is_none() && trust.is_none() && !is_default_asking {
            continue;
        }
        let ciphers = host.ciphers.as_ref().unwrap_or(&settings.ciphers);
        let tls = match made.get(&(ciphers, trust)) {
            Some(tls) => tls.clone(),
            None => {
                let judge = trust.and_then(|trust| judge(&model.client_authorities, trust, refused));
                let config = config(settings, ciphers, &certificates, sessions, judge.as_deref())?;
                HostTls { config, judge }
            }
        };
        made.insert((ciphers, trust), tls.clone());
        match &host.pattern {
            HostPattern::Exact(name) => table.insert_exact(name, tls),
            HostPattern::Wildcard(suffix) => table.insert_wildcard(suffix, tls),
            HostPattern::Any => table.set_default(tls),
        }
    }
    Ok(table)
}

fn trust(host: &Host) -> Option<&Trust> {
    match host.client_auth.as_ref()? {
        ClientAuth::Certificate(wanted) => Some(&wanted.trust),
        ClientAuth::Broken { .. } => None,
    }
}

fn judge(
    authorities: &BTreeMap<String, ClientAuthorities>,
    trust: &Trust,
    refused: &mut Vec<String>,
) -> Option<Arc<Judge>> {
    let Some(authorities) = authorities.get(&trust.authorities) else {
        refused.push(
            "authorities of client certificates are missing; their hosts refuse every request".to_owned(),
        );
        return None;
    };
    match Judge::new(trust, authorities) {
        Ok(judge) => Some(Arc::new(judge)),
        Err(error) => {
            let source = &authorities.source;
            refused.push(format!(
                "Secret {}/{}: its authorities cannot be used ({error}); hosts that ask for certificates of them refuse \
                 every request. Put valid certificates in ca.crt",
                source.namespace, source.name
            ));
            None
        }
    }
}
