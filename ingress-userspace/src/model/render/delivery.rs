//! The delivery of a route as text: only what differs from the default.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::model::backend::BackendId;
use crate::model::health::{HealthCheck, Question};
use crate::model::policy::delivery::{
    Affinity, Algorithm, Balance, Canary, CanaryRule, Delivery, Keepalive, Retry, RetryOn, SessionCookie,
};

pub(super) fn write_delivery(out: &mut String, delivery: &Delivery) -> fmt::Result {
    let Delivery { balance, affinity, canary, retry, keepalive } = delivery;
    if *balance != Balance::default() {
        writeln!(out, "    balance: {}", show_balance(balance))?;
    }
    if let Some(affinity) = affinity {
        writeln!(out, "    affinity: {}", show_affinity(affinity))?;
    }
    if let Some(canary) = canary {
        write_canary(out, canary)?;
    }
    if *retry != Retry::default() {
        writeln!(out, "    retry: {}", show_retry(retry))?;
    }
    if *keepalive != Keepalive::default() {
        let Keepalive { connections, per_endpoint, timeout, requests, time } = keepalive;
        writeln!(
            out,
            "    keepalive: {connections} idle, {per_endpoint} per endpoint, for {timeout:?}, {requests} requests, {time:?}"
        )?;
    }
    Ok(())
}

fn show_balance(balance: &Balance) -> String {
    let Balance { algorithm, slow_start } = balance;
    let mut shown = match algorithm {
        Algorithm::RoundRobin => "round robin".to_owned(),
        Algorithm::PeakEwma => "peak ewma".to_owned(),
        Algorithm::Hash { key, group: 1 } => format!("hash of {key}"),
        Algorithm::Hash { key, group } => format!("hash of {key}, groups of {group}"),
    };
    if let Some(window) = slow_start {
        shown.push_str(&format!(", slow start {window:?}"));
    }
    shown
}

fn show_affinity(affinity: &Affinity) -> String {
    let Affinity { mode, moves_on_failure, cookie } = affinity;
    let SessionCookie { name, max_age, expires, path, domain, secure, same_site, is_none_conditional } =
        cookie;
    let mut shown = format!("{mode:?} by cookie {name}, path {path}");
    let mut add = |text: String| {
        shown.push_str(", ");
        shown.push_str(&text);
    };
    max_age.iter().for_each(|seconds| add(format!("max-age {seconds}")));
    expires.iter().for_each(|seconds| add(format!("expires {seconds}")));
    domain.iter().for_each(|domain| add(format!("domain {domain}")));
    secure.iter().for_each(|secure| add(format!("secure {secure}")));
    same_site.iter().for_each(|same_site| add(format!("same site {same_site:?}")));
    if *is_none_conditional {
        add("not for browsers that misread it".to_owned());
    }
    if *moves_on_failure {
        add("moves on failure".to_owned());
    }
    shown
}

fn write_canary(out: &mut String, canary: &Canary) -> fmt::Result {
    let Canary { backend, balance, affinity, is_sticky, header, cookie, weight, weight_total } = canary;
    write!(out, "    canary {backend}:")?;
    if let Some(header) = header {
        match &header.rule {
            CanaryRule::Switch => write!(out, " header {} always or never,", header.name)?,
            CanaryRule::Value(value) => write!(out, " header {} is {value},", header.name)?,
            CanaryRule::Pattern(pattern) => write!(out, " header {} matches {pattern},", header.name)?,
            CanaryRule::Main => write!(out, " header {} chooses the main backend,", header.name)?,
        }
    }
    if let Some(cookie) = cookie {
        write!(out, " cookie {cookie} always or never,")?;
    }
    writeln!(out, " weight {weight} of {weight_total}")?;
    if *balance != Balance::default() {
        writeln!(out, "      balance: {}", show_balance(balance))?;
    }
    match affinity {
        Some(affinity) => {
            let sticky = if *is_sticky { "sticky" } else { "apart" };
            writeln!(out, "      affinity, {sticky}: {}", show_affinity(affinity))
        }
        None => Ok(()),
    }
}

fn show_retry(retry: &Retry) -> String {
    let Retry { on, tries, timeout, budget_percent } = retry;
    let RetryOn { error, timeout: late, invalid_header, non_idempotent, statuses } = on;
    let flags = [
        (error, "error"),
        (late, "timeout"),
        (invalid_header, "invalid header"),
        (non_idempotent, "not idempotent"),
    ];
    let named = flags.into_iter().filter(|(is_set, _)| **is_set).map(|(_, name)| name.to_owned());
    let on: Vec<String> = named.chain(statuses.iter().map(ToString::to_string)).collect();
    let on = if on.is_empty() { "nothing".to_owned() } else { on.join(", ") };
    let timeout = timeout.map_or_else(String::new, |time| format!(" in {time:?}"));
    format!("on {on}, {tries} tries{timeout}, budget {budget_percent} %")
}

pub(super) fn write_checks(out: &mut String, checks: &BTreeMap<BackendId, HealthCheck>) -> fmt::Result {
    for (backend, check) in checks {
        let HealthCheck { question, interval, timeout, unhealthy_threshold, healthy_threshold, upstream } =
            check;
        let protocol = upstream.protocol;
        let asked = match question {
            Question::Get(path) => path.clone(),
            Question::Grpc(service) => format!("grpc.health.v1 {service:?}"),
        };
        writeln!(
            out,
            "check {backend}: {protocol:?} {asked} every {interval:?} in {timeout:?}, {unhealthy_threshold} failures, \
             {healthy_threshold} successes"
        )?;
    }
    Ok(())
}
