//! What `explain` says of a request is what the proxy does with it: requests drawn at random, on the worlds of the golden
//! cases.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, Method};
use ingress_tests::client;
use ingress_tests::cluster::root;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_userspace::explain::{Asked, Explanation, explain};
use ingress_userspace::k8s::cluster::{Cluster, ObjectKey};
use ingress_userspace::k8s::folder::Folder;
use ingress_userspace::model::Model;
use ingress_userspace::model::host::HostPattern;
use ingress_userspace::model::policy::Policies;
use ingress_userspace::model::policy::upstream::UpstreamProtocol;
use ingress_userspace::translate::{Settings, translate};

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

/// The model of a case, on free ports, with every endpoint at `origin`.
fn model(case: &PathBuf, origin: &Origin) -> Option<Model> {
    let text = std::fs::read_to_string(case).unwrap();
    let mut settings = Settings { http_port: 0, https_port: 0, ..Settings::default() };
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        // Other flags belong to other tests.
        let named = line.strip_prefix("# flag: --configmap ")?;
        settings.config_map = ObjectKey::parse(named);
    }
    let mut folder = Folder::new(case);
    folder.scan(&HashSet::new());
    let mut model = Arc::unwrap_or_clone(translate(&folder.cluster(), &settings).model);
    model.listeners.retain(|listener| !listener.protocol.is_stream());
    model.checks.clear();
    let is_plain = model.global == translate(&Cluster::default(), &settings).model.global;
    for backend in model.backends.values_mut() {
        backend.endpoints.truncate(1);
        backend.endpoints.iter_mut().for_each(|endpoint| endpoint.address = origin.address);
    }
    (is_plain && !model.hosts.is_empty()).then_some(model)
}

/// Whether an answer depends on what was asked before, on other services, or on chance.
fn is_repeatable(policies: &Policies) -> bool {
    policies.rate_limit.is_none()
        && policies.quota.is_none()
        && policies.connection_limit.is_none()
        && policies.auth_external.is_none()
        && policies.error_pages.is_none()
        && policies.mirror.is_none()
        && policies.delivery.canary.is_none()
        && policies.password_auth.is_none()
        && policies.upstream.protocol == UpstreamProtocol::Http
}

fn draw(dice: &mut Dice, model: &Model) -> (String, Method, Vec<(HeaderName, &'static str)>) {
    let host = &model.hosts[dice.below(model.hosts.len())];
    let mut name = match &host.pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("x.{suffix}"),
        HostPattern::Any => "any.example".to_owned(),
    };
    match dice.below(8) {
        0 => name = name.to_ascii_uppercase(),
        1 => name.push_str(":8080"),
        2 => name = format!("y.{name}"),
        _ => {}
    }
    let written =
        host.routes.get(dice.below(host.routes.len().max(1))).map(|route| route.source.path.as_str());
    let plain: String = written
        .unwrap_or("/")
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
    ]));
    if dice.below(6) == 0 {
        path = path.to_ascii_uppercase();
    }
    let method =
        [Method::GET, Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE][dice.below(5)].clone();
    let lines = [
        ("origin", "https://app.example.com"),
        ("user-agent", "a Mobile bot"),
        ("x-forwarded-proto", "https"),
        ("cookie", "a=b; session=1"),
        ("x-region", "eu"),
    ];
    let lines = lines.into_iter().filter(|_| dice.below(3) == 0);
    (
        format!("http://{name}{path}"),
        method,
        lines.map(|(name, value)| (HeaderName::from_static(name), value)).collect(),
    )
}

/// Asks both; `None`: there is nothing to compare.
async fn compare(
    proxy: &Instance,
    origin: &Origin,
    model: &Arc<Model>,
    (url, method, lines): (String, Method, Vec<(HeaderName, &'static str)>),
) -> Option<()> {
    let uri: http::Uri = url.parse().ok()?;
    let asked = Asked {
        url: uri.clone(),
        method: method.clone(),
        headers: lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect(),
        from: "127.0.0.1".parse().unwrap(),
        sni: None,
    };
    let said: Explanation = {
        let model = Arc::clone(model);
        tokio::task::spawn_blocking(move || explain(&model, &asked)).await.unwrap().unwrap()
    };
    let mut request =
        client::request(method.as_str(), uri.authority()?.as_str(), uri.path_and_query()?.as_str(), "");
    for (name, value) in &lines {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let before = origin.seen().len();
    let answer = client::send(proxy.http, request).await.unwrap();
    let went = origin.seen().len() > before;
    let shown = format!("{method} {url} {lines:?}: {said:#?}\nbut {} {:?}", answer.status, answer.headers);
    match said.status {
        Some(status) => {
            assert_eq!(answer.status, status, "{shown}");
            assert!(!went, "{shown}");
            let location = said.outcome.iter().find_map(|line| line.strip_prefix("location: "));
            // Only the proxy knows which port it was given.
            let port = format!(":{}", proxy.http.port());
            let found = answer.header("location").map(|location| location.replace(&port, ""));
            let said = location.map(|location| location.replace(":80", ""));
            assert_eq!(found, said, "{shown}");
        }
        None if said.endpoints.is_empty() => panic!("neither an answer nor endpoints: {shown}"),
        None => {
            assert!(went, "{shown}");
            let line = said.upstream_request.as_deref().unwrap();
            let seen = origin.last();
            assert!(seen.line.starts_with(line), "{} {shown}", seen.line);
            for field in ["host", "x-forwarded-proto", "x-forwarded-for", "x-forwarded-host"] {
                let wanted =
                    said.upstream_headers.iter().find_map(|line| line.strip_prefix(&format!("{field}: ")));
                assert_eq!(seen.header(field).as_deref(), wanted, "{field} {shown}");
            }
        }
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_the_proxy_does() {
    let folder = root().join("tests/translate/cases");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    cases.sort();
    let origin = Origin::start("web").await;
    let mut dice = Dice(7);
    let (mut compared, mut proxy) = (0, None);
    for case in cases {
        let Some(mut model) = model(&case, &origin) else { continue };
        for host in &mut model.hosts {
            Arc::make_mut(host).routes.retain(|route| is_repeatable(&route.policies));
        }
        let model = Arc::new(model);
        match &mut proxy {
            None => proxy = Some(Instance::start(Arc::clone(&model)).await.unwrap()),
            Some(proxy) => drop(proxy.publish(Arc::clone(&model)).await.unwrap()),
        }
        for _ in 0..6 {
            let drawn = draw(&mut dice, &model);
            compared += compare(proxy.as_ref().unwrap(), &origin, &model, drawn).await.map_or(0, |()| 1);
        }
    }
    assert!(compared > 500, "{compared}");
}
