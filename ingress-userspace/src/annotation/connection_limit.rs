//! `limit-connections`.

use super::registry::{annotations, config_keys};
use super::{Read, Reader, value};

annotations! { "Requests in flight";
    /// Requests of one client address that may be in flight at once, over all paths of the Ingress, on each node; more get
    /// 503 (ConfigMap `limit-conn-status-code`). Each stream of HTTP/2 counts, and a WebSocket until it ends. 0 means no
    /// limit.
    LIMIT_CONNECTIONS: u32 = "limit-connections", parse: value::at_most, values: "a bare whole number", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Same;
}

config_keys! { "Requests in flight, cluster-wide";
    /// Status of requests over `limit-connections`.
    LIMIT_CONN_STATUS_CODE: u16 = "limit-conn-status-code", parse: value::status::<400, 599>,
    values: "a status from 400 to 599", default: "503", on_invalid: Warn, support: Same;
}

/// A limit as annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// At least 1.
    pub most: u32,
    /// Status of requests over it.
    pub status: u16,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Connections> {
    let status = reader.value(&LIMIT_CONN_STATUS_CODE);
    match reader.get(&LIMIT_CONNECTIONS) {
        Read::Value(most) if most > 0 => Some(Connections { most, status }),
        // A finding denies the paths.
        Read::Value(_) | Read::Absent | Read::Invalid => None,
    }
}
