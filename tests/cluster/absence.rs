//! The API server, or what it knows, goes away and comes back.
//!
//! Clocks are shortened where a flag allows it: `install` sets `--sync-period`, so that a broken watch is followed by a
//! list within seconds. The long absence is longer than every clock of the controller (the Lease lives 15 s, nodes that
//! serve are missed after 60 s), which stands for ten minutes; with a paused clock, unit tests let ten minutes pass.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{Process, SOON, eventually, get, run};

use crate::faults::{load, more, set_path};
use crate::install::{get_tls, published};
use crate::{Context, HOST, NODES, VIPS, http};

/// What comes after an outage: kube's clients and ours come back with a growing pause of up to 30 s.
const AFTER_OUTAGE: Duration = Duration::from_secs(60);
/// Longer than every clock of the controller.
const LONG: Duration = Duration::from_secs(75);

/// Whether both nodes, and the VIPs, whose connections either of them may own, answer so.
fn answers(host: &str, path: &str, status: u16) -> anyhow::Result<()> {
    for address in NODES.iter().chain(&VIPS) {
        let answer = get(http(address), host, path)?;
        ensure!(answer.status == status, "{address}: {host}{path}: {}", answer.head);
    }
    Ok(())
}

/// A figure of every agent.
fn figures(name: &str) -> anyhow::Result<Vec<f64>> {
    NODES
        .iter()
        .map(|node| {
            let url = format!("http://{node}:10255/metrics");
            let text = run(Command::new("curl").args(["--silent", "--fail", "--max-time", "5", &url]))?;
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
            let value = line
                .and_then(|line| line.rsplit(' ').next())
                .with_context(|| format!("no {name} in {text}"))?;
            Ok(value.parse()?)
        })
        .collect()
}

fn api_server_is_back(context: &Context) -> anyhow::Result<()> {
    eventually("the API server is back", AFTER_OUTAGE, || context.rig.kubectl(&["get", "--raw", "/readyz"]))?;
    Ok(())
}

fn restart_api_server(context: &Context) -> anyhow::Result<()> {
    context.rig.component("kill", "apiserver")?;
    context.rig.component("start", "apiserver")?;
    api_server_is_back(context)
}

fn signal(process: &Process, name: &str) -> anyhow::Result<()> {
    run(Command::new("kill").args([&format!("-{name}"), &process.pid.to_string()])).map(|_| ())
}

/// Changes with each write of an Ingress, of its status too.
fn version(context: &Context, ingress: &str) -> anyhow::Result<String> {
    context.rig.kubectl(&["get", "ingress", ingress, "-o", "jsonpath={.metadata.resourceVersion}"])
}

fn holder(context: &Context) -> anyhow::Result<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    context.rig.kubectl(&["-n", "portcullis", "get", "lease", "portcullis-leader", "-o", path])
}

fn ingress(name: &str, path: &str) -> String {
    format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default}}
spec:
  ingressClassName: portcullis
  rules:
    - host: {name}.example.test
      http:
        paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: shop, port: {{name: http}}}}}}}}]
"#
    )
}

/// Agents and proxies die while the API server is away: what they kept is served, with its certificates.
pub(crate) fn start(context: &Context) -> anyhow::Result<()> {
    let mut all = context.rig.processes("data-plane", "agent")?;
    all.extend(context.rig.processes("data-plane", "proxy")?);
    ensure!(all.len() == 4, "{all:?}");
    context.rig.component("kill", "apiserver")?;
    for process in &all {
        process.kill()?;
    }
    eventually("the last model answers", SOON, || answers(HOST, "/", 200))?;
    let certificate = context.rig.file("shop-tls.crt");
    for vip in VIPS {
        get_tls(vip, &certificate, HOST, "/")?;
    }
    ensure!(figures("portcullis_last_model_served")? == [1.0, 1.0]);
    for node in 0..NODES.len() {
        let pid = context.rig.find(node, &["portcullis", "agent"])?;
        // As `kubectl exec` would run it, were there an API server.
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        let program = command.split('\0').next().unwrap_or_default().to_owned();
        let pid = pid.to_string();
        let mut exec = Command::new("nsenter");
        exec.args([
            "-t",
            &pid,
            "-m",
            "-n",
            "-r",
            "-w",
            "--",
            &program,
            "status",
            "--bpffs",
            "/run/portcullis/bpf",
        ]);
        let status = run(&mut exec)?;
        ensure!(status.contains("kept by an earlier agent"), "{status}");
    }
    context.rig.component("start", "apiserver")?;
    api_server_is_back(context)?;
    set_path(context, "/again")?;
    eventually("a change after the absence is served", AFTER_OUTAGE, || answers(HOST, "/again", 200))?;
    eventually("nothing is stale", AFTER_OUTAGE, || {
        ensure!(figures("portcullis_last_model_served")? == [0.0, 0.0]);
        ensure!(figures("portcullis_stale_seconds")? == [0.0, 0.0]);
        Ok(())
    })?;
    set_path(context, "/")?;
    eventually("the first path answers again", SOON, || answers(HOST, "/", 200))
}

