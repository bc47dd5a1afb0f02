//! The chart: rendered by a real helm for every set of values in `charts/portcullis/tests`, checked against the strict
//! schemas of several Kubernetes versions, and held to the rules that a schema does not know.

#![expect(clippy::indexing_slicing, reason = "JSON without the key is null, not a panic")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use ingress_tests::cluster::{cache, chart, helm, root};
use serde_json::Value;

/// From the oldest that the chart allows to the newest.
const VERSIONS: [&str; 3] = ["1.29", "1.33", "1.37"];

fn values() -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(chart().join("tests"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("values-")));
    files.sort();
    ensure!(files.len() >= 8, "{} value files", files.len());
    Ok(files)
}

fn text(output: Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn template(values: &Path, version: &str, more: &[&str]) -> anyhow::Result<String> {
    let mut helm = helm()?;
    helm.args(["template", "edge"]).arg(chart()).args(["--namespace", "edge", "--kube-version", version]);
    text(helm.arg("--values").arg(values).args(more).output()?)
}

/// The rendered objects, after the schemas of `versions` found nothing.
fn objects(rendered: &str, versions: &[&str]) -> anyhow::Result<Vec<Value>> {
    let script = root().join("tests/chart/validate.py");
    let mut python = Command::new(cache().join("python/bin/python"))
        .arg(script)
        .args(versions)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the schemas are not installed: run `cargo xtask setup`")?;
    python.stdin.take().context("piped")?.write_all(rendered.as_bytes())?;
    Ok(serde_json::from_str(&text(python.wait_with_output()?)?)?)
}

fn rendered(file: &str) -> anyhow::Result<Vec<Value>> {
    objects(&template(&chart().join("tests").join(file), "1.35.0", &[])?, &["1.35"])
}

fn one<'a>(objects: &'a [Value], kind: &str) -> anyhow::Result<&'a Value> {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "several {kind}");
    Ok(first)
}

/// The Deployment of a component.
fn deployment<'a>(objects: &'a [Value], component: &str) -> anyhow::Result<&'a Value> {
    let mut all = objects.iter().filter(|object| object["kind"] == "Deployment");
    let is_it = |object: &&Value| object["metadata"]["labels"]["app.kubernetes.io/component"] == component;
    all.find(is_it).with_context(|| format!("no Deployment of {component}"))
}

fn container<'a>(workload: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().context("containers")?;
    containers
        .iter()
        .find(|container| container["name"] == name)
        .with_context(|| format!("no container {name}"))
}

fn arguments(container: &Value) -> Vec<&str> {
    container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn lint_finds_nothing_in_strict_mode() -> anyhow::Result<()> {
    let output = text(helm()?.args(["lint", "--strict"]).arg(chart()).output()?)?;
    ensure!(!output.contains("[WARNING]") && !output.contains("[ERROR]"), "{output}");
    Ok(())
}

#[test]
fn every_set_of_values_renders_valid_objects_on_old_and_new_kubernetes() -> anyhow::Result<()> {
    for file in values()? {
        for version in VERSIONS {
            template(&file, &format!("{version}.0"), &[])
                .and_then(|rendered| objects(&rendered, &[version]))
                .with_context(|| format!("{} on {version}", file.display()))?;
        }
    }
    Ok(())
}

#[test]
fn the_proxy_has_no_right_no_token_and_the_agent_four_capabilities() -> anyhow::Result<()> {
    for file in values()? {
        if file.ends_with("values-userspace.yaml") {
            continue;
        }
        let rendered = objects(&template(&file, "1.35.0", &[])?, &[])?;
        let set = one(&rendered, "DaemonSet")?;
        let pod = &set["spec"]["template"]["spec"];
        let proxy = container(set, "proxy")?;
        let restricted = &proxy["securityContext"];
        assert_eq!(restricted["capabilities"], serde_json::json!({"drop": ["ALL"]}));
        assert_eq!(restricted["runAsNonRoot"], true);
        assert_eq!(restricted["allowPrivilegeEscalation"], false);
        assert_eq!(restricted["readOnlyRootFilesystem"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        let mounts: Vec<&Value> =
            proxy["volumeMounts"].as_array().into_iter().flatten().map(|mount| &mount["mountPath"]).collect();
        assert_eq!(mounts, ["/run/portcullis", "/tmp"], "its sockets, and room for buffered bodies");
        let agent = &container(set, "agent")?["securityContext"];
        let expected =
            serde_json::json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]});
        assert_eq!(agent["capabilities"], expected);
        assert_eq!(agent["allowPrivilegeEscalation"], false);
        assert_eq!(agent["readOnlyRootFilesystem"], true);
    }
    Ok(())
}

