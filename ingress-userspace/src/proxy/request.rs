//! THE path of a request, top to bottom: log record → gate → pinned snapshot → route → request filters → endpoint →
//! response → response filters. The order of the filters is the text of [`request_filters`].

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderValue, header, request};
use hyper::body::Incoming;
use tracing::{debug, error, warn};

use super::body::{Body, Progress};
use super::context::{ActiveRequest, ConnectionInfo, RequestCtx};
use super::error::{ProxyError, Source};
use super::head::{Request, RequestHead, Response};
use super::worker::Worker;
use super::{choose, finish, forward, forwarded, gate, liveness, logged, retry, session, upgrade};
use crate::error_chain;
use crate::filter::satisfy::Access;
use crate::filter::{Chain, Outcome, Stop, compression, error_page, headers, redirect, run, run_response};
use crate::snapshot::{Action, Route};
use crate::telemetry::access_log::Record;

/// Serves one request. Whatever happens becomes a response, unless the route wants none, and a log line.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionInfo>,
    mut engine: http::Request<Incoming>,
) -> Result<http::Response<Body>, finish::HungUp> {
    let wanted = forward::wanted_upgrade(engine.headers(), engine.version());
    let client_side = wanted.is_some().then(|| hyper::upgrade::on(&mut engine));
    let (parts, incoming) = engine.into_parts();
    let (version, is_head) = (parts.version, parts.method == http::Method::HEAD);
    let request_id = match parts.headers.get(forward::X_REQUEST_ID) {
        Some(id) if !id.is_empty() => id.clone(),
        _ => worker.request_id(),
    };
    let snapshot = worker.snapshot.pin();
    let log = &snapshot.globals.access_log;
    let mut record = Record::open(&worker.reporter, &log.format, connection.peer.client, &parts, request_id);
    if !log.is_on {
        record.leave_out();
    }
    worker.counters.requests.add(1);
    let active = ActiveRequest::begin(&connection);
    let mut ctx = RequestCtx::new(worker, connection, snapshot, record);
    ctx.upgrade = client_side;
    let globals = Arc::clone(&ctx.snapshot.globals);
    ctx.accepted = globals.compression.as_ref().map(|compression| compression.accepted(&parts));
    let (body, progress) = Body::client(incoming, version, globals.client_body_gap);
    // A defect in one request must not end the others of its connection, nor the process.
    let answered = AssertUnwindSafe(answer(&mut ctx, parts, body, &progress, wanted)).catch_unwind().await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => fail(&ctx, &failure),
        Err(_panic) => {
            error!(request_id = ?ctx.record.request_id, "request handler panicked, answered 500");
            ctx.worker.counters.panics.add(1);
            fail(&ctx, &ProxyError::Panic)
        }
    };
    headers::change_globally(&ctx, &mut response);
    if let Some(route) = ctx.route.clone() {
        response_filters(&route.chain, &mut ctx, &mut response);
    }
    finish::finish(ctx, active, response, version, is_head, &progress)
}

async fn answer(
    ctx: &mut RequestCtx,
    parts: request::Parts,
    body: Body,
    progress: &Rc<Progress>,
    wanted: Option<HeaderValue>,
) -> Result<Response, ProxyError> {
    let request = admit(ctx, parts, body)?;
    dispatch(ctx, request, progress, wanted).await
}

fn admit(ctx: &mut RequestCtx, parts: request::Parts, body: Body) -> Result<Request, ProxyError> {
    let globals = &ctx.snapshot.globals;
    let head =
        gate::admit(parts, globals.fields.names, globals.connections.head).map_err(ProxyError::Gate)?;
    if let Some(peer) = forwarded::peer(&ctx.snapshot.globals.forwarded, &ctx.peer, &head.headers) {
        ctx.record.client = peer.client;
        ctx.peer = Rc::new(peer);
    }
    let (agent, referer) = (head.headers.get(&header::USER_AGENT), head.headers.get(&header::REFERER));
    if ctx.snapshot.globals.blocked.refuses(ctx.peer.client, agent, referer) {
        logged::values(ctx, &head);
        ctx.head = Some(Rc::new(head));
        return Err(ProxyError::Blocked);
    }
    Ok(Request { head, body })
}

