use k8s_openapi::api::core::v1::ConfigMap;

use super::*;
use crate::k8s::cluster::Origin;

#[expect(clippy::needless_pass_by_value, reason = "written in place by every caller")]
fn ingress(name: &str, annotations: Value, path: (&str, &str)) -> Ingress {
    let value = json!({
        "metadata": { "namespace": "shop", "name": name, "annotations": annotations },
        "spec": { "rules": [{ "host": "a.example.com", "http": { "paths": [{
            "path": path.0, "pathType": path.1, "backend": { "service": { "name": "web", "port": { "number": 80 } } },
        }] } }] },
    });
    serde_json::from_value(value).unwrap()
}

fn plain(name: &str) -> Ingress {
    ingress(name, json!({}), ("/", "Prefix"))
}

#[expect(clippy::needless_pass_by_value, reason = "written in place by every caller")]
fn cluster(ingresses: Vec<Ingress>, config: Value) -> (Cluster, Settings) {
    let mut cluster = Cluster { origin: Origin::Folder, ..Cluster::default() };
    cluster.ingresses = ingresses
        .into_iter()
        .map(|mut ingress| {
            // What is stored has a time; what is about to be stored has none.
            ingress.metadata.creation_timestamp =
                Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
            (key(&ingress), Arc::new(ingress))
        })
        .collect();
    let service =
        json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": { "ports": [{ "port": 80 }] } });
    cluster.services =
        [(ObjectKey::new("shop", "web"), Arc::new(serde_json::from_value(service).unwrap()))].into();
    let id = ObjectKey::new("edge", "settings");
    let settings: ConfigMap = serde_json::from_value(json!({ "metadata": {}, "data": config })).unwrap();
    cluster.config_maps.insert(id.clone(), Arc::new(settings));
    (cluster, Settings { config_map: Some(id), is_serving: false, ..Settings::default() })
}

fn judged(old: Vec<Ingress>, config: Value, new: Ingress) -> Judgement {
    let (cluster, settings) = cluster(old, config);
    judge(&cluster, &settings, new)
}

const NGINX: &str = "nginx.ingress.kubernetes.io";

#[test]
fn what_would_be_ignored_is_a_warning() {
    let annotations =
        json!({ format!("{NGINX}/rewrit-target"): "/x", format!("{NGINX}/proxy-read-timeout"): "soon" });
    let judgement = judged(vec![], json!({}), ingress("web", annotations, ("/", "Prefix")));
    assert_eq!(judgement.denial, None);
    assert_eq!(judgement.warnings.len(), 2, "{judgement:?}");
    assert!(
        judgement.warnings.iter().any(|text| text.contains("did you mean rewrite-target?")),
        "{judgement:?}"
    );
}

#[test]
fn a_good_ingress_passes_without_a_word() {
    assert_eq!(
        judged(vec![plain("other-name-same-path")], json!({}), ingress("web", json!({}), ("/x", "Prefix"))),
        Judgement::default()
    );
}

#[test]
fn a_secret_that_this_process_cannot_see_is_no_warning() {
    let mut new = plain("web");
    let tls = json!([{ "hosts": ["a.example.com"], "secretName": "not-visible" }]);
    new.spec.as_mut().unwrap().tls = Some(serde_json::from_value(tls).unwrap());
    let annotations = [("auth-type", "basic"), ("auth-secret", "users")];
    let annotations = annotations.map(|(key, text)| (format!("{NGINX}/{key}"), text.to_owned()));
    new.metadata.annotations = Some(annotations.into());
    assert_eq!(judged(vec![], json!({}), new), Judgement::default());
}

