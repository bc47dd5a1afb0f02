//! What the access log keeps of a request on its way, and which requests it leaves out.

use super::context::RequestCtx;
use super::head::RequestHead;
use super::variables::View;
use crate::snapshot::{Route, Snapshot};

/// Whether a request that was understood stands in the log. One that no rule and no Ingress has does not, unless that was
/// asked for.
pub fn is_wanted(
    snapshot: &Snapshot,
    head: &RequestHead,
    route: Option<&Route>,
    has_rule: impl FnOnce() -> bool,
) -> bool {
    let log = &snapshot.globals.access_log;
    let is_logged = match route {
        Some(route) if !route.labels.ingress.is_empty() => route.is_logged,
        Some(route) => route.is_logged && (log.has_unmatched || has_rule()),
        None => log.has_unmatched || has_rule(),
    };
    is_logged && !log.skips(head.target.raw())
}

/// Keeps what the format asks of a request, as it is when the filters are done with it.
pub fn values(ctx: &mut RequestCtx, head: &RequestHead) {
    let format = ctx.record.format();
    if format.asked.is_empty() {
        return;
    }
    let view = View::new(ctx, head);
    let values = format.asked.iter().map(|variable| {
        let mut value = String::new();
        view.write(variable, &mut value);
        value
    });
    let values = values.collect();
    ctx.record.asked(values);
}
