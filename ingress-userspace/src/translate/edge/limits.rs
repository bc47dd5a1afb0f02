//! The limits of an EdgePolicy. One that cannot be read is not enforced, and says so; the others hold.

use ingress_common::bucket::LEAST_BYTES_PER_SECOND;

use crate::k8s::crd;
use crate::model::edge::{Counted, EdgeLimit, Per};
use crate::problem::{Code, ObjectRef, Severity, suggest};
use crate::translate::Build;

/// What a rate of a kind may be.
struct Kind {
    field: &'static str,
    of: Counted,
    least: u64,
    most: u64,
}

const CONNECTIONS: Kind =
    Kind { field: "connectionsPerSecond", of: Counted::Connections, least: 1, most: 1_000_000_000 };
const PACKETS: Kind = Kind { field: "packetsPerSecond", of: Counted::Packets, least: 1, most: 1_000_000_000 };
/// At the least rate a long packet takes minutes.
const BYTES: Kind = Kind {
    field: "bytesPerSecond",
    of: Counted::Bytes,
    least: LEAST_BYTES_PER_SECOND,
    most: 1_000_000_000_000,
};

/// All of a policy.
pub(super) fn limits(build: &mut Build<'_>, owner: &ObjectRef, limits: &[crd::Limit]) -> Vec<EdgeLimit> {
    limits.iter().enumerate().filter_map(|(index, limit)| one(build, owner, index, limit)).collect()
}

fn one(build: &mut Build<'_>, owner: &ObjectRef, index: usize, limit: &crd::Limit) -> Option<EdgeLimit> {
    let at = |part: &str| format!("spec.limits[{index}].{part}");
    let mut problem = |severity, part: &str, value: &str, message: &str| {
        build.problem(owner, (Code::FieldInvalid, severity), (at(part), value), message);
    };
    let per = match limit.per.as_str() {
        "Source" => Per::Source,
        "Address" => Per::Address,
        other => {
            let hint = suggest(other, ["Source", "Address"])
                .map_or_else(|| "correct it".to_owned(), |near| format!("did you mean {near}?"));
            let message = format!("is neither Source nor Address; the limit is not enforced; {hint}");
            problem(Severity::Error, "per", other, &message);
            return None;
        }
    };
    let rates = [
        (CONNECTIONS, limit.connections_per_second),
        (PACKETS, limit.packets_per_second),
        (BYTES, limit.bytes_per_second),
    ];
    let mut given = rates.into_iter().filter_map(|(kind, rate)| Some((kind, rate?)));
    let Some((kind, rate)) = given.next() else {
        let message = "names no rate, so it limits nothing; give connectionsPerSecond, packetsPerSecond or bytesPerSecond";
        problem(Severity::Error, "connectionsPerSecond", "", message);
        return None;
    };
    for (other, rate) in given {
        let message =
            format!("stands beside {}, which alone counts; write a limit of its own for it", kind.field);
        problem(Severity::Error, other.field, &rate.to_string(), &message);
    }
    let in_range = |value: i64, least: u64| {
        u64::try_from(value).ok().filter(|value| (least..=kind.most).contains(value))
    };
    let Some(per_second) = in_range(rate, kind.least) else {
        let message = format!(
            "must lie between {} and {}; the limit is not enforced; correct it",
            kind.least, kind.most
        );
        problem(Severity::Error, kind.field, &rate.to_string(), &message);
        return None;
    };
    let burst = match limit.burst {
        None => per_second,
        Some(burst) => in_range(burst, 1).unwrap_or_else(|| {
            let message =
                format!("must lie between 1 and {}; one second's worth is taken; correct it", kind.most);
            problem(Severity::Warning, "burst", &burst.to_string(), &message);
            per_second
        }),
    };
    Some(EdgeLimit { of: kind.of, per, per_second, burst })
}
