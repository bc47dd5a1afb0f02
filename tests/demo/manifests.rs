//! The folder that the demo serves: the files of `manifests/`, and what only a run can know (endpoints, certificates).

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

const FILES: &[(&str, &str)] = &[
    ("services.yaml", include_str!("manifests/services.yaml")),
    ("ingress.yaml", include_str!("manifests/ingress.yaml")),
];
const EDGE: (&str, &str) = ("edge.yaml", include_str!("manifests/edge.yaml"));

/// Writes the folder. `edge` adds the objects of the kernel half. Returns nothing: `portcullis` reads it from disk.
pub(crate) fn write(folder: &Path, endpoints: &[(&str, &str, SocketAddr)], edge: bool) -> anyhow::Result<()> {
    for (name, text) in FILES.iter().chain(edge.then_some(&EDGE)) {
        fs::write(folder.join(name), text)?;
    }
    let mut slices = String::new();
    for (service, port, address) in endpoints {
        write!(
            slices,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {service}-1, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IPv4\nports: [{{name: {port}, port: {}}}]\n\
             endpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]\n",
            address.port(),
            address.ip()
        )?;
    }
    fs::write(folder.join("endpoints.yaml"), slices)?;
    for name in ["shop", "docs"] {
        certificate(folder, name)?;
    }
    Ok(())
}

/// A certificate for `NAME.example.test`, as a Secret in the folder and as `NAME.pem` beside it for curl to trust.
fn certificate(folder: &Path, name: &str) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed([format!("{name}.example.test")])?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-tls, namespace: shop}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(&chain),
        indent(&key)
    );
    fs::write(folder.join(format!("secret-{name}.yaml")), secret)?;
    let beside = folder.parent().context("the manifest folder has a parent")?;
    fs::write(beside.join(format!("{name}.pem")), chain)?;
    Ok(())
}

/// Moves `moving.example.test` from the Service `web` to `api`, as an editor would: a new file renamed over the old one.
pub(crate) fn move_host(folder: &Path) -> anyhow::Result<()> {
    let (path, temporary) = (folder.join("ingress.yaml"), folder.join(".ingress.yaml.new"));
    let text = fs::read_to_string(&path)?;
    let (before, moving) =
        text.split_once("metadata: {name: moving").context("the Ingress `moving` is there")?;
    let moving = moving.replace("service: {name: web", "service: {name: api");
    fs::write(&temporary, format!("{before}metadata: {{name: moving{moving}"))?;
    fs::rename(&temporary, &path)?;
    Ok(())
}
