//! What `explain` says of a request is what the proxy does with it: requests drawn at random, on the worlds of the golden
//! cases, in cleartext and over TLS with all kinds of server names.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, Method};
use ingress_tests::client::{self, Http1};
use ingress_tests::cluster::root;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_userspace::explain::{Asked, Explanation, explain};
use ingress_userspace::k8s::cluster::{Cluster, ObjectKey};
use ingress_userspace::k8s::folder::Folder;
use ingress_userspace::model::Model;
use ingress_userspace::model::certificate::CertificateId;
use ingress_userspace::model::global::Global;
use ingress_userspace::model::host::HostPattern;
use ingress_userspace::model::policy::Policies;
use ingress_userspace::model::policy::upstream::UpstreamProtocol;
use ingress_userspace::model::tls::Tls;
use ingress_userspace::translate::{Settings, translate};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Small, and the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// The model of a case, on free ports, with every endpoint at one of two origins.
fn model(case: &PathBuf, origins: &[Origin; 2]) -> Option<Model> {
    let text = std::fs::read_to_string(case).unwrap();
    let mut settings = Settings { http_port: 0, https_port: 0, ..Settings::default() };
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        // Other flags belong to other tests.
        match line.strip_prefix("# flag: ")?.split_once(' ') {
            Some(("--configmap", named)) => settings.config_map = ObjectKey::parse(named),
            Some(("--default-ssl-certificate", named)) => {
                settings.default_certificate = ObjectKey::parse(named);
            }
            Some(("--enable-ssl-passthrough", _)) => settings.enable_ssl_passthrough = true,
            _ => return None,
        }
    }
    let mut folder = Folder::new(case);
    folder.scan(&HashSet::new());
    let mut model = Arc::unwrap_or_clone(translate(&folder.cluster(), &settings).model);
    model.listeners.retain(|listener| !listener.protocol.is_stream());
    model.checks.clear();
    let plain = translate(&Cluster::default(), &settings).model.global.clone();
    // The rest decides how connections are carried and what other services are asked.
    let global = Global {
        forwarded: plain.forwarded.clone(),
        blocked: plain.blocked.clone(),
        // With suites of its own, the client of the test may have none of them.
        tls: Tls { rejects_unknown: plain.tls.rejects_unknown, ..model.global.tls.clone() },
        fields: plain.fields.clone(),
        bodies: plain.bodies.clone(),
        ..model.global.clone()
    };
    for (id, backend) in &mut model.backends {
        // Names are looked up by the proxy alone.
        backend.external_name = None;
        backend.endpoints.truncate(1);
        // Two, so that it is seen which backend was chosen.
        let origin = &origins[id.service.len() % 2];
        backend.endpoints.iter_mut().for_each(|endpoint| endpoint.address = origin.address);
    }
    (global == plain && !model.hosts.is_empty()).then_some(model)
}

/// Whether an answer depends on what was asked before, on other services, or on chance.
fn is_repeatable(policies: &Policies) -> bool {
    policies.rate_limit.is_none()
        && policies.quota.is_none()
        && policies.connection_limit.is_none()
        && policies.auth_external.is_none()
        && policies.error_pages.is_none()
        && policies.mirror.is_none()
        && policies.delivery.canary.as_ref().is_none_or(|canary| canary.weight == 0)
        && policies.password_auth.is_none()
        && policies.upstream.protocol == UpstreamProtocol::Http
}

/// A request and how it is sent.
#[derive(Debug)]
struct Drawn {
    url: String,
    method: Method,
    lines: Vec<(HeaderName, String)>,
    /// Another server name than the URL's.
    sni: Option<String>,
}

