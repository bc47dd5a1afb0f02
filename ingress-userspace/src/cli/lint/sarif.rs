//! The report as SARIF 2.1.0 (OASIS), for code scanning. Logical locations name object and field; there are no files in a
//! cluster.

use serde_json::{Value, json};

use super::report::{Report, Verdict};
use crate::problem::{Problem, Severity};

/// The whole log.
pub(super) fn log(report: &Report) -> Value {
    let mut results: Vec<Value> = report.problems.iter().map(problem).collect();
    for ingress in &report.ingresses {
        for quirk in &ingress.quirks {
            results.push(result(
                &format!("quirk/{}", quirk.name),
                "note",
                &format!("path {}: {}", quirk.path, quirk.message),
                &ingress.object.to_string(),
                &quirk.path,
            ));
        }
        for setting in &ingress.settings {
            if setting.verdict == Verdict::Different {
                let field = format!("metadata.annotations[{}]", setting.key);
                let object = ingress.object.to_string();
                results.push(result("supported-with-difference", "note", &setting.message, &object, &field));
            }
        }
    }
    let mut rules: Vec<String> =
        results.iter().filter_map(|result| result["ruleId"].as_str().map(str::to_owned)).collect();
    rules.sort();
    rules.dedup();
    let rules: Vec<Value> = rules.into_iter().map(|id| json!({"id": id})).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "portcullis lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

fn problem(problem: &Problem) -> Value {
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let text = if problem.value.is_empty() {
        problem.message.clone()
    } else {
        format!("{:?}: {}", problem.value, problem.message)
    };
    result(&format!("{:?}", problem.code), level, &text, &problem.object.to_string(), &problem.field)
}

fn result(rule: &str, level: &str, text: &str, object: &str, field: &str) -> Value {
    json!({
        "ruleId": rule,
        "level": level,
        "message": {"text": format!("{object}: {text}")},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": format!("{object} {field}"), "kind": "object"}]}],
    })
}