#[test]
fn a_path_of_another_ingress_is_denied_unless_one_is_a_canary() {
    let denial = judged(vec![plain("old")], json!({}), plain("new")).denial.unwrap();
    assert!(
        denial.ends_with(r#"host "a.example.com" and path "/" is already defined in ingress shop/old"#),
        "{denial}"
    );
    let canary = ingress("new", json!({ format!("{NGINX}/canary"): "true" }), ("/", "Prefix"));
    assert_eq!(judged(vec![plain("old")], json!({}), canary).denial, None);
    assert_eq!(judged(vec![plain("web")], json!({}), plain("web")).denial, None, "an update of itself");
    let exact = ingress("new", json!({}), ("/", "Exact"));
    assert_eq!(judged(vec![plain("old")], json!({}), exact).denial, None, "another path type");
}

#[test]
fn an_ingress_of_another_class_is_none_of_our_business() {
    let mut new = plain("new");
    new.spec.as_mut().unwrap().ingress_class_name = Some("traefik".to_owned());
    let (mut cluster, settings) = cluster(vec![plain("old")], json!({}));
    let class = json!({ "metadata": { "name": "traefik" }, "spec": { "controller": "traefik.io/ingress-controller" } });
    let class = Arc::new(serde_json::from_value(class).unwrap());
    cluster.ingress_classes.insert(ObjectKey::new("", "traefik"), class);
    assert_eq!(judge(&cluster, &settings, new), Judgement::default());
}

#[test]
fn odd_paths_are_denied_where_paths_are_strict() {
    let odd = || ingress("web", json!({}), ("/a(b|c)", "Prefix"));
    let denial = judged(vec![], json!({}), odd()).denial.unwrap();
    assert!(denial.contains("cannot be used with pathType Prefix"), "{denial}");
    assert_eq!(judged(vec![], json!({ "strict-validate-path-type": "false" }), odd()).denial, None);
    let specific = ingress("web", json!({}), ("/a(b|c)", "ImplementationSpecific"));
    assert_eq!(judged(vec![], json!({}), specific).denial, None);
}

#[test]
fn snippets_and_forbidden_words_are_denied() {
    let with =
        |key: &str, text: &str| ingress("web", json!({ format!("{NGINX}/{key}"): text }), ("/", "Prefix"));
    let denial = judged(vec![], json!({}), with("server-snippet", "return 200;")).denial.unwrap();
    assert!(denial.contains("snippets are switched off"), "{denial}");
    let words = json!({ "annotation-value-word-blocklist": "load_module,lua_package" });
    let denial = judged(vec![], words, with("upstream-vhost", "x lua_package")).denial.unwrap();
    assert!(denial.contains("lua_package"), "{denial}");
}

#[test]
fn a_default_backend_is_denied_where_catch_alls_are_off() {
    let mut new = plain("web");
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    new.spec.as_mut().unwrap().default_backend = Some(serde_json::from_value(backend).unwrap());
    let (cluster, settings) = cluster(vec![], json!({}));
    let settings = Settings { is_catch_all_disabled: true, ..settings };
    assert!(judge(&cluster, &settings, new).denial.unwrap().contains("--disable-catch-all"));
}

#[test]
fn many_mistakes_stay_within_what_is_shown() {
    let annotations: serde_json::Map<String, Value> =
        (0..40).map(|number| (format!("{NGINX}/unknown-{number}"), json!("x".repeat(400)))).collect();
    let judgement = judged(vec![], json!({}), ingress("web", Value::Object(annotations), ("/", "Prefix")));
    assert_eq!(judgement.warnings.len(), MOST_WARNINGS + 1);
    assert!(judgement.warnings.iter().all(|text| text.len() <= LONGEST_WARNING));
    assert!(judgement.warnings.last().unwrap().contains("and 26 more"));
}

#[test]
fn what_is_no_review_of_an_ingress_is_an_error() {
    let (cluster, settings) = cluster(vec![], json!({}));
    let of = |kind: &str| {
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "kind": { "group": "", "version": "v1", "kind": kind }, "operation": "CREATE", "object": {},
        } })
    };
    let bodies = [json!([]).to_string(), "{".to_owned(), of("Pod").to_string()];
    for body in bodies {
        assert!(review(&cluster, &settings, body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn the_answer_carries_uid_denial_and_warnings() {
    let (cluster, settings) = cluster(vec![plain("old")], json!({}));
    let ask = |ingress: &Ingress, operation: &str| {
        let kind = json!({ "group": "networking.k8s.io", "version": "v1", "kind": "Ingress" });
        let request = json!({ "uid": "u-1", "kind": kind, "operation": operation, "object": ingress });
        let body =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        review(&cluster, &settings, body.to_string().as_bytes()).unwrap()["response"].clone()
    };
    let denied = ask(&plain("new"), "CREATE");
    assert_eq!((&denied["uid"], &denied["allowed"]), (&json!("u-1"), &json!(false)));
    assert!(denied["status"]["message"].as_str().unwrap().contains("already defined"));
    let deleted = ask(&plain("new"), "DELETE");
    assert_eq!(deleted, json!({ "uid": "u-1", "allowed": true }));
}
