//! Annotations that ingress-nginx itself has removed and that manifests still carry: told what took their place.

use super::registry::annotations;
use super::value::plain;

annotations! { "Removed from ingress-nginx";
    /// Removed from ingress-nginx, and nothing is done; write `backend-protocol: HTTPS`.
    SECURE_BACKENDS: String = "secure-backends", parse: plain::text, values: "nothing", default: "", on_invalid: Warn,
    scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `backend-protocol: GRPC`.
    GRPC_BACKEND: String = "grpc-backend", parse: plain::text, values: "nothing", default: "", on_invalid: Warn,
    scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx; the certificates of backends would go unchecked, so the paths answer 503. Write
    /// `proxy-ssl-secret` and `proxy-ssl-verify`.
    SECURE_VERIFY_CA_SECRET: String = "secure-verify-ca-secret", parse: plain::text, values: "nothing", default: "",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `limit-rps`, or `portcullis.dev/rate-limit`.
    GLOBAL_RATE_LIMIT: String = "global-rate-limit", parse: plain::text, values: "nothing", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `limit-rps`, or `portcullis.dev/rate-limit`.
    GLOBAL_RATE_LIMIT_WINDOW: String = "global-rate-limit-window", parse: plain::text, values: "nothing", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `portcullis.dev/rate-limit-key`.
    GLOBAL_RATE_LIMIT_KEY: String = "global-rate-limit-key", parse: plain::text, values: "nothing", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `limit-whitelist`.
    GLOBAL_RATE_LIMIT_IGNORED_CIDRS: String = "global-rate-limit-ignored-cidrs", parse: plain::text,
    values: "nothing", default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `enable-opentelemetry`.
    ENABLE_OPENTRACING: String = "enable-opentracing", parse: plain::text, values: "nothing", default: "",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; write `opentelemetry-trust-incoming-span`.
    OPENTRACING_TRUST_INCOMING_SPAN: String = "opentracing-trust-incoming-span", parse: plain::text,
    values: "nothing", default: "", on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; the metrics on port 10254 say as much.
    ENABLE_INFLUXDB: String = "enable-influxdb", parse: plain::text, values: "nothing", default: "",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Removed from ingress-nginx, and nothing is done; the metrics on port 10254 say as much.
    INFLUXDB_HOST: String = "influxdb-host", parse: plain::text, values: "nothing", default: "", on_invalid: Note,
    scope: "path", twins: ["influxdb-port", "influxdb-measurement", "influxdb-server-name"], in: Annotation,
    support: Refused;
    /// Removed from ingress-nginx, and nothing is done: pages that need a base URL must be served under it.
    ADD_BASE_URL: String = "add-base-url", parse: plain::text, values: "nothing", default: "", on_invalid: Note,
    scope: "path", twins: ["base-url-scheme"], in: Annotation, support: Refused;
}
