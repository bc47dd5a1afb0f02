//! Manifests, as users write them, served by a proxy in this process: annotation → model → answer in one test.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use ingress_userspace::k8s::cluster::ObjectKey;
use ingress_userspace::k8s::folder::Folder;
use ingress_userspace::model::Model;
use ingress_userspace::problem::Problem;
use ingress_userspace::translate::{Settings, Translation, translate};

use crate::proxy::Instance;

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// Translates manifests. The ConfigMap `default/settings`, if there is one, is the cluster-wide one.
pub fn translation(yaml: &str) -> anyhow::Result<Translation> {
    translation_with(yaml, |_| {})
}

/// The same with other flags.
pub fn translation_with(yaml: &str, change: impl FnOnce(&mut Settings)) -> anyhow::Result<Translation> {
    let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
    let root = std::env::temp_dir().join(format!("portcullis-manifests-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("all.yaml"), yaml)?;
    let mut folder = Folder::new(&root);
    folder.scan(&HashSet::new());
    let cluster = folder.cluster();
    std::fs::remove_dir_all(&root).context("cannot remove the folder")?;
    let key = ObjectKey::new("default", "settings");
    let config_map = cluster.config_maps.contains_key(&key).then_some(key);
    // Any free port: the rig says which.
    let mut settings = Settings { config_map, http_port: 0, https_port: 0, ..Settings::default() };
    change(&mut settings);
    Ok(translate(&cluster, &settings))
}

/// The model of manifests that must be without mistakes.
pub fn model(yaml: &str) -> anyhow::Result<Model> {
    let Translation { model, problems, .. } = translation(yaml)?;
    let real: Vec<&Problem> = problems
        .iter()
        .filter(|problem| problem.severity > ingress_userspace::problem::Severity::Note)
        .collect();
    anyhow::ensure!(real.is_empty(), "{real:#?}");
    Ok(Arc::unwrap_or_clone(model))
}

/// Serves manifests.
pub async fn serve(yaml: &str) -> anyhow::Result<Instance> {
    Instance::start(model(yaml)?).await
}

/// A Service `default/<name>`, port 80, with these endpoints.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations: {{portcullis.dev/endpoints: \"{}\"}}\n\
         spec: {{ports: [{{port: 80}}]}}\n",
        endpoints.join(",")
    )
}

/// An Ingress `default/<name>` for one host and one path (type Prefix) to port 80 of `service`. Keys of `annotations`
/// without a prefix get that of ingress-nginx.
pub fn ingress(name: &str, host: &str, path: &str, service: &str, annotations: &[(&str, &str)]) -> String {
    ingress_with(name, host, (path, "Prefix"), service, annotations)
}

/// The same with a path type.
pub fn ingress_with(
    name: &str,
    host: &str,
    (path, path_type): (&str, &str),
    service: &str,
    annotations: &[(&str, &str)],
) -> String {
    let mut lines = String::new();
    for (key, value) in annotations {
        let prefix = if key.contains('/') { "" } else { "nginx.ingress.kubernetes.io/" };
        // JSON strings are YAML.
        lines.push_str(&format!("    {prefix}{key}: {}\n", serde_json::Value::from(*value)));
    }
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n    test: \"true\"\n\
         {lines}spec:\n  ingressClassName: nginx\n  rules:\n  - host: {}\n    http:\n      paths:\n      - path: {}\n        \
         pathType: {path_type}\n        backend: {{service: {{name: {service}, port: {{number: 80}}}}}}\n",
        serde_json::Value::from(host),
        serde_json::Value::from(path),
    )
}

/// The ConfigMap `default/settings`.
pub fn settings(data: &[(&str, &str)]) -> String {
    let mut yaml = String::from("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata:\n");
    for (key, value) in data {
        yaml.push_str(&format!("  {key}: {}\n", serde_json::Value::from(*value)));
    }
    yaml
}
