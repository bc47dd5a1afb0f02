//! What holds for the whole proxy, as text. Only what differs from its default is shown.

use std::fmt::{self, Write};

use super::{bodies, exchange, join, limits};
use crate::model::block::Blocked;
use crate::model::connections::Connections;
use crate::model::global::Global;
use crate::model::log::AccessLog;
use crate::model::log::stream::StreamLog;
use crate::model::stream::Streams;
use crate::model::tls::Tls;

pub(super) fn write(out: &mut String, global: &Global) -> fmt::Result {
    let Global {
        forwarded,
        blocked,
        proxy_protocol,
        streams,
        tls,
        subrequests,
        fields,
        bodies,
        shared_limits,
        connections,
        access_log,
        drain,
        bind_addresses,
        is_ipv4_only,
    } = global;
    if proxy_protocol.is_required {
        let (trusted, within) = (join(&proxy_protocol.trusted), proxy_protocol.within);
        writeln!(out, "global PROXY protocol: required within {within:?}, believed from {trusted}")?;
    }
    if *streams != Streams::default() {
        writeln!(out, "global streams: {streams:?}")?;
    }
    bodies::write_global(out, bodies)?;
    limits::write_shared(out, shared_limits.as_ref())?;
    if forwarded.names_client {
        writeln!(out, "global forwarded: {forwarded:?}")?;
    }
    if *blocked != Blocked::default() {
        writeln!(out, "global blocked: {blocked:?}")?;
    }
    if !subrequests.api_servers.is_empty() {
        let servers = join(&subrequests.api_servers);
        writeln!(out, "global subrequests: not to local addresses, API server {servers}")?;
    }
    if subrequests.is_ipv4_only {
        writeln!(out, "global names: IPv4 addresses only")?;
    }
    exchange::write_fields(out, fields)?;
    if *tls != Tls::default() {
        write_tls(out, tls)?;
    }
    if *connections != Connections::default() {
        let Connections { idle, requests, head_time, head, streams, most, most_per_client } = connections;
        writeln!(
            out,
            "global connections: idle {idle:?}, {requests} requests, {streams} streams, most {}",
            most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string())
        )?;
        writeln!(out, "  head in {head_time:?}, line {} bytes, all {} bytes", head.line, head.all)?;
        if let Some(most) = most_per_client {
            writeln!(out, "  at most {most} connections of a client")?;
        }
    }
    if *access_log != AccessLog::default() {
        let AccessLog { is_on, format, escape, skipped, has_unmatched, destination, streams } = access_log;
        writeln!(out, "global access log: on {is_on}, unmatched {has_unmatched}, to {destination:?}")?;
        writeln!(out, "  escape {escape:?}, skips {skipped:?}, format {format}")?;
        if *streams != StreamLog::default() {
            let StreamLog { is_on, format, destination } = streams;
            writeln!(out, "  of streams: on {is_on}, to {destination:?}, format {format}")?;
        }
    }
    if let Some(drain) = drain {
        writeln!(out, "global drain: {drain:?}")?;
    }
    if !bind_addresses.is_empty() || *is_ipv4_only {
        writeln!(out, "global addresses: {}, IPv4 only {is_ipv4_only}", join(bind_addresses))?;
    }
    Ok(())
}

fn write_tls(out: &mut String, tls: &Tls) -> fmt::Result {
    let Tls {
        has_tls12,
        has_tls13,
        ciphers,
        groups,
        has_tickets,
        has_session_cache,
        rejects_unknown,
        has_http2,
    } = tls;
    let versions: Vec<&str> = [(has_tls12, "1.2"), (has_tls13, "1.3")]
        .iter()
        .filter(|(has, _)| **has)
        .map(|(_, name)| *name)
        .collect();
    let suites: Vec<&str> = ciphers.suites.iter().map(|suite| suite.name()).collect();
    writeln!(out, "global tls: {}, groups {groups:?}, ciphers {}", versions.join(" and "), suites.join(":"))?;
    writeln!(
        out,
        "  tickets {has_tickets}, session cache {has_session_cache}, rejects unknown {rejects_unknown}, HTTP/2 {has_http2}"
    )
}
