//! `mirror-target`: a copy of every request that was let through goes to another place; the answer is thrown away.
//!
//! Unlike in nginx the copy never delays nor fails the request: it is sent beside it, by a task of its own. A body is copied
//! while it streams to the backend. Copies under way are bounded per worker, and so is the copied body; what does not
//! fit is left out and counted (`portcullis_mirrored_requests_total`).

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body_util::Full;

use super::{Filter, Outcome};
use crate::model::backend::BackendId;
use crate::model::policy;
use crate::model::template::Template;
use crate::proxy::context::RequestCtx;
use crate::proxy::forward;
use crate::proxy::head::Request;
use crate::proxy::variables::View;
use crate::proxy::worker::Worker;
use crate::upstream::backend::BackendCell;
use crate::upstream::subrequest::Deadlines;
use crate::upstream::subrequest::target::{Resolved, Target};

/// Copies under way per worker.
const MOST: u32 = 32;
/// Bytes of a body that is copied.
const LONGEST_BODY: usize = 1 << 20;
/// A slow target holds the place of others no longer than this.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// Where copies go.
#[derive(Debug)]
pub struct Mirror {
    target: Target,
    host: Option<Template>,
    with_body: bool,
}

impl Mirror {
    /// From the model.
    pub fn from_policy(
        policy: &policy::mirror::Mirror,
        cell: impl FnOnce(&BackendId) -> Arc<BackendCell>,
    ) -> Self {
        Self {
            target: Target::new(&policy.url, cell),
            host: policy.host.clone(),
            with_body: policy.with_body,
        }
    }

    /// The copy without its body, and where it goes.
    fn copy(&self, ctx: &RequestCtx, request: &Request) -> Option<(Resolved, http::Request<()>)> {
        let view = View::new(ctx, &request.head);
        let to = self.target.resolve(&view).ok()?;
        let host = match &self.host {
            Some(template) => HeaderValue::try_from(view.expand(template)).ok()?,
            None => to.host_value()?,
        };
        let outgoing = forward::to_upstream(ctx, request.head.clone(), None);
        let mut copy = http::Request::new(());
        *copy.method_mut() = outgoing.method;
        *copy.uri_mut() = to.path.clone().into();
        *copy.headers_mut() = outgoing.headers;
        // The length is that of what is sent.
        copy.headers_mut().remove(header::CONTENT_LENGTH);
        copy.headers_mut().insert(header::HOST, host);
        Some((to, copy))
    }
}

impl Filter for Mirror {
    const NAME: &'static str = "mirror";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let worker = &ctx.worker;
        let is_too_long =
            self.with_body && request.body.announced().is_some_and(|length| length > LONGEST_BODY as u64);
        let copy = if worker.mirroring.get() < MOST && !is_too_long { self.copy(ctx, request) } else { None };
        let Some((to, copy)) = copy else {
            worker.counters.mirrors_dropped.add(1);
            return ControlFlow::Continue(());
        };
        let body = if self.with_body { request.body.copied(LONGEST_BODY) } else { None };
        let connect = ctx.route.as_ref().map_or(LONGEST_ANSWER, |route| route.timeouts.connect);
        let deadlines = Deadlines { connect: connect.min(LONGEST_ANSWER), answer: LONGEST_ANSWER };
        let snapshot = Arc::clone(&ctx.snapshot);
        let under_way = UnderWay::begin(worker);
        // Ends by its deadlines; nobody waits for it.
        tokio::task::spawn_local(async move {
            let counters = &under_way.0.counters;
            let body = match body {
                None => Bytes::new(),
                Some(body) => match body.await {
                    Ok(body) => body,
                    Err(_incomplete) => return counters.mirrors_dropped.add(1),
                },
            };
            let (parts, ()) = copy.into_parts();
            let copy = http::Request::from_parts(parts, Full::new(body));
            let rules = &snapshot.globals.subrequests;
            match under_way.0.subrequests.send(rules, &to, &copy, deadlines).await {
                Ok(_answer) => counters.mirrors_sent.add(1),
                Err(error) => {
                    tracing::debug!(%error, "request not mirrored");
                    counters.mirrors_failed.add(1);
                }
            }
        });
        ControlFlow::Continue(())
    }
}

/// A copy under way.
struct UnderWay(Rc<Worker>);

impl UnderWay {
    fn begin(worker: &Rc<Worker>) -> Self {
        worker.mirroring.set(worker.mirroring.get() + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.mirroring.set(self.0.mirroring.get().saturating_sub(1));
    }
}