fn draw(dice: &mut Dice, model: &Model) -> Drawn {
    let host = &model.hosts[dice.below(model.hosts.len())];
    let name = match &host.pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("x.{suffix}"),
        HostPattern::Any => "any.example".to_owned(),
    };
    let (sni, name) = match dice.below(16) {
        0 => (None, name.to_ascii_uppercase()),
        1 => (None, format!("{name}:8080")),
        2 => (None, format!("y.{name}")),
        3 => (None, format!("{name}.")),
        4 => (None, "[::1]:8443".to_owned()),
        5 => (Some("other.example".to_owned()), name),
        6 => (Some(name.to_ascii_uppercase()), "elsewhere.example".to_owned()),
        7 => (None, format!("www.{name}")),
        8 => (None, name.trim_start_matches("www.").to_owned()),
        9 => (None, format!("user:secret@{name}")),
        _ => (None, name),
    };
    let route = host.routes.get(dice.below(host.routes.len().max(1)));
    let plain: String = route
        .map_or("/", |route| route.source.path.as_str())
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "/-._~".contains(*c))
        .collect();
    let mut path = if plain.starts_with('/') { plain } else { "/".to_owned() };
    path.push_str(dice.of(&[
        "",
        "",
        "/",
        "/x/y",
        "z",
        "/a.css?b=c",
        "?q=1&h=x:y",
        "//d/../e",
        "%2Fx",
        "/%41",
        "/%c3%a4%20",
        "/../../..",
        "/%2e%2E/",
    ]));
    match dice.below(12) {
        0 | 1 => path = path.to_ascii_uppercase(),
        2 => path = "/.well-known/acme-challenge/token".to_owned(),
        _ => {}
    }
    let method =
        [Method::GET, Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE][dice.below(5)].clone();
    let mut lines: Vec<(HeaderName, String)> = [
        ("origin", "https://app.example.com"),
        ("user-agent", "a Mobile bot"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "198.51.100.7, 203.0.113.9"),
        ("cookie", "a=b; session=1"),
        ("x-region", "eu"),
    ]
    .into_iter()
    .filter(|_| dice.below(3) == 0)
    .map(|(name, value)| (HeaderName::from_static(name), value.to_owned()))
    .collect();
    if let Some(canary) = route.and_then(|route| route.policies.delivery.canary.as_ref()) {
        let word = dice.of(&["always", "never", "eu", "x"]);
        if let Some(header) = canary.header.as_ref().filter(|_| dice.below(2) == 0) {
            lines.push((header.name.parse().unwrap(), word.to_owned()));
        }
        if let Some(cookie) = &canary.cookie {
            lines.push((HeaderName::from_static("cookie"), format!("{cookie}={word}")));
        }
    }
    let scheme = ["http", "https"][dice.below(2)];
    Drawn { url: format!("{scheme}://{name}{path}"), method, lines, sni }
}