#[test]
fn the_last_configuration_with_its_keys_is_kept_in_memory_and_by_the_agent_alone() -> anyhow::Result<()> {
    for file in values()? {
        let rendered = objects(&template(&file, "1.35.0", &[])?, &[])?;
        let set = one(&rendered, "DaemonSet")?;
        let mounts = |name: &str| -> anyhow::Result<Vec<Value>> {
            Ok(container(set, name)?["volumeMounts"].as_array().cloned().unwrap_or_default())
        };
        let path = "/run/portcullis/state";
        let mount = mounts("agent")?.into_iter().find(|mount| mount["mountPath"] == path);
        let volume = &mount.context("the agent has no such mount")?["name"];
        assert!(mounts("proxy")?.iter().all(|mount| mount["name"] != *volume));
        let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten();
        let volume = volumes.clone().find(|known| known["name"] == *volume).context("no such volume")?;
        assert_eq!(volume["emptyDir"]["medium"], "Memory");
        let flag = format!("--last-model={path}/last-model");
        let arguments = container(set, "agent")?["args"].as_array().into_iter().flatten();
        assert!(arguments.clone().any(|argument| *argument == *flag), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn a_rolling_update_can_surge_because_no_port_is_declared() -> anyhow::Result<()> {
    let rendered = rendered("values-default.yaml")?;
    let set = one(&rendered, "DaemonSet")?;
    let update = &set["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!((&update["maxSurge"], &update["maxUnavailable"]), (&Value::from(1), &Value::from(0)));
    assert_eq!(set["spec"]["template"]["spec"]["hostNetwork"], true);
    for name in ["agent", "proxy"] {
        assert_eq!(container(set, name)?["ports"], Value::Null, "{name} declares ports");
    }
    Ok(())
}

#[test]
fn the_controller_fits_the_restricted_pod_security_level() -> anyhow::Result<()> {
    let rendered = rendered("values-default.yaml")?;
    let deployment = deployment(&rendered, "controller")?;
    let pod = &deployment["spec"]["template"]["spec"];
    for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod[forbidden], Value::Null, "{forbidden}");
    }
    assert_eq!(pod["volumes"], Value::Null);
    let context = &container(deployment, "controller")?["securityContext"];
    assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    Ok(())
}

#[test]
fn nobody_gets_a_wildcard_a_secret_to_write_or_a_way_into_pods() -> anyhow::Result<()> {
    for file in values()? {
        for role in objects(&template(&file, "1.35.0", &[])?, &[])? {
            if !matches!(role["kind"].as_str(), Some("Role" | "ClusterRole")) {
                continue;
            }
            for rule in role["rules"].as_array().into_iter().flatten() {
                let set = |field: &str| -> BTreeSet<&str> {
                    rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
                };
                let (resources, verbs) = (set("resources"), set("verbs"));
                let place = format!("{}: {} {rule}", file.display(), role["metadata"]["name"]);
                for field in ["apiGroups", "resources", "verbs"] {
                    ensure!(!set(field).contains("*"), "{place}");
                }
                let reads = BTreeSet::from(["get", "list", "watch"]);
                // Written are only copies, in a namespace that holds nothing else, and the webhook's own certificate.
                let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
                let is_copies = namespace.ends_with("-synced");
                let is_certificate = verbs == BTreeSet::from(["create"]) && !namespace.is_empty()
                    || !set("resourceNames").is_empty();
                if resources.contains("secrets") && !verbs.is_subset(&reads) {
                    ensure!(is_copies || is_certificate, "{place}");
                    ensure!(
                        role["metadata"]["labels"]["app.kubernetes.io/component"] == "controller",
                        "{place}"
                    );
                }
                ensure!(!resources.iter().any(|name| name.starts_with("pods/")), "{place}");
                ensure!(is_copies || !verbs.contains("delete"), "{place}");
                for forbidden in ["impersonate", "escalate", "bind", "deletecollection"] {
                    ensure!(!verbs.contains(forbidden), "{place}");
                }
            }
        }
    }
    Ok(())
}

/// What the roles of a component allow: where, and which kinds.
fn kinds(objects: &[Value], component: &str) -> BTreeSet<(String, String)> {
    let is_role = |object: &&Value| {
        ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap_or_default())
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == component
    };
    let mut found = BTreeSet::new();
    for role in objects.iter().filter(is_role) {
        let place = role["metadata"]["namespace"].as_str().unwrap_or("everywhere");
        for rule in role["rules"].as_array().into_iter().flatten() {
            for kind in rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                found.insert((place.to_owned(), kind.to_owned()));
            }
        }
    }
    found
}

