//! Limits of a route as text.

use std::fmt::{self, Write};

use super::join;
use crate::model::policy::{ConnectionLimit, Disclosure, LimitKey, Rate, RateLimit};
use crate::model::shared_limits::SharedLimits;

/// Only what differs from the common case is shown beside the rates.
pub(super) fn write_rates(out: &mut String, name: &str, limit: Option<&RateLimit>) -> fmt::Result {
    let Some(RateLimit { bucket, rates, key, exempt, status, disclosure }) = limit else { return Ok(()) };
    let shown = |Rate { requests, period, burst }: &Rate| match period.as_secs() {
        1 => format!("{requests}/s, burst {burst}"),
        seconds => format!("{requests}/{seconds} s, burst {burst}"),
    };
    let rates: Vec<String> = rates.iter().map(shown).collect();
    write!(out, "    {name}: {}, else {status}, bucket {bucket}", rates.join("; "))?;
    write_key(out, key)?;
    write_exempt(out, exempt)?;
    out.push_str(match disclosure {
        Disclosure::Nothing => "\n",
        Disclosure::RetryAfter => ", told when to retry\n",
        Disclosure::All => ", told on every answer\n",
    });
    Ok(())
}

pub(super) fn write_connections(out: &mut String, limit: Option<&ConnectionLimit>) -> fmt::Result {
    let Some(ConnectionLimit { bucket, most, key, exempt, status }) = limit else { return Ok(()) };
    write!(out, "    in flight: {most}, else {status}, bucket {bucket}")?;
    write_key(out, key)?;
    write_exempt(out, exempt)?;
    out.push('\n');
    Ok(())
}

pub(super) fn write_shared(out: &mut String, shared: Option<&SharedLimits>) -> fmt::Result {
    let Some(SharedLimits { address, database, is_tls, authorities, prefix, user, password }) = shared else {
        return Ok(());
    };
    write!(out, "global limits: shared by {address}, database {database}, prefix {prefix}")?;
    if *is_tls {
        out.push_str(", TLS");
    }
    if authorities.is_some() {
        out.push_str(" by authorities of its own");
    }
    if let Some(user) = user {
        write!(out, ", user {user}")?;
    }
    out.push_str(if password.is_some() { ", password [redacted]\n" } else { "\n" });
    Ok(())
}

fn write_key(out: &mut String, key: &LimitKey) -> fmt::Result {
    if key.is_address() {
        return Ok(());
    }
    let fallback = if key.falls_back { " or the address" } else { "" };
    write!(out, ", key {}{fallback}", key.template)
}

fn write_exempt(out: &mut String, exempt: &[ipnet::IpNet]) -> fmt::Result {
    if exempt.is_empty() { Ok(()) } else { write!(out, ", not for {}", join(exempt)) }
}
