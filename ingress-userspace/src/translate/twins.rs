//! Prefix `/p` and `/p/` are one path, unless the host's paths are expressions: then `/p/` takes what is below.

use std::collections::HashMap;

use super::Build;
use super::hosts::{Draft, DraftPath, Shared};
use super::ingress::report_taken;
use super::paths::{PathKind, identity};
use super::policies::Owner;

/// Leaves the first of two such paths, with the canary of either.
pub(super) fn drop_twins(
    build: &mut Build<'_>,
    shared: &Shared<'_>,
    draft: &mut Draft,
    is_expression: impl Fn(&Owner<'_>, &DraftPath) -> bool,
) {
    let is_plain = |path: &DraftPath| {
        let owner = shared.owners.get(path.owner);
        path.kind != PathKind::Exact && owner.is_some_and(|owner| !is_expression(owner, path))
    };
    let host = draft.shown().to_owned();
    let mut kept: Vec<DraftPath> = Vec::with_capacity(draft.paths.len());
    let mut plain: HashMap<String, usize> = HashMap::new();
    for mut path in std::mem::take(&mut draft.paths) {
        let mut twin = None;
        if is_plain(&path) {
            // Of one kind alone, as identity has it.
            let (_, name) = identity(path.kind, &path.path);
            twin = plain.get(name).copied();
            plain.entry(name.to_owned()).or_insert(kept.len());
        }
        let Some(twin) = twin.and_then(|twin| kept.get_mut(twin)) else {
            kept.push(path);
            continue;
        };
        twin.canary = twin.canary.take().or_else(|| path.canary.take());
        if let (Some(winner), Some(loser)) = (shared.owners.get(twin.owner), shared.owners.get(path.owner)) {
            report_taken(build, winner, loser, (&path.field, &path.path), &host);
        }
    }
    draft.paths = kept;
}
