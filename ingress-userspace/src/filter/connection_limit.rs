//! `limit-connections`: requests of one client in flight, as nginx's `limit_conn`.
//!
//! One count per Ingress and client, shared by its paths and by all workers of the node. A request counts until its
//! response has ended, however it ends; a WebSocket until it is closed; each stream of HTTP/2 on its own.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;

use super::{Filter, Outcome, Stop};
use crate::model::policy::ConnectionLimit;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;
use crate::proxy::limit_key::{Counted, Key, refusal};
use crate::snapshot::in_flight::InFlight;

/// Requests in flight of one client.
#[derive(Debug)]
pub struct RequestsInFlight {
    table: Arc<InFlight>,
    identity: Box<str>,
    most: u32,
    counted: Counted,
    status: StatusCode,
}

/// Why a limit cannot be enforced.
#[derive(Debug, thiserror::Error)]
#[error("the connection limit's status {0} is not between 400 and 599")]
pub struct ConnectionLimitError(u16);

impl RequestsInFlight {
    /// From the model.
    pub fn from_policy(
        policy: &ConnectionLimit,
        table: &Arc<InFlight>,
    ) -> Result<Self, ConnectionLimitError> {
        let ConnectionLimit { bucket, most, key, exempt, status } = policy;
        Ok(Self {
            table: Arc::clone(table),
            identity: bucket.as_str().into(),
            most: *most,
            counted: Counted::new(key, exempt),
            status: refusal(*status).ok_or(ConnectionLimitError(*status))?,
        })
    }
}

impl Filter for RequestsInFlight {
    const NAME: &'static str = "connection_limit";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let Some(key) = self.counted.key(ctx, &request.head) else { return ControlFlow::Continue(()) };
        let held = match key {
            Key::Address(address) => self.table.enter(&self.identity, address, self.most),
            Key::Text(text) => self.table.enter(&self.identity, text, self.most),
        };
        match held {
            Some(held) => {
                ctx.in_flight.push(held);
                ControlFlow::Continue(())
            }
            None => {
                ctx.worker.counters.rate_limited.add(1);
                ControlFlow::Break(Stop::Fail(ProxyError::TooManyInFlight(self.status)))
            }
        }
    }
}
