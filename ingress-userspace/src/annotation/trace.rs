//! Trace context (W3C `traceparent`) towards backends.
//!
//! Spans are not exported: whatever exports them sits in the backends, and the context ties theirs together.

use super::registry::{annotations, config_keys};
use super::value::plain;
use super::{Reader, value};
use crate::model::policy::trace::Trace;

annotations! { "Tracing";
    /// A request without a trace context gets one (`traceparent`), which goes to the backend and is
    /// `$opentelemetry_trace_id` and `$opentelemetry_span_id` in the access log. Unlike in ingress-nginx no span is
    /// exported, so that a context which the client sent goes on unchanged instead of getting a span in between.
    ENABLE_OPENTELEMETRY: bool = "enable-opentelemetry", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// `false`: a trace context that the client sent is replaced by a fresh one.
    OPENTELEMETRY_TRUST_INCOMING_SPAN: bool = "opentelemetry-trust-incoming-span", parse: value::boolean,
    values: "true or false", default: "true", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Accepted, and nothing is done: it would name spans, and none are exported.
    OPENTELEMETRY_OPERATION_NAME: String = "opentelemetry-operation-name", parse: plain::text, values: "text",
    default: "", on_invalid: Note, scope: "path", twins: [], in: Both, support: Ignored;
}

config_keys! { "Tracing, cluster-wide";
    /// Which fresh contexts say that their trace is recorded: `AlwaysOn`, `AlwaysOff` or `TraceIdRatioBased`. What a
    /// client said is kept (`otel-sampler-parent-based`).
    OTEL_SAMPLER: Sampler = "otel-sampler", parse: sampler, values: "AlwaysOn, AlwaysOff or TraceIdRatioBased",
    default: "AlwaysOn", on_invalid: Warn, support: Same;
    /// The share that is recorded, for `TraceIdRatioBased`.
    OTEL_SAMPLER_RATIO: u32 = "otel-sampler-ratio", parse: ratio, values: "a number from 0 to 1", default: "0.01",
    on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: the mark of a client's context is kept in any case, as with `true`.
    OTEL_SAMPLER_PARENT_BASED: bool = "otel-sampler-parent-based", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTLP_COLLECTOR_HOST: String = "otlp-collector-host", parse: plain::text, values: "a host", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTLP_COLLECTOR_PORT: String = "otlp-collector-port", parse: plain::text, values: "a port", default: "4317",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTEL_SERVICE_NAME: String = "otel-service-name", parse: plain::text, values: "text", default: "nginx",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTEL_MAX_QUEUESIZE: String = "otel-max-queuesize", parse: plain::text, values: "a number", default: "2048",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTEL_SCHEDULE_DELAY_MILLIS: String = "otel-schedule-delay-millis", parse: plain::text, values: "milliseconds",
    default: "5000", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: no span is exported.
    OTEL_MAX_EXPORT_BATCH_SIZE: String = "otel-max-export-batch-size", parse: plain::text, values: "a number",
    default: "512", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: there is no file of settings for a tracing module.
    OPENTELEMETRY_CONFIG: String = "opentelemetry-config", parse: plain::text, values: "a path",
    default: "/etc/ingress-controller/telemetry/opentelemetry.toml", on_invalid: Note, support: Ignored;
}

/// Which fresh contexts are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// All.
    #[default]
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share.
    Ratio,
}

/// The tracing of an Ingress; `None`: headers pass as they are.
pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Trace> {
    let is_enabled = reader.value(&ENABLE_OPENTELEMETRY);
    let trusts_client = reader.value(&OPENTELEMETRY_TRUST_INCOMING_SPAN);
    let ratio = reader.value(&OTEL_SAMPLER_RATIO);
    let recorded_per_million = match reader.value(&OTEL_SAMPLER) {
        Sampler::AlwaysOn => 1_000_000,
        Sampler::AlwaysOff => 0,
        Sampler::Ratio => ratio,
    };
    is_enabled.then_some(Trace { trusts_client, recorded_per_million })
}

fn sampler(text: &str) -> Result<Sampler, String> {
    match text {
        "AlwaysOn" => Ok(Sampler::AlwaysOn),
        "AlwaysOff" => Ok(Sampler::AlwaysOff),
        "TraceIdRatioBased" => Ok(Sampler::Ratio),
        _ => Err("is none of AlwaysOn, AlwaysOff and TraceIdRatioBased".to_owned()),
    }
}

/// Per million.
fn ratio(text: &str) -> Result<u32, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let ratio = ratio.ok_or("is not a number from 0 to 1")?;
    // Between 0 and a million.
    Ok((ratio * 1e6).round() as u32)
}