/// What is decided of a request before an endpoint is asked.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made, once per request")]
pub enum Decision {
    /// The proxy answers.
    Answer(Response),
    /// Authentication refuses it.
    Refuse(Response),
    /// It goes to an endpoint of the route, as the filters left it.
    Forward(Arc<Route>, Request),
}

/// What would become of a request with a body as long as it says; no endpoint is asked.
pub async fn rehearse(ctx: &mut RequestCtx, parts: request::Parts) -> Result<Decision, ProxyError> {
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let request = admit(ctx, parts, Body::unread(length.unwrap_or_default()))?;
    decide(ctx, request).await
}

/// A request of the proxy itself, through the same filters to the same routes as a client's.
pub(super) async fn serve_internal(ctx: &mut RequestCtx, request: Request) -> Response {
    let answered = dispatch(ctx, request, &Progress::finished(), None).await;
    let mut response = answered.unwrap_or_else(|failure| fail(ctx, &failure));
    if let Some(route) = ctx.route.clone() {
        response_filters(&route.chain, ctx, &mut response);
    }
    ctx.record.answered(response.head.status, response.head.headers.as_engine());
    response
}

async fn dispatch(
    ctx: &mut RequestCtx,
    request: Request,
    progress: &Rc<Progress>,
    wanted: Option<HeaderValue>,
) -> Result<Response, ProxyError> {
    let answered = match decide(ctx, request).await {
        Ok(Decision::Answer(response)) => return Ok(response),
        Ok(Decision::Refuse(response)) => Ok(response),
        Ok(Decision::Forward(route, request)) => send(ctx, &route, request, progress, wanted).await,
        Err(failure) => Err(failure),
    };
    let (Some(route), Some(head)) = (ctx.route.clone(), ctx.head.clone()) else { return answered };
    let Some(pages) = &route.chain.error_pages else { return answered };
    match answered {
        Ok(response) => Ok(pages.replace_answer(ctx, &route, &head, response).await),
        Err(failure) => match pages.replace_failure(ctx, &route, &head, &failure).await {
            Some(page) => {
                note(ctx, &failure);
                Ok(page)
            }
            None => Err(failure),
        },
    }
}

async fn decide(ctx: &mut RequestCtx, mut request: Request) -> Result<Decision, ProxyError> {
    let route = route(ctx, &request.head);
    if ctx.snapshot.globals.fields.quotes_request()
        || route.as_ref().is_some_and(|route| route.chain.quotes_request())
    {
        ctx.head = Some(Rc::new(request.head.clone()));
    }
    if let Some(alive) = liveness::answer(ctx, &request.head, route.as_deref()) {
        return Ok(Decision::Answer(alive));
    }
    let Some(route) = route else {
        logged::values(ctx, &request.head);
        return Err(ProxyError::NoRoute);
    };
    ctx.record.labels = Arc::clone(&route.labels);
    ctx.route = Some(Arc::clone(&route));
    let outcome = request_filters(&route, ctx, &mut request).await;
    logged::values(ctx, &request.head);
    match outcome {
        ControlFlow::Continue(()) => {}
        ControlFlow::Break(Stop::Respond(response)) => return Ok(Decision::Answer(response)),
        ControlFlow::Break(Stop::Refuse(response)) => return Ok(Decision::Refuse(response)),
        ControlFlow::Break(Stop::Fail(failure)) => return Err(failure),
    }
    match &route.action {
        Action::Respond(status) => Ok(Decision::Answer(Response::text(*status))),
        Action::Redirect { status, path, form } => {
            redirect::to_path(ctx, &request.head, *status, path, *form).map(Decision::Answer)
        }
        Action::Forward { .. } => Ok(Decision::Forward(route, request)),
    }
}

