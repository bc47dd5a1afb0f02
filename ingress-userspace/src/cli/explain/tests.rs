use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::cli::objects;
use crate::explain::question::{answer, asked, query};

const WORLD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {portcullis.dev/endpoints: "127.0.0.1:9001,127.0.0.1:9002"}}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: api
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$2
    nginx.ingress.kubernetes.io/whitelist-source-range: 198.18.0.0/15
spec:
  rules:
  - host: a.example
    http:
      paths: [{path: "/api(/|$)(.*)", pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rest, annotations: {nginx.ingress.kubernetes.io/force-ssl-redirect: "true"}}
spec:
  rules:
  - host: a.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

const GUARDED: &str = r#"
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: guarded, annotations: {nginx.ingress.kubernetes.io/auth-url: "http://127.0.0.1:9/auth"}}
spec:
  rules:
  - host: auth.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

/// Explains offline, and as a running process would.
fn explained(name: &str, arguments: &[&str]) -> String {
    let dir = std::env::temp_dir().join(format!("portcullis-explain-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), [WORLD, GUARDED].concat()).unwrap();
    let folder = dir.display().to_string();
    let line = ["portcullis", "explain", "-f", &folder].into_iter().chain(arguments.iter().copied());
    let Command::Explain(args) = Cli::parse_from(line).command else { panic!("not explain") };
    let mut out = Vec::new();
    super::run(&args, &mut out).unwrap();
    let objects = objects::read(&args.objects).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let offline = String::from_utf8(out).unwrap();
    let live =
        answer(&objects.translation.model, Some(&objects.translation.problems), &query(&args)).unwrap();
    // Objects have Problems; a running proxy has only their model.
    let stable = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.contains("x-request-id") && !line.starts_with("problem"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(stable(&offline), stable(&live));
    offline
}

#[track_caller]
fn has(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.contains(line), "{line}\n---\n{text}");
    }
}

#[test]
fn a_request_is_followed_to_its_endpoints() {
    let text = explained("forward", &["http://A.example/x/../api/v1?q=1", "--from", "198.18.0.7"]);
    has(
        &text,
        &[
            "host         a.example (exactly)",
            "path         /api/v1",
            "1. expression ^/api(/|$)(.*) -> default-web-80  (Ingress default/api, takes it)",
            "2. expression ^/",
            "allow: 198.18.0.0/15  (Ingress default/api)",
            "upstream     GET /v1?q=1",
            "x-real-ip: 198.18.0.7",
            "endpoint     127.0.0.1:9002",
        ],
    );
}

#[test]
fn what_the_proxy_answers_itself_has_status_and_reason() {
    let refused = explained("refused", &["http://a.example/api", "--from", "203.0.113.1"]);
    has(&refused, &["answer       403", "source_refused"]);
    let redirected = explained("redirected", &["http://a.example/x", "-X", "POST"]);
    has(&redirected, &["answer       308", "location: https://a.example/x"]);
    has(
        &explained("unknown", &["http://b.example/"]),
        &["none: no Ingress serves this name", "answer       404"],
    );
    has(&explained("gate", &["http://a.example/%2e%2e/x"]), &["answer       400", "target_above_root"]);
}

#[test]
fn services_are_named_and_not_asked() {
    // Nothing listens there: asking would fail.
    let text = explained("auth", &["http://auth.example/x"]);
    has(
        &text,
        &["not asked    the service of auth-url", "upstream     GET /x", "endpoint     127.0.0.1:9001"],
    );
}

#[test]
fn the_certificate_says_why_it_is_the_one() {
    let text = explained("tls", &["https://a.example/", "--sni", "other.example"]);
    has(&text, &["certificate  self-signed: no host is called other.example, and there is no default"]);
}

#[test]
fn a_question_that_cannot_be_read_says_what_is_wrong() {
    for (arguments, expected) in [
        (&["/x"][..], "is not an absolute URL"),
        (&["ftp://a.example/"], "is not an absolute URL"),
        (&["http://a.example/", "-H", "novalue"], "is not a header"),
        (&["http://a.example/", "-X", "G T"], "is not a method"),
    ] {
        let line = ["portcullis", "explain", "-f", "/nowhere"].into_iter().chain(arguments.iter().copied());
        let Command::Explain(args) = Cli::parse_from(line).command else { panic!("not explain") };
        let model = std::sync::Arc::default();
        let error = match asked(&args).map(|asked| crate::explain::explain(&model, &asked)) {
            Err(error) | Ok(Err(error)) => error.to_string(),
            Ok(Ok(explanation)) => panic!("{explanation:?}"),
        };
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}
