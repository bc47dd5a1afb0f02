//! Parts of the Prometheus text format.

use std::fmt::Write as _;

use super::Metric;
use super::histogram::Histogram;

pub(super) fn render_histogram(
    text: &mut String,
    metric: &Metric,
    constant: &str,
    labels: &str,
    histogram: &Histogram,
) {
    let mut total = 0;
    for (index, count) in histogram.counts.iter().enumerate().take(histogram.bounds.len() + 1) {
        total += count;
        let bound = match histogram.bounds.get(index) {
            Some(bound) => format!("le=\"{bound}\""),
            None => "le=\"+Inf\"".to_owned(),
        };
        let _ = writeln!(text, "{}_bucket{} {total}", metric.name, braces(&[constant, labels, &bound]));
    }
    let labels = braces(&[constant, labels]);
    let _ = writeln!(
        text,
        "{}_sum{labels} {}\n{}_count{labels} {total}",
        metric.name, histogram.sum, metric.name
    );
}

pub(super) fn braces(parts: &[&str]) -> String {
    let joined = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(",");
    if joined.is_empty() { joined } else { format!("{{{joined}}}") }
}

pub(super) fn label_text(names: &[&str], values: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}
