//! The delivery of a route: which endpoint, and over which connection.

use http::header::HeaderName;

use crate::model::backend::BackendId;
use crate::model::policy::delivery::{self as model, CanaryRule};
use crate::path_regex;
use crate::snapshot::Target;
use crate::snapshot::delivery::{Canary, Delivery, Rule};

/// Compiles it. `target` gives a backend its cell and its labels.
pub fn delivery(policy: &model::Delivery, target: impl FnOnce(&BackendId) -> Target) -> Delivery {
    let model::Delivery { balance, affinity, canary, retry, keepalive } = policy;
    Delivery {
        balance: balance.clone(),
        affinity: affinity.clone(),
        canary: canary.as_ref().map(|policy| Box::new(canary_of(policy, target))),
        retry: retry.clone(),
        keepalive: *keepalive,
    }
}

fn canary_of(policy: &model::Canary, target: impl FnOnce(&BackendId) -> Target) -> Canary {
    let model::Canary { backend, balance, affinity, is_sticky, header, cookie, weight, weight_total } =
        policy;
    let header = header.as_ref().and_then(|header| {
        let rule = match &header.rule {
            CanaryRule::Switch => Rule::Switch,
            CanaryRule::Value(value) => Rule::Value(value.clone()),
            // Translation has named an expression that cannot be used; requests go to the main backend then.
            CanaryRule::Pattern(text) => path_regex::search(text).map_or(Rule::Main, Rule::Pattern),
            CanaryRule::Main => Rule::Main,
        };
        // What is no name of a header no request can have.
        let name = |text: String| HeaderName::from_bytes(text.as_bytes()).ok();
        Some(([name(header.name.replace('_', "-"))?, name(header.name.replace('-', "_"))?], rule))
    });
    Canary {
        target: target(backend),
        balance: balance.clone(),
        affinity: affinity.clone(),
        is_sticky: *is_sticky,
        header,
        cookie: cookie.clone(),
        weight: *weight,
        weight_total: (*weight_total).max(1),
    }
}