/// While agents and controllers are cut off, what they would have heard of leaves the history: etcd is compacted and the
/// API server begins anew. Their watches are answered by 410 Gone, and they list again.
pub(crate) fn gone(context: &Context) -> anyhow::Result<()> {
    for (name, path) in [("dropped", "/"), ("moved", "/old")] {
        context.rig.apply(&ingress(name, path))?;
    }
    eventually("what will be changed is served", SOON, || {
        answers("dropped.example.test", "/", 200)?;
        answers("moved.example.test", "/old", 200)
    })?;
    let agents = context.rig.processes("data-plane", "agent")?;
    let controllers = context.rig.processes("controller", "controller")?;
    ensure!(agents.len() == 2 && controllers.len() == 2, "{agents:?} {controllers:?}");
    let all = || agents.iter().chain(&controllers);
    let load = load();
    more(&load, 50)?;
    for process in all() {
        signal(process, "STOP")?;
    }
    // Their connections end here: of what follows nothing waits in their sockets.
    restart_api_server(context)?;
    context.rig.delete(&ingress("dropped", "/"))?;
    context.rig.apply(&ingress("moved", "/new"))?;
    context.rig.apply(&ingress("late", "/"))?;
    compact(&version(context, "late")?)?;
    restart_api_server(context)?;
    more(&load, 100)?;
    for process in all() {
        signal(process, "CONT")?;
    }
    eventually("what was changed meanwhile is served", AFTER_OUTAGE, || {
        answers("late.example.test", "/", 200)?;
        answers("moved.example.test", "/new", 200)
    })?;
    answers("moved.example.test", "/old", 404)?;
    answers("dropped.example.test", "/", 404)?;
    eventually("the controller knows it too", AFTER_OUTAGE, || {
        ensure!(published(context, "late")?.starts_with(VIPS[0]), "no address yet");
        Ok(())
    })?;
    for (process, container) in
        agents.iter().map(|agent| (agent, "agent")).chain(controllers.iter().map(|one| (one, "controller")))
    {
        let log = context.rig.kubectl(&[
            "-n",
            "portcullis",
            "logs",
            &process.pod,
            "-c",
            container,
            "--tail=200",
        ])?;
        ensure!(log.contains("too old resource version"), "no watch of {} was gone: {log}", process.pod);
    }
    more(&load, 200)?;
    load.stop()?;
    context.rig.delete(&ingress("late", "/"))?;
    context.rig.delete(&ingress("moved", "/"))?;
    eventually("what is deleted is not served", SOON, || {
        answers("late.example.test", "/", 404)?;
        answers("moved.example.test", "/new", 404)
    })
}

/// Takes from etcd what was before this revision, as the API server does every five minutes.
fn compact(revision: &str) -> anyhow::Result<()> {
    let body = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--max-time", "10", "--data", &body]);
    run(curl.arg("http://127.0.0.1:2379/v3/kv/compaction"))?;
    Ok(())
}

/// An absence longer than every clock: no request fails, and nothing is written afterwards.
pub(crate) fn long(context: &Context) -> anyhow::Result<()> {
    let before = version(context, "shop")?;
    let load = load();
    more(&load, 50)?;
    let begun = Instant::now();
    context.rig.component("kill", "apiserver")?;
    // Without an API server it ends by itself, where it elects a leader.
    context.rig.component("kill", "controller-manager")?;
    while begun.elapsed() < LONG {
        more(&load, 100)?;
    }
    let stale = figures("portcullis_stale_seconds")?;
    ensure!(stale.iter().all(|seconds| *seconds > 60.0), "{stale:?}");
    for node in NODES {
        let url = format!("http://{node}:10255/readyz");
        run(Command::new("curl").args(["--silent", "--fail", "--max-time", "5", &url]))?;
    }
    context.rig.component("start", "apiserver")?;
    api_server_is_back(context)?;
    context.rig.component("start", "controller-manager")?;
    eventually("everything is followed again", AFTER_OUTAGE, || {
        ensure!(figures("portcullis_stale_seconds")? == [0.0, 0.0]);
        Ok(())
    })?;
    // The leader writes status on what it sees, at least every 10 s; 60 s of it would take addresses back.
    let back = Instant::now();
    while back.elapsed() < LONG {
        more(&load, 100)?;
        let now = version(context, "shop")?;
        ensure!(now == before, "the Ingress was written: version {before}, now {now}");
    }
    load.stop()?;
    Ok(())
}

