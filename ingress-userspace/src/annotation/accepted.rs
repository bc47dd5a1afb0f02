//! What is accepted and does nothing, and belongs to no feature: each with the reason why nothing is needed.

use super::registry::{annotations, config_keys};
use super::value;
use super::value::plain;

annotations! { "Accepted without effect";
    /// Accepted, and nothing is done: server push is gone from browsers. The `Link` header reaches them unchanged, and
    /// they fetch what it names.
    HTTP2_PUSH_PRELOAD: bool = "http2-push-preload", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
}

config_keys! { "Accepted without effect, cluster-wide";
    /// Accepted, and nothing is done: with `use-proxy-protocol` the client's address is what the PROXY header says, and
    /// `X-Forwarded-For` tells the backend.
    FORWARDED_FOR_PROXY_PROTOCOL_HEADER: String = "forwarded-for-proxy-protocol-header", parse: plain::text,
    values: "the name of a header", default: "X-Forwarded-For-Proxy-Protocol", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: there is no GeoIP database to reload.
    GEOIP2_AUTORELOAD_IN_MINUTES: String = "geoip2-autoreload-in-minutes", parse: plain::text, values: "a number",
    default: "0", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: messages of gRPC stream through, whatever their size.
    GRPC_BUFFER_SIZE_KB: String = "grpc-buffer-size-kb", parse: plain::text, values: "a number", default: "0",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_COLLECTOR_HOST: String = "jaeger-collector-host", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_COLLECTOR_PORT: String = "jaeger-collector-port", parse: plain::text, values: "text", default: "6831",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_ENDPOINT: String = "jaeger-endpoint", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_SERVICE_NAME: String = "jaeger-service-name", parse: plain::text, values: "text", default: "nginx",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_PROPAGATION_FORMAT: String = "jaeger-propagation-format", parse: plain::text, values: "text",
    default: "jaeger", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_SAMPLER_TYPE: String = "jaeger-sampler-type", parse: plain::text, values: "text", default: "const",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_SAMPLER_PARAM: String = "jaeger-sampler-param", parse: plain::text, values: "text", default: "1",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_SAMPLER_HOST: String = "jaeger-sampler-host", parse: plain::text, values: "text",
    default: "http://127.0.0.1", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_SAMPLER_PORT: String = "jaeger-sampler-port", parse: plain::text, values: "text", default: "5778",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_TRACE_CONTEXT_HEADER_NAME: String = "jaeger-trace-context-header-name", parse: plain::text, values: "text",
    default: "uber-trace-id", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_DEBUG_HEADER: String = "jaeger-debug-header", parse: plain::text, values: "text", default: "uber-debug-id",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_BAGGAGE_HEADER: String = "jaeger-baggage-header", parse: plain::text, values: "text",
    default: "jaeger-baggage", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: ingress-nginx has removed Jaeger; see `enable-opentelemetry`.
    JAEGER_TRACE_BAGGAGE_HEADER_PREFIX: String = "jaeger-trace-baggage-header-prefix", parse: plain::text,
    values: "text", default: "uberctx-", on_invalid: Note, support: Ignored;
}