#[test]
fn agents_and_webhook_read_secrets_and_settings_only_as_copies() -> anyhow::Result<()> {
    let rendered = rendered("values-default.yaml")?;
    let place = |place: &str, kinds: &[&str]| -> BTreeSet<(String, String)> {
        kinds.iter().map(|kind| (place.to_owned(), (*kind).to_owned())).collect()
    };
    let everywhere =
        ["ingressclasses", "addresspools", "edgepolicies", "ingresses", "services", "endpointslices"];
    let synced = place("edge-portcullis-synced", &["secrets", "configmaps", "leases"]);
    assert_eq!(kinds(&rendered, "data-plane"), &place("everywhere", &everywhere) | &synced);
    let copies = place("edge-portcullis-synced", &["configmaps"]);
    assert_eq!(kinds(&rendered, "webhook"), &place("everywhere", &everywhere) | &copies);
    let webhook = deployment(&rendered, "webhook")?;
    let context = &container(webhook, "webhook")?["securityContext"];
    assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
    Ok(())
}

#[test]
fn cert_manager_takes_the_place_of_the_controller_for_the_webhook() -> anyhow::Result<()> {
    let rendered = rendered("values-cert-manager.yaml")?;
    let configuration = one(&rendered, "ValidatingWebhookConfiguration")?;
    let injected = &configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    assert_eq!(injected, "edge/edge-portcullis-webhook");
    assert_eq!(configuration["webhooks"][0]["failurePolicy"], "Fail");
    let certificate = one(&rendered, "Certificate")?;
    let mounted = &deployment(&rendered, "webhook")?["spec"]["template"]["spec"]["volumes"][0]["secret"];
    assert_eq!(certificate["spec"]["secretName"], mounted["secretName"]);
    assert!(kinds(&rendered, "controller").iter().all(|(_, kind)| kind != "validatingwebhookconfigurations"));
    Ok(())
}

