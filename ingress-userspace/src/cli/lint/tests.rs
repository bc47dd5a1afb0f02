use super::*;
use crate::args::{Cli, Command};
use clap::Parser as _;

fn lint(name: &str, text: &str, more: &[&str]) -> (Verdict, String) {
    let dir = std::env::temp_dir().join(format!("portcullis-lint-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), text).unwrap();
    let dir_text = dir.display().to_string();
    let cli = Cli::parse_from(["portcullis", "lint", "-f", &dir_text].iter().chain(more));
    let Command::Lint(args) = cli.command else { panic!("not lint") };
    let mut out = Vec::new();
    let verdict = run(&args, &mut out).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    nginx.ingress.kubernetes.io/rewrit-target: /x\nspec:\n  defaultBackend: {service: {name: gone, port: {number: 80}}}\n";

#[test]
fn findings_name_object_field_value_and_fix() {
    let (verdict, text) = lint("findings", INGRESS, &[]);
    assert_eq!(verdict, Verdict::Findings);
    for expected in [
        "error    Ingress default/web  spec.defaultBackend.service.name = \"gone\"",
        "there is no Service default/gone",
        "metadata.annotations[nginx.ingress.kubernetes.io/rewrit-target] = \"/x\"",
        "did you mean rewrite-target?",
        "1 error, 1 warning, 0 notes; 1 Ingress served",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
}

#[test]
fn json_has_verdicts_and_problems() {
    let (_, text) = lint("json", INGRESS, &["-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["problems"][0]["code"], "BackendMissing");
    assert_eq!(value["problems"][0]["object"]["name"], "web");
    // What is missing is a Problem; that the key is unknown is what the Ingress is told.
    assert_eq!(value["ingresses"][0]["verdict"], "partly-ignored");
    assert_eq!(value["summary"]["errors"], 1);
    let setting = &value["ingresses"][0]["settings"][0];
    assert_eq!(setting["key"], "nginx.ingress.kubernetes.io/rewrit-target");
    assert_eq!(setting["verdict"], "ignored");
}

#[test]
fn cluster_wide_settings_are_read_as_by_the_roles() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {proxy-body-size: 20MB}\n";
    let (verdict, text) = lint("configmap", text, &["--configmap", "default/settings"]);
    assert_eq!(verdict, Verdict::Findings, "{text}");
    assert!(text.contains("data[proxy-body-size] = \"20MB\""), "{text}");
}

#[test]
fn notes_alone_are_no_findings() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    let (verdict, text) = lint("notes", deployment, &[]);
    assert_eq!(verdict, Verdict::Clean, "{text}");
}

#[test]
fn what_is_switched_off_or_gone_from_ingress_nginx_is_not_refused() {
    let annotations = [
        ("server-snippet: \"\"", "supported"),
        ("enable-modsecurity: \"false\"", "supported"),
        ("enable-modsecurity: \"true\"", "refused"),
        ("secure-backends: \"true\"", "ignored"),
    ];
    for (annotation, expected) in annotations {
        let text = INGRESS.replace("rewrit-target: /x", annotation);
        let (_, text) = lint("off", &text, &["-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ingresses"][0]["settings"][0]["verdict"], expected, "{annotation}");
    }
}

#[test]
fn every_annotation_has_a_verdict_and_quirks_are_named() {
    let web = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    \
               nginx.ingress.kubernetes.io/rewrite-target: /$1\n    nginx.ingress.kubernetes.io/ssl-redirect: \"false\"\n    \
               alb.ingress.kubernetes.io/scheme: internal\nspec:\n  rules:\n  - host: a.example\n    http: {paths: \
               [{path: /x/(.*), pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]}\n";
    let other = web
        .replace("name: web\n  annotations", "name: other\n  annotations")
        .replace("rewrite-target: /$1", "proxy-body-size: 8m")
        .replace("/x/(.*)", "/dir/");
    let (_, text) = lint("verdicts", &format!("{web}---\n{other}"), &[]);
    for expected in [
        "Ingress default/web: supported with a difference  (",
        "supported  nginx.ingress.kubernetes.io/ssl-redirect: false",
        "different  nginx.ingress.kubernetes.io/rewrite-target: /$1",
        "ignored    alb.ingress.kubernetes.io/scheme: internal",
        "rewrite-implies-regex on /x/(.*)",
        "regex-spreads-over-host on /dir/",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
    assert!(!text.contains("trailing-slash-redirect"), "an expression redirects nothing: {text}");
}

#[test]
fn quirks_are_those_of_what_is_served() {
    let ingress = |name: &str, annotation: &str, path: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: \
             {{{annotation}}}\nspec:\n  rules:\n  - host: {name}.example\n    http: {{paths: [{{path: \"{path}\", \
             pathType: ImplementationSpecific, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    let prefix = "nginx.ingress.kubernetes.io";
    let text = ingress("slash", "", "/dir/")
        + &ingress("strict", "portcullis.dev/strict: \"true\"", "/dir/")
        + &ingress("same", &format!("{prefix}/rewrite-target: /a"), "/a")
        + &ingress("short", &format!("{prefix}/use-regex: t"), "/a+");
    let (_, loose) = lint("quirks", &text, &[]);
    for expected in ["trailing-slash-redirect on /dir/", "regex-is-case-insensitive-prefix on /a+"] {
        assert_eq!(loose.matches(expected).count(), 1, "{expected}\n---\n{loose}");
    }
    assert!(!loose.contains("rewrite-implies-regex"), "a target that equals its path does nothing: {loose}");
    let config =
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {strict: \"true\"}\n";
    let (_, strict) = lint("strict", &format!("{text}{config}"), &["--configmap", "default/settings"]);
    assert!(!strict.contains("quirk "), "{strict}");
}

#[test]
fn what_is_missing_is_an_error_and_no_verdict() {
    let plain = INGRESS.replace("rewrit-target: /x", "proxy-body-size: 8m");
    let inert = INGRESS.replace("rewrit-target: /x", "http2-push-preload: \"true\"");
    let refused = INGRESS.replace("rewrit-target: /x", "enable-modsecurity: \"true\"");
    let wrong = INGRESS.replace("rewrit-target: /x", "whitelist-source-range: nonsense");
    for (name, text, verdict) in [
        ("plain", plain, "supported"),
        ("inert", inert, "different"),
        ("misspelt", INGRESS.to_owned(), "partly-ignored"),
        ("waf", refused, "refused"),
        ("wrong", wrong, "refused"),
    ] {
        let (ended, text) = lint(&format!("verdict-{name}"), &text, &["-o", "json"]);
        assert_eq!(ended, Verdict::Findings, "there is no Service: {text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ingresses"][0]["verdict"], verdict, "{name}: {text}");
        assert_eq!(value["summary"][verdict], 1, "{name}: {text}");
    }
}

#[test]
fn what_is_found_has_a_place_in_its_file() {
    let (_, text) = lint("places", &format!("# first\n---\n{INGRESS}"), &[]);
    assert!(text.contains("a.yaml:8:5\n"), "the annotation: {text}");
    assert!(text.contains("a.yaml:10:30\n"), "the name of the Service: {text}");
    let (_, text) = lint("places-json", &format!("# first\n---\n{INGRESS}"), &["-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["ingresses"][0]["settings"][0]["location"]["line"], 8);
    assert_eq!(value["problems"][0]["location"]["column"], 30);
    let (_, text) = lint("places-broken", "a: b: c\n---\nkind: [\n", &[]);
    assert!(text.contains("a.yaml:1:1\n") && text.contains("a.yaml:3:1\n"), "{text}");
}

#[test]
fn nothing_to_look_at_says_why() {
    let (verdict, text) = lint("empty", "", &[]);
    assert_eq!(verdict, Verdict::Clean);
    assert!(text.contains("there is no Ingress in "), "{text}");
    let foreign = INGRESS.replace("spec:\n", "spec:\n  ingressClassName: traefik\n");
    let class = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: traefik}\nspec: {controller: traefik.io/ingress-controller}\n";
    let (_, text) = lint("foreign", &format!("{foreign}{class}"), &[]);
    assert!(text.contains("of the classes traefik") && text.contains("--ingress-class nginx"), "{text}");
    let (_, text) = lint("elsewhere", INGRESS, &["-n", "shop"]);
    assert!(text.contains("there is no Ingress in namespace shop"), "{text}");
}

#[test]
fn sarif_names_rule_level_object_and_place() {
    let (_, text) = lint("sarif", INGRESS, &["-o", "sarif"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["version"], "2.1.0");
    let run = &value["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    for rule in rules {
        assert!(rule["help"]["text"].as_str().unwrap().contains("See docs/"), "{rule}");
        assert!(!rule["shortDescription"]["text"].as_str().unwrap().is_empty(), "{rule}");
    }
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(result["partialFingerprints"]["ruleObjectField/v1"].as_str().unwrap().len(), 40);
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("/a.yaml"), "{result}");
        assert!(place["region"]["startLine"].as_u64() > Some(0), "{result}");
    }
    let missing = results.iter().find(|result| result["ruleId"] == "BackendMissing").unwrap();
    assert_eq!(missing["level"], "error");
    assert!(missing["message"]["text"].as_str().unwrap().contains("default/web"));
    let region = &missing["locations"][0]["physicalLocation"]["region"];
    assert_eq!((region["startLine"].as_u64(), region["startColumn"].as_u64()), (Some(8), Some(30)));
}
