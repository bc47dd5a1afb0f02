//! What the conformance suite of the Ingress API asks for: hosts, paths, default backends. (Load over ten pods and foreign
//! classes stand in `edit`.)

use std::fmt::Write as _;

use anyhow::ensure;
use ingress_tests::cluster::{SOON, eventually, get};

use crate::{Context, NODES, http};

/// Request paths and whether each is served.
type Asked = &'static [(&'static str, bool)];

/// Type and path of a rule, and what it takes.
const PATHS: &[(&str, &str, Asked)] = &[
    ("Exact", "/foo", &[("/foo", true), ("/foo/", false), ("/FOO", false), ("/bar", false), ("/fo", false)]),
    ("Exact", "/foo/", &[("/foo/", true), ("/foo", false)]),
    ("Prefix", "/", &[("/", true), ("/anything", true), ("/a/b", true)]),
    (
        "Prefix",
        "/foo",
        &[("/foo", true), ("/foo/", true), ("/foo/bar", true), ("/foobar", false), ("/FOO", false)],
    ),
    ("Prefix", "/foo/", &[("/foo", true), ("/foo/", true), ("/foo/bar", true), ("/foobar", false)]),
    (
        "Prefix",
        "/aaa/bbb",
        &[("/aaa/bbb", true), ("/aaa/bbb/ccc", true), ("/aaa/bbbxyz", false), ("/aaa", false)],
    ),
];

fn rule(host: &str, kind: &str, path: &str) -> String {
    let backend = "backend: {service: {name: shop, port: {name: http}}}";
    format!(
        "    - host: \"{host}\"\n      http:\n        paths:\n          - {{path: {path}, pathType: {kind}, {backend}}}\n"
    )
}

fn ingress(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         ingressClassName: portcullis\n{rules}"
    )
}

fn answers(host: &str, path: &str, expected: u16) -> anyhow::Result<()> {
    eventually(&format!("{expected} for {host}{path}"), SOON, || {
        for node in NODES {
            let answer = get(http(node), host, path)?;
            ensure!(answer.status == expected, "{node}: {}", answer.head);
        }
        Ok(())
    })
}

pub(crate) fn rules(context: &Context) -> anyhow::Result<()> {
    let mut rules = String::from("  rules:\n");
    for (number, (kind, path, _)) in PATHS.iter().enumerate() {
        write!(rules, "{}", rule(&format!("path-{number}.example.test"), kind, path))?;
    }
    rules.push_str(&rule("*.wild.example.test", "Prefix", "/"));
    context.rig.apply(&ingress("conformance", &rules))?;
    for (number, (.., requests)) in PATHS.iter().enumerate() {
        for (path, is_served) in *requests {
            answers(&format!("path-{number}.example.test"), path, if *is_served { 200 } else { 404 })?;
        }
    }
    for (host, expected) in [
        ("a.wild.example.test", 200),
        ("A.WILD.example.test", 200),
        ("a.b.wild.example.test", 404),
        ("wild.example.test", 404),
    ] {
        answers(host, "/", expected)?;
    }
    context.rig.kubectl(&["delete", "ingress", "conformance"])?;
    answers("a.wild.example.test", "/", 404)
}

pub(crate) fn default_backend(context: &Context) -> anyhow::Result<()> {
    let backend = "  defaultBackend: {service: {name: shop, port: {number: 80}}}\n";
    context.rig.apply(&ingress("catch-all", backend))?;
    for (host, path) in [("anything.example.test", "/"), ("other.test", "/a/b"), ("198.18.0.10", "/x")] {
        answers(host, path, 200)?;
    }
    context.rig.kubectl(&["delete", "ingress", "catch-all"])?;
    answers("anything.example.test", "/", 404)
}

pub(crate) fn challenge(context: &Context) -> anyhow::Result<()> {
    let host = "acme.example.test";
    let tls = format!("  tls: [{{hosts: [{host}], secretName: not-issued-yet}}]\n");
    let app = ingress("acme-app", &format!("{tls}  rules:\n{}", rule(host, "Prefix", "/")));
    context.rig.apply(&app)?;
    answers(host, "/", 308)?;
    let path = "/.well-known/acme-challenge/token-1";
    context
        .rig
        .apply(&ingress("cm-acme-http-solver-1", &format!("  rules:\n{}", rule(host, "Exact", path))))?;
    answers(host, path, 200)?;
    answers(host, "/", 308)?;
    context.rig.kubectl(&["delete", "ingress", "acme-app", "cm-acme-http-solver-1"])?;
    answers(host, path, 404)
}