/// The route that takes a request.
fn route(ctx: &mut RequestCtx, head: &RequestHead) -> Option<Arc<Route>> {
    let router = &ctx.snapshot.listener(&ctx.connection.listener)?.router;
    let host = head.host.name();
    let route = router.route(host, head.target.path()).map(Arc::clone);
    if !logged::is_wanted(&ctx.snapshot, head, route.as_deref(), || router.has_rule(host)) {
        ctx.record.leave_out();
    }
    route
}

/// In the order of nginx's phases: the announced length of the body; CORS preflight; answers without a backend (app-root,
/// permanent and temporal redirects, to or from `www.`, those of snippets); redirects to HTTPS; whether there is an endpoint;
/// limits; source lists and authentication (with `satisfy`); mirror; then what concerns the request that goes upstream. So
/// redirects and preflight answers pass limits, lists and authentication.
async fn request_filters(route: &Route, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
    let Chain {
        client_certificate,
        deny,
        cors,
        answers,
        https_redirect,
        rate_limit,
        is_one_enough,
        deny_list,
        quota,
        connection_limit,
        bandwidth,
        allow_list,
        auth_basic,
        auth_digest,
        auth_external,
        body_limit,
        mirror,
        request_buffer,
        response_buffer,
        rewrite,
        headers,
        answer_rewrite: _,
        error_pages: _,
        trace,
    } = &route.chain;
    run(client_certificate, ctx, request).await?;
    run(deny, ctx, request).await?;
    if let Some(limit) = body_limit {
        limit.announced(request)?;
    }
    run(cors, ctx, request).await?;
    run(answers, ctx, request).await?;
    run(https_redirect, ctx, request).await?;
    choose::served(route)?;
    run(rate_limit, ctx, request).await?;
    run(quota, ctx, request).await?;
    run(connection_limit, ctx, request).await?;
    run(bandwidth, ctx, request).await?;
    let mut access = Access::new(*is_one_enough);
    access.refusing(deny_list, ctx, request).await?;
    access.step(allow_list, ctx, request).await?;
    access.step(auth_basic, ctx, request).await?;
    access.step(auth_digest, ctx, request).await?;
    access.step(auth_external, ctx, request).await?;
    access.end()?;
    run(body_limit, ctx, request).await?;
    run(mirror, ctx, request).await?;
    run(rewrite, ctx, request).await?;
    run(headers, ctx, request).await?;
    run(response_buffer, ctx, request).await?;
    run(request_buffer, ctx, request).await?;
    run(trace, ctx, request).await?;
    ControlFlow::Continue(())
}

/// In reverse; our own answers pass through them too.
fn response_filters(chain: &Chain, ctx: &mut RequestCtx, response: &mut Response) {
    let Chain {
        client_certificate,
        deny,
        cors,
        answers,
        https_redirect,
        rate_limit,
        is_one_enough: _,
        deny_list,
        quota,
        connection_limit,
        bandwidth,
        allow_list,
        auth_basic,
        auth_digest,
        auth_external,
        body_limit,
        mirror,
        request_buffer,
        response_buffer,
        rewrite,
        headers,
        answer_rewrite: _,
        error_pages: _,
        trace,
    } = chain;
    run_response(request_buffer, ctx, response);
    run_response(response_buffer, ctx, response);
    // For all routes; what is compressed goes out at the pace of its route.
    compression::apply(ctx, response);
    run_response(trace, ctx, response);
    run_response(headers, ctx, response);
    run_response(rewrite, ctx, response);
    run_response(mirror, ctx, response);
    run_response(body_limit, ctx, response);
    run_response(auth_external, ctx, response);
    run_response(auth_digest, ctx, response);
    run_response(auth_basic, ctx, response);
    run_response(allow_list, ctx, response);
    run_response(deny_list, ctx, response);
    run_response(bandwidth, ctx, response);
    run_response(connection_limit, ctx, response);
    run_response(quota, ctx, response);
    run_response(rate_limit, ctx, response);
    run_response(https_redirect, ctx, response);
    run_response(answers, ctx, response);
    run_response(cors, ctx, response);
    run_response(deny, ctx, response);
    run_response(client_certificate, ctx, response);
}