/// The holder of the Lease is frozen while the API server is away, and thaws when another holds it.
pub(crate) fn leader(context: &Context) -> anyhow::Result<()> {
    let (before, first) = (version(context, "shop")?, holder(context)?);
    let processes = context.rig.processes("controller", "controller")?;
    let frozen = processes.iter().find(|process| process.pod == first);
    let frozen = frozen.with_context(|| format!("the holder {first} is one of {processes:?}"))?;
    context.rig.component("kill", "apiserver")?;
    signal(frozen, "STOP")?;
    context.rig.component("start", "apiserver")?;
    api_server_is_back(context)?;
    let second = eventually("another replica holds the Lease", AFTER_OUTAGE, || {
        let now = holder(context)?;
        ensure!(!now.is_empty() && now != first, "{now:?}");
        Ok(now)
    })?;
    // The pod-runner may have replaced it meanwhile, for it answered no probe.
    let _ = signal(frozen, "CONT");
    let thawed = Instant::now();
    eventually("it has had time to write", AFTER_OUTAGE, || {
        ensure!(holder(context)? == second, "the Lease went on");
        let now = version(context, "shop")?;
        ensure!(now == before, "the Ingress was written: version {before}, now {now}");
        ensure!(thawed.elapsed() > Duration::from_secs(25));
        Ok(())
    })
}

/// etcd begins again with what it knew some changes ago.
pub(crate) fn restored(context: &Context) -> anyhow::Result<()> {
    let (data, copy) = (context.rig.file("etcd"), context.rig.file("etcd.copy"));
    for (name, path) in [("back", "/"), ("edited", "/old")] {
        context.rig.apply(&ingress(name, path))?;
    }
    eventually("what will be changed is served", SOON, || {
        answers("back.example.test", "/", 200)?;
        answers("edited.example.test", "/old", 200)
    })?;
    context.rig.component("kill", "etcd")?;
    run(Command::new("cp").args(["-r", &data, &copy]))?;
    context.rig.component("start", "etcd")?;
    api_server_is_back(context)?;
    context.rig.delete(&ingress("back", "/"))?;
    context.rig.apply(&ingress("edited", "/new"))?;
    context.rig.apply(&ingress("lost", "/"))?;
    eventually("the changes are served", AFTER_OUTAGE, || {
        answers("back.example.test", "/", 404)?;
        answers("edited.example.test", "/new", 200)?;
        answers("lost.example.test", "/", 200)
    })?;
    let load = load();
    more(&load, 50)?;
    for component in ["apiserver", "controller-manager", "scheduler", "etcd"] {
        context.rig.component("kill", component)?;
    }
    std::fs::remove_dir_all(&data)?;
    std::fs::rename(&copy, &data)?;
    for component in ["etcd", "apiserver"] {
        context.rig.component("start", component)?;
    }
    api_server_is_back(context)?;
    // They end when they are refused, as they are by an API server that has not read its roles yet.
    for component in ["scheduler", "controller-manager"] {
        context.rig.component("start", component)?;
    }
    // What Kubernetes asks for after a restore; the agents, the controller and the proxies get no such help.
    for node in ["node-0", "node-1"] {
        context.rig.component("relist", node)?;
    }
    eventually("the restored state is served", AFTER_OUTAGE, || {
        answers("back.example.test", "/", 200)?;
        answers("edited.example.test", "/old", 200)?;
        answers("edited.example.test", "/new", 404)?;
        answers("lost.example.test", "/", 404)
    })?;
    // Later changes arrive too, although their versions were seen before.
    context.rig.delete(&ingress("back", "/"))?;
    eventually("a change after the restore is served", SOON, || answers("back.example.test", "/", 404))?;
    more(&load, 200)?;
    load.stop()?;
    context.rig.delete(&ingress("edited", "/"))
}