/// Asks both; `None`: there is nothing to compare.
async fn compare(
    proxy: &Instance,
    origins: &[Origin; 2],
    model: &Arc<Model>,
    drawn: &Drawn,
) -> Option<Scheme> {
    let uri: http::Uri = drawn.url.parse().ok()?;
    let headers = drawn.lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
    let asked = Asked {
        url: uri.clone(),
        method: drawn.method.clone(),
        headers: headers.collect(),
        from: "127.0.0.1".parse().unwrap(),
        sni: drawn.sni.clone(),
    };
    let said: Explanation = {
        let model = Arc::clone(model);
        tokio::task::spawn_blocking(move || explain(&model, &asked)).await.unwrap().unwrap()
    };
    let authority = uri.authority()?.as_str();
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let mut request = client::request(drawn.method.as_str(), host, uri.path_and_query()?.as_str(), "");
    for (name, value) in &drawn.lines {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    if user.is_some() {
        request.headers_mut().append("authorization", "Basic dXNlcjpzZWNyZXQ=".parse().unwrap());
    }
    let before = origins.each_ref().map(|origin| origin.seen().len());
    let (answer, scheme) = if uri.scheme_str() == Some("https") {
        let name = drawn.sni.clone().unwrap_or_else(|| uri.host().unwrap_or_default().to_owned());
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_owned();
        let stream = client::tls(proxy.https, &name, &["http/1.1"]).await;
        let Some(stream) = shaken(model, drawn, &said, stream) else { return Some(Scheme::Https) };
        let mut connection = Http1::open_over(stream).await.unwrap();
        (connection.send(request).await.unwrap(), Scheme::Https)
    } else {
        (client::send(proxy.http, request).await.unwrap(), Scheme::Http)
    };
    let went = (0..2).find(|at| origins[*at].seen().len() > before[*at]);
    let shown = format!("{drawn:?}: {said:#?}\nbut {} {:?}", answer.status, answer.headers);
    match said.status {
        Some(status) => {
            assert_eq!(answer.status, status, "{shown}");
            assert_eq!(went, None, "{shown}");
            let location = said.outcome.iter().find_map(|line| line.strip_prefix("location: "));
            // Only the proxy knows which ports it was given.
            let ports = [proxy.http, proxy.https].map(|address| format!(":{}", address.port()));
            // Groups of the path stand in it as they are.
            let found = answer.headers.get("location").map(|location| {
                let location = String::from_utf8_lossy(location.as_bytes()).trim_end().to_owned();
                ports.iter().fold(location, |location, port| location.replace(port, ""))
            });
            let said = location.map(|location| {
                let location = location.replace(":80/", "/").replace(":443/", "/");
                location.trim_end().trim_end_matches(":80").trim_end_matches(":443").to_owned()
            });
            assert_eq!(found, said, "{shown}");
        }
        None if said.endpoints.is_empty() => panic!("neither an answer nor endpoints: {shown}"),
        None => {
            let origin = &origins[went.unwrap_or_else(|| panic!("{shown}"))];
            assert_eq!(said.endpoints, [origin.address.to_string()], "{shown}");
            let backend = said.backend.as_deref().unwrap_or_default();
            let named = model.backends.iter().find(|(id, _)| id.upstream_name() == backend);
            let named = named.and_then(|(_, backend)| backend.endpoints.first());
            assert_eq!(named.map(|endpoint| endpoint.address), Some(origin.address), "{backend} {shown}");
            let line = said.upstream_request.as_deref().unwrap();
            let seen = origin.last();
            assert!(seen.line.starts_with(line), "{} {shown}", seen.line);
            let fields =
                ["host", "x-forwarded-proto", "x-forwarded-for", "x-forwarded-host", "authorization"];
            for field in fields {
                let wanted =
                    said.upstream_headers.iter().find_map(|line| line.strip_prefix(&format!("{field}: ")));
                assert_eq!(seen.header(field).as_deref(), wanted, "{field} {shown}");
            }
        }
    }
    Some(scheme)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Compares the handshakes; the connection, where requests follow.
fn shaken(
    model: &Model,
    drawn: &Drawn,
    said: &Explanation,
    stream: anyhow::Result<TlsStream<TcpStream>>,
) -> Option<TlsStream<TcpStream>> {
    let shown = || format!("{drawn:?}: {said:#?}");
    let Some(certificate) = said.certificate.as_deref().filter(|text| !text.starts_with("that of")) else {
        // Refused, or carried to an origin that speaks no TLS.
        assert!(stream.is_err(), "{}", shown());
        return None;
    };
    let stream = stream.unwrap_or_else(|error| panic!("{error:#} {}", shown()));
    let leaf = stream.get_ref().1.peer_certificates().unwrap().first().unwrap().to_vec();
    let is_leaf = |id: &CertificateId| {
        let shows = format!("Secret {}/{} (", id.namespace, id.name);
        certificate.starts_with(&shows).then(|| model.certificates[id].chain[0] == leaf)
    };
    match model.certificates.keys().find_map(is_leaf) {
        Some(is_same) => assert!(is_same, "{}", shown()),
        None => {
            assert!(certificate.starts_with("self-signed"), "{}", shown());
            assert!(model.certificates.values().all(|known| known.chain[0] != leaf), "{}", shown());
        }
    }
    Some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_the_proxy_does() {
    let folder = root().join("tests/translate/cases");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    cases.sort();
    let origins = [Origin::start("one").await, Origin::start("two").await];
    let mut dice = Dice(7);
    let (mut compared, mut proxy) = ([0, 0], None);
    for case in cases {
        let Some(mut model) = model(&case, &origins) else { continue };
        for host in &mut model.hosts {
            Arc::make_mut(host).routes.retain(|route| is_repeatable(&route.policies));
        }
        let model = Arc::new(model);
        match &mut proxy {
            None => proxy = Some(Instance::start(Arc::clone(&model)).await.unwrap()),
            Some(proxy) => drop(proxy.publish(Arc::clone(&model)).await.unwrap()),
        }
        for _ in 0..8 {
            let drawn = draw(&mut dice, &model);
            match compare(proxy.as_ref().unwrap(), &origins, &model, &drawn).await {
                Some(Scheme::Http) => compared[0] += 1,
                Some(Scheme::Https) => compared[1] += 1,
                None => {}
            }
        }
    }
    assert!(compared.iter().all(|count| *count > 500), "{compared:?}");
}