async fn send(
    ctx: &mut RequestCtx,
    route: &Route,
    request: Request,
    progress: &Rc<Progress>,
    wanted: Option<HeaderValue>,
) -> Result<Response, ProxyError> {
    let Request { head, body } = request;
    let transport = route.transport.of(ctx.connection.peer.scheme);
    let wanted = wanted.filter(|_| transport.can_upgrade());
    if !transport.can_stream() && body.announced().is_none() {
        return Err(ProxyError::LengthRequired);
    }
    let mut choice = choose::choose(ctx, route, &head)?;
    ctx.record.labels = Arc::clone(&choice.target.labels);
    let agent = session::agent(choice.session.as_ref(), &head);
    let asks_for_upgrade = wanted.is_some();
    let lines = forward::changes(ctx, route, &head);
    let described = choice.is_fallback.then(|| head.clone());
    let mut outgoing = forward::to_upstream(ctx, head, wanted);
    headers::put(lines, &mut outgoing.headers);
    if let Some(head) = described {
        error_page::describe(ctx, route, &head, &mut outgoing);
        outgoing.headers.insert(forward::X_CODE, HeaderValue::from_static("503"));
    }
    let limits = (transport, &route.delivery, &route.timeouts);
    let (mut answer, lease) = retry::send(ctx, &mut choice, outgoing, body, progress, limits).await?;
    ctx.is_from_backend = true;
    if let Some(rewrite) = &route.chain.answer_rewrite {
        rewrite.apply(ctx, answer.headers_mut());
    }
    if let Some(cookie) = choice.session.and_then(|session| session.cookie(ctx, agent.as_ref())) {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    let switched = answer.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    if switched && !asks_for_upgrade {
        return Err(ProxyError::UnexpectedUpgrade);
    }
    if switched {
        let endpoint_side = hyper::upgrade::on(&mut answer);
        let (parts, _) = answer.into_parts();
        let Some(client_side) = ctx.upgrade.take() else { return Err(ProxyError::UnexpectedUpgrade) };
        ctx.record.answered(parts.status, &parts.headers);
        let record = ctx.record.split_for_tunnel();
        let held = (Rc::clone(&ctx.connection), std::mem::take(&mut ctx.in_flight));
        upgrade::spawn(&ctx.worker, client_side, endpoint_side, route.timeouts.read, record, held);
        drop(lease);
        return Ok(Response {
            head: forward::from_upstream(ctx, parts.status, parts.headers),
            body: Body::empty(),
        });
    }
    // Tokens of an authentication service may be larger than pages may have headers.
    if let Some(buffer) = route.chain.response_buffer.as_ref().filter(|_| !ctx.is_internal) {
        buffer.check(answer.headers())?;
    }
    let (parts, incoming) = answer.into_parts();
    let body = Body::endpoint(incoming, route.timeouts.read, lease);
    Ok(Response { head: forward::from_upstream(ctx, parts.status, parts.headers), body })
}

fn fail(ctx: &RequestCtx, failure: &ProxyError) -> Response {
    note(ctx, failure);
    failure.response()
}

fn note(ctx: &RequestCtx, failure: &ProxyError) {
    ctx.worker.counters.failed(failure);
    let (reason, source) = (failure.reason(), failure.source_of_error());
    if source == Source::Upstream && ctx.worker.may_tell() {
        let (backend, why) = (&ctx.record.labels.upstream, error_chain::chain(failure));
        warn!(backend, reason, why, "endpoints failed; said once a second at most");
    }
    debug!(reason, source = source.name(), error = ?failure, "request failed");
}