#[test]
fn rights_are_as_reviewed() -> anyhow::Result<()> {
    for case in ["default", "one-namespace", "secret-namespaces"] {
        let file = chart().join("tests").join(format!("values-{case}.yaml"));
        let rendered = template(&file, "1.35.0", &["--show-only", "templates/rbac.yaml"])?;
        let golden = chart().join("tests").join(format!("rbac-{case}.golden.yaml"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&golden, &rendered)?;
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if expected != rendered {
            bail!("{} differs; after review: UPDATE_EXPECT=1\n{rendered}", golden.display());
        }
    }
    Ok(())
}

#[test]
fn flags_go_to_the_role_that_knows_them_and_others_are_named_in_the_notes() -> anyhow::Result<()> {
    let rendered = rendered("values-dropin.yaml")?;
    let (set, deployment) = (one(&rendered, "DaemonSet")?, deployment(&rendered, "controller")?);
    let (agent, proxy) = (arguments(container(set, "agent")?), arguments(container(set, "proxy")?));
    let controller = arguments(container(deployment, "controller")?);
    for who in [&agent, &controller] {
        assert!(who.contains(&"--controller-class=k8s.io/ingress-nginx"), "{who:?}");
        assert!(who.contains(&"--ingress-class=nginx"), "{who:?}");
        assert!(who.contains(&"--watch-ingress-without-class"), "{who:?}");
        assert!(who.contains(&"--default-ssl-certificate=certs/wildcard"), "{who:?}");
        assert!(who.contains(&"--tcp-services-configmap=edge/edge-portcullis-tcp"), "{who:?}");
        assert!(who.contains(&"--udp-services-configmap=streams/edge-portcullis-udp"), "{who:?}");
        assert!(who.contains(&"--enable-ssl-passthrough=true"), "{who:?}");
        assert!(who.contains(&"--disable-svc-external-name=true"), "{who:?}");
        assert!(who.contains(&"--http-port=8080"), "{who:?}");
    }
    assert!(proxy.contains(&"--metrics-per-host=false"), "{proxy:?}");
    assert!(controller.contains(&"--election-id=ingress-nginx-leader"), "{controller:?}");
    assert!(proxy.contains(&"--shutdown-grace-period=10"), "{proxy:?}");
    assert!(controller.contains(&"--publish-status-address=edge.example.test"), "{controller:?}");
    assert_eq!(one(&rendered, "IngressClass")?["spec"]["controller"], "k8s.io/ingress-nginx");
    let data = |namespace: &str, name: &str| -> anyhow::Result<&Value> {
        let is_it = |object: &&Value| {
            let metadata = &object["metadata"];
            object["kind"] == "ConfigMap" && metadata["name"] == name && metadata["namespace"] == namespace
        };
        Ok(&rendered.iter().find(is_it).with_context(|| format!("no ConfigMap {namespace}/{name}"))?["data"])
    };
    let settings = data("edge", "edge-portcullis")?;
    assert_eq!(settings["use-forwarded-headers"], "true");
    assert_eq!(settings["allow-snippet-annotations"], "false");
    assert_eq!(settings["proxy-set-headers"], "edge/edge-portcullis-proxy-set-headers");
    assert_eq!(data("edge", "edge-portcullis-proxy-set-headers")?["X-Edge"], "$host");
    assert_eq!(data("edge", "edge-portcullis-add-headers")?["X-Served-By"], "edge");
    assert_eq!(data("edge", "edge-portcullis-tcp")?["5432"], "db/postgres:5432");
    assert_eq!(data("streams", "edge-portcullis-udp")?["53"], "kube-system/dns:53");

    let mut helm = helm()?;
    helm.args(["install", "edge"]).arg(chart()).args(["--namespace", "edge", "--dry-run=client", "--values"]);
    let output = text(helm.arg(chart().join("tests/values-dropin.yaml")).output()?)?;
    let notes = output.split("These values have no effect").nth(1).context("no list of ignored values")?;
    for ignored in [
        "controller.replicaCount",
        "controller.service",
        "controller.admissionWebhooks.patch",
        "controller.extraArgs.profiling",
    ] {
        assert!(
            notes.contains(&format!("- {ignored}\n")) || notes.trim_end().ends_with(ignored),
            "{ignored}: {notes}"
        );
    }
    for known in ["controller.config", "tcp", "http-port", "election-id", "metrics-per-host"] {
        assert!(!notes.contains(known), "{known}: {notes}");
    }
    Ok(())
}

#[test]
fn every_rendered_flag_is_one_that_the_binary_takes() -> anyhow::Result<()> {
    use clap::Parser as _;
    for file in values()? {
        for workload in objects(&template(&file, "1.35.0", &[])?, &[])? {
            let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
            for container in containers.into_iter().flatten() {
                let line = std::iter::once("portcullis").chain(arguments(container));
                ingress_userspace::args::Cli::try_parse_from(line)
                    .with_context(|| format!("{}: {}", file.display(), container["name"]))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_typing_mistake_in_our_blocks_is_refused_by_name() -> anyhow::Result<()> {
    for (setting, named) in [
        ("dataplane.mdoe=auto", "mdoe"),
        ("dataplane.mode=fast", "/dataplane/mode"),
        ("clusterController.replica=2", "replica"),
        ("dataplan.mode=auto", "dataplan"),
        ("controller.containerPort.http=70000", "/controller/containerPort/http"),
        ("controller.kind=Deployment", "controller.kind"),
    ] {
        let output = helm()?.args(["template", "edge"]).arg(chart()).args(["--set", setting]).output()?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && message.contains(named), "{setting}: {message}");
    }
    Ok(())
}
