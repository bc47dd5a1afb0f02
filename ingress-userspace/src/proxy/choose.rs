//! Which backend takes a request, and in which order its endpoints are tried.
//!
//! The main backend, by weight where a route has several; or its canary, by session, header, cookie and share, in that
//! order. A canary without an endpoint takes nothing. When the main backend has none the fallback serves.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::context::RequestCtx;
use super::error::ProxyError;
use super::head::RequestHead;
use super::session::{self, Session};
use super::variables::{View, cookie};
use crate::filter::{Outcome, Stop};
use crate::model::policy::delivery::{Affinity, Algorithm, Balance};
use crate::snapshot::delivery::{Canary, Delivery, Rule};
use crate::snapshot::{Action, Route, Target};
use crate::upstream::backend::{Endpoint, EndpointSet};
use crate::upstream::balance::{Picker, hash, round_robin};

/// A backend that was chosen for a request.
#[derive(Debug)]
pub struct Choice<'r> {
    /// Which.
    pub target: &'r Target,
    /// Its endpoints; at least one is usable.
    pub endpoints: Arc<EndpointSet>,
    /// It serves in place of one without endpoints.
    pub is_fallback: bool,
    /// The order of its endpoints.
    pub picker: Picker,
    /// The session that the request belongs to.
    pub session: Option<Session<'r>>,
}

impl<'r> Choice<'r> {
    fn new(
        ctx: &RequestCtx,
        head: &RequestHead,
        (target, endpoints): (&'r Target, Arc<EndpointSet>),
        balance: &Balance,
        affinity: Option<&'r Affinity>,
    ) -> Self {
        let backend = &target.backend;
        let picker = match &balance.algorithm {
            Algorithm::RoundRobin => Picker::in_turn(backend, balance.slow_start),
            Algorithm::PeakEwma => Picker::best(balance.slow_start),
            Algorithm::Hash { key, group } => {
                let text = View::new(ctx, head).expand(key);
                Picker::ranked(hash::of(text.as_bytes()), *group)
            }
        };
        let session = affinity.map(|affinity| Session::open(affinity, backend, head));
        Self { target, endpoints, is_fallback: false, picker, session }
    }

    /// The endpoint of the next try.
    pub fn endpoint(&mut self, ctx: &RequestCtx, failed: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        if !failed.is_empty() {
            // They may be others by now.
            let endpoints = self.target.backend.endpoints.pin();
            if !endpoints.usable.is_empty() {
                self.endpoints = endpoints;
            }
        }
        let (usable, random) = (&self.endpoints.usable, || ctx.worker.random());
        let picked = match &mut self.session {
            Some(session) => session.pick(usable, failed, &self.picker, random),
            None => self.picker.pick(usable, failed, random),
        };
        picked.map(Arc::clone)
    }
}

/// Refuses what no endpoint can take before limits count it and anybody is asked for a password.
pub fn served(route: &Route) -> Outcome {
    let Action::Forward { targets, fallback, .. } = &route.action else { return ControlFlow::Continue(()) };
    if !route.chain.is_guarded() {
        return ControlFlow::Continue(());
    }
    let canary = route.delivery.canary.as_deref().map(|canary| &canary.target);
    let mut is_missing = false;
    for target in targets.iter().chain(fallback).chain(canary) {
        let endpoints = target.backend.endpoints.pin();
        if !endpoints.usable.is_empty() {
            return ControlFlow::Continue(());
        }
        is_missing |= endpoints.is_missing;
    }
    let failure = if is_missing { ProxyError::BackendMissing } else { ProxyError::NoEndpoint };
    ControlFlow::Break(Stop::Fail(failure))
}

/// The backend for a request.
pub fn choose<'r>(ctx: &RequestCtx, route: &'r Route, head: &RequestHead) -> Result<Choice<'r>, ProxyError> {
    let Action::Forward { targets, total_weight, fallback } = &route.action else {
        return Err(ProxyError::NoRoute);
    };
    let Delivery { balance, affinity, canary, .. } = &route.delivery;
    let main = round_robin::weighted(targets, *total_weight, || ctx.worker.random());
    if let Some(canary) = canary.as_deref() {
        let endpoints = canary.target.backend.endpoints.pin();
        if !endpoints.usable.is_empty() && takes(ctx, canary, main.zip(affinity.as_ref()), head) {
            let target = (&canary.target, endpoints);
            return Ok(Choice::new(ctx, head, target, &canary.balance, canary.affinity.as_ref()));
        }
    }
    let endpoints = main.map(|target| (target, target.backend.endpoints.pin()));
    if let Some((target, endpoints)) = &endpoints
        && !endpoints.usable.is_empty()
    {
        let target = (*target, Arc::clone(endpoints));
        return Ok(Choice::new(ctx, head, target, balance, affinity.as_ref()));
    }
    if let Some(target) = fallback {
        let endpoints = target.backend.endpoints.pin();
        if !endpoints.usable.is_empty() {
            let choice = Choice::new(ctx, head, (target, endpoints), &Balance::default(), None);
            return Ok(Choice { is_fallback: true, ..choice });
        }
    }
    match endpoints {
        Some((_, endpoints)) if endpoints.is_missing => Err(ProxyError::BackendMissing),
        _ => Err(ProxyError::NoEndpoint),
    }
}

/// Whether a canary takes a request.
fn takes(ctx: &RequestCtx, canary: &Canary, main: Option<(&Target, &Affinity)>, head: &RequestHead) -> bool {
    if canary.is_sticky {
        if main.is_some_and(|(target, affinity)| session::is_of(affinity, &target.backend, head)) {
            return false;
        }
        let affinity = canary.affinity.as_ref();
        if affinity.is_some_and(|affinity| session::is_of(affinity, &canary.target.backend, head)) {
            return true;
        }
    }
    let by_header = canary.header.as_ref().and_then(|(names, rule)| {
        let value = names.iter().find_map(|name| head.headers.get(name))?.as_bytes();
        match rule {
            Rule::Switch => switch(value),
            Rule::Value(wanted) => (value == wanted.as_bytes()).then_some(true),
            Rule::Pattern(pattern) => pattern.is_match(value).then_some(true),
            Rule::Main => Some(false),
        }
    });
    let by_cookie = || {
        let name = canary.cookie.as_ref()?;
        switch(cookie(head, name)?.as_bytes())
    };
    let by_share = || {
        let draw = ctx.worker.random().checked_rem(canary.weight_total.into()).unwrap_or_default();
        draw < u64::from(canary.weight)
    };
    by_header.or_else(by_cookie).unwrap_or_else(by_share)
}

fn switch(value: &[u8]) -> Option<bool> {
    match value {
        b"always" => Some(true),
        b"never" => Some(false),
        _ => None,
    }
}
