//! The known attacks on ingress-nginx by an Ingress, one for each CVE: its author may edit Ingresses of one namespace and
//! wants more. Here annotations are values, so each is a Problem of that Ingress, and a neighbour notices nothing.

use std::sync::Arc;

use ingress_tests::manifests::{ingress, ingress_with, service, translation_with};
use ingress_userspace::model::host::{Host, HostPattern};
use ingress_userspace::problem::Severity;
use ingress_userspace::translate::Translation;

/// What is left of the Ingress that attacks.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// Its paths answer 503.
    Denied,
    /// It has no paths.
    Nothing,
    /// Its paths are served as if the setting did not stand there; a path is compared with what clients ask for.
    Rest,
}

/// The number of the CVE, the annotations of the attack, and what is left.
type ByAnnotations = (&'static str, &'static [(&'static str, &'static str)], Left);

const ANNOTATIONS: &[ByAnnotations] = &[
    // Snippets that read the controller's token, by Lua or by a location of their own.
    ("2021-25742", &[("server-snippet", "location /steal { alias /EVIL/; }")], Left::Denied),
    ("2021-25742", &[("configuration-snippet", "content_by_lua_block { EVIL }")], Left::Denied),
    // Directives in the value of an annotation.
    ("2021-25746", &[("proxy-body-size", "1m; } location /steal { root /EVIL; } #")], Left::Rest),
    ("2021-25746", &[("proxy-buffer-size", "4k;\nload_module EVIL;")], Left::Rest),
    ("2023-5043", &[("configuration-snippet", "} } } stream { server { listen 1; EVIL } } {")], Left::Denied),
    ("2023-5044", &[("permanent-redirect", "https://a/;} location /steal { EVIL } #")], Left::Denied),
    // A carriage return, where only the line feed was looked for.
    ("2024-7646", &[("auth-url", "http://a.example/\r# EVIL\rproxy_pass http://b;")], Left::Denied),
    ("2024-7646", &[("server-alias", "b.example\rEVIL")], Left::Rest),
    // What the unauthenticated webhook of CVE-2025-1974 ran: a shared object named in a configuration under test.
    ("2025-1974", &[("auth-url", "http://a.example/#;}}}\n\nssl_engine /proc/1/fd/EVIL;\n")], Left::Denied),
    (
        "2025-1097",
        &[("auth-tls-secret", "default/ca"), ("auth-tls-match-cn", "CN=a #(\n){}\n }}\nssl_engine EVIL;\n#")],
        Left::Denied,
    ),
    (
        "2025-1098",
        &[("mirror-target", "http://a/;}\nssl_engine EVIL;"), ("mirror-host", "a;EVIL")],
        Left::Rest,
    ),
    // A path to a file in the name of a Secret.
    ("2025-24513", &[("auth-type", "basic"), ("auth-secret", "../../EVIL")], Left::Denied),
    ("2025-24514", &[("auth-url", "http://a.example/\";}\nEVIL;#")], Left::Denied),
    ("2026-1580", &[("auth-url", "http://a.example/"), ("auth-method", "GET;}\nEVIL;#")], Left::Denied),
    ("2026-3288", &[("rewrite-target", "/x\"; } location /steal { EVIL } #\n")], Left::Denied),
    ("2021-25740", &[("auth-type", "basic"), ("auth-secret", "victim/EVIL")], Left::Denied),
];

/// The number of the CVE, the type and text of the path, and what is left.
const PATHS: &[(&str, &str, &str, Left)] = &[
    ("2021-25745", "ImplementationSpecific", "/{ } location /steal { EVIL }", Left::Rest),
    ("2022-4886", "ImplementationSpecific", "/\n} location /steal { alias /EVIL; }", Left::Nothing),
    ("2026-24512", "ImplementationSpecific", "/x\" ; } EVIL ; location \"/y", Left::Rest),
    ("2026-4342", "ImplementationSpecific", "/# \n} EVIL {", Left::Nothing),
];

const HOST: &str = "attack.example";
const NEIGHBOUR: &str = "neighbour.example";

#[expect(clippy::unwrap_used, reason = "a world that cannot be written fails its test by panicking")]
fn read(attack: &str) -> Translation {
    let world = [
        &service("web", &[([127, 0, 0, 1], 8081).into()]),
        &ingress("neighbour", NEIGHBOUR, "/", "web", &[]),
        attack,
    ]
    .concat();
    translation_with(&world, |settings| settings.is_serving = false).unwrap()
}

fn host<'t>(found: &'t Translation, name: &str) -> Option<&'t Arc<Host>> {
    found.model.hosts.iter().find(|host| host.pattern == HostPattern::Exact(name.to_owned()))
}

fn left(found: &Translation) -> Left {
    match host(found, HOST).map_or(&[][..], |host| &host.routes) {
        [] => Left::Nothing,
        routes if routes.iter().all(|route| route.policies.deny.is_some()) => Left::Denied,
        _ => Left::Rest,
    }
}

/// What is wrong with the outcome.
fn check(attack: &str, expected: &Left) -> Option<String> {
    let (alone, found) = (read(""), read(attack));
    let problems = found.problems.iter().filter(|problem| problem.object.name == "attack");
    let routes = host(&found, HOST).map_or(&[][..], |host| &host.routes);
    let policies: String =
        routes.iter().map(|route| format!("{:?} {:?}", route.policies, route.action)).collect();
    let is_refused = found.refused.iter().any(|problem| problem.object.name == "attack");
    let checks = [
        (left(&found) == *expected, "something else is left"),
        (
            is_refused || problems.clone().any(|problem| problem.severity > Severity::Note),
            "its object is not told",
        ),
        (problems.count() == found.problems.len(), "others are told"),
        (!policies.contains("EVIL"), "the text of the attack is in use"),
        (host(&alone, NEIGHBOUR).is_some(), "there is no neighbour"),
        (host(&found, NEIGHBOUR) == host(&alone, NEIGHBOUR), "the neighbour changed"),
        (found.model.global == alone.model.global, "what holds for all changed"),
    ];
    let wrong: Vec<&str> = checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
    (!wrong.is_empty())
        .then(|| format!("{}: {:?}, {policies} {:#?}", wrong.join(", "), left(&found), found.problems))
}

#[test]
fn annotations_of_an_attack_degrade_their_own_ingress() {
    let check = |(cve, annotations, expected): &ByAnnotations| {
        let wrong = check(&ingress("attack", HOST, "/", "web", annotations), expected)?;
        Some(format!("CVE-{cve}, {annotations:?}: {wrong}"))
    };
    let wrong: Vec<String> = ANNOTATIONS.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_of_an_attack_degrade_their_own_ingress() {
    let check = |(cve, path_type, path, expected): &(&str, &str, &str, Left)| {
        let wrong = check(&ingress_with("attack", HOST, (path, path_type), "web", &[]), expected)?;
        Some(format!("CVE-{cve}, {path:?}: {wrong}"))
    };
    let wrong: Vec<String> = PATHS.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
