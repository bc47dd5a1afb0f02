use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::cli::{backends, certs, conf, ingresses};

const WORLD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: dev, annotations: {portcullis.dev/endpoints: "127.0.0.1:9001,127.0.0.1:9002"}}
spec: {ports: [{port: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  tls: [{hosts: [a.example], secretName: gone}]
  rules:
  - host: a.example
    http:
      paths:
      - {path: /x, pathType: Prefix, backend: {service: {name: dev, port: {number: 8080}}}}
      - {path: /y, pathType: Prefix, backend: {service: {name: nowhere, port: {name: http}}}}
  - host: b.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: dev, port: {number: 8080}}}}]}
status: {loadBalancer: {ingress: [{ip: 198.18.0.1}, {hostname: lb.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: other}
spec: {defaultBackend: {service: {name: dev, port: {number: 80}}}}
"#;

fn run(name: &str, arguments: &[&str]) -> String {
    let dir = std::env::temp_dir().join(format!("portcullis-cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), WORLD).unwrap();
    let folder = dir.display().to_string();
    let [command, rest @ ..] = arguments else { panic!("no command") };
    let line = ["portcullis", command, "-f", &folder].into_iter().chain(rest.iter().copied());
    let mut out = Vec::new();
    match Cli::parse_from(line).command {
        Command::Ingresses(args) => ingresses::run(&args, &mut out).unwrap(),
        Command::Backends(args) => backends::run(&args, &mut out).unwrap(),
        Command::Certs(args) => certs::run(&args, &mut out).unwrap(),
        Command::Conf(args) => conf::run(&args, &mut out).unwrap(),
        other => panic!("{other:?}"),
    }
    std::fs::remove_dir_all(&dir).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn ingresses_have_the_columns_of_the_old_plugin() {
    let text = run("ingresses", &["ingresses"]);
    let mut lines =
        text.lines().map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect());
    let head: Vec<&str> = lines.next().unwrap();
    let names = "NAMESPACE|INGRESS NAME|HOST+PATH|ADDRESSES|TLS|SERVICE|SERVICE PORT|ENDPOINTS";
    assert_eq!(head.join("|"), names);
    let rows: Vec<Vec<&str>> = lines.collect();
    let web = ["default", "web", "a.example/x", "198.18.0.1,lb.example", "YES", "dev", "8080", "2"];
    assert!(rows.iter().any(|row| *row == web), "{text}");
    assert!(rows.iter().any(|row| row.contains(&"a.example/y") && row.last() == Some(&"N/A")), "{text}");
    assert!(rows.iter().any(|row| row.contains(&"b.example/") && row.contains(&"NO")), "{text}");
    assert_eq!(rows.len(), 4);
    let only = run("ingresses-namespace", &["ingresses", "-n", "other"]);
    assert_eq!(only.lines().count(), 2, "{only}");
}

#[test]
fn backends_are_json_as_the_old_plugin_printed_it() {
    let text = run("backends", &["backends"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let dev = value.as_array().unwrap().iter().find(|b| b["name"] == "default-dev-8080").unwrap();
    assert_eq!(dev["endpoints"][1]["address"], "127.0.0.1");
    assert_eq!(dev["endpoints"][1]["port"], "9002");
    let one = run("backend", &["backends", "--backend", "default-dev-8080"]);
    let value: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(value["name"], "default-dev-8080");
    assert!(run("backends-list", &["backends", "--list"]).lines().any(|name| name == "default-dev-8080"));
}

#[test]
fn certificates_name_their_secret_or_say_that_there_is_none() {
    let text = run("certs", &["certs"]);
    assert!(text.contains("(default)  self-signed"), "{text}");
    let text = run("certs-host", &["certs", "--host", "a.example"]);
    assert!(text.contains("from self-signed"), "{text}");
}

#[test]
fn the_configuration_of_one_host_holds_what_that_host_uses() {
    let all = run("conf", &["conf"]);
    assert!(all.contains("host a.example") && all.contains("host b.example"), "{all}");
    let one = run("conf-host", &["conf", "--host", "B.example"]);
    assert!(!one.contains("host a.example") && !one.contains("nowhere"), "{one}");
    assert!(one.contains("backend default-dev-8080"), "{one}");
}
