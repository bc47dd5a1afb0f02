//! Parts die or are replaced while requests go on.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{Load, SOON, eventually, get};

use crate::install::{has_mode, published};
use crate::{Context, HOST, VIPS, http};

pub(crate) fn load() -> Load {
    let addresses: Vec<SocketAddr> = VIPS.iter().map(|vip| http(vip)).collect();
    Load::start(&addresses, HOST, "/")
}

/// Waits until this many more requests were answered.
pub(crate) fn more(load: &Load, requests: u64) -> anyhow::Result<()> {
    let goal = load.sent() + requests;
    eventually("requests go on", Duration::from_secs(60), || {
        ensure!(load.sent() >= goal, "{} of {goal}", load.sent());
        Ok(())
    })
}

pub(crate) fn api_server(context: &Context) -> anyhow::Result<()> {
    let load = load();
    more(&load, 50)?;
    context.rig.component("kill", "apiserver")?;
    ensure!(context.rig.kubectl(&["get", "--raw", "/readyz"]).is_err(), "the API server is down");
    more(&load, 500)?;
    context.rig.component("start", "apiserver")?;
    eventually("the API server is back", SOON, || context.rig.kubectl(&["get", "--raw", "/readyz"]))?;
    // What the watchers do when they are back must not be felt either.
    more(&load, 1500)?;
    load.stop()?;
    set_path(context, "/again")?;
    for vip in VIPS {
        // The watchers come back with a growing pause of up to 30 s.
        eventually("a change after the restart is served", Duration::from_secs(45), || {
            let answer = get(http(vip), HOST, "/again")?;
            ensure!(answer.status == 200 && get(http(vip), HOST, "/")?.status == 404, "{}", answer.head);
            Ok(())
        })?;
    }
    set_path(context, "/")?;
    for vip in VIPS {
        eventually("the first path answers again", SOON, || {
            ensure!(get(http(vip), HOST, "/")?.status == 200);
            Ok(())
        })?;
    }
    Ok(())
}

/// Edits the Ingress alone: other objects would replace pods.
pub(crate) fn set_path(context: &Context, path: &str) -> anyhow::Result<()> {
    let patch =
        format!(r#"[{{"op": "replace", "path": "/spec/rules/0/http/paths/0/path", "value": "{path}"}}]"#);
    context.rig.kubectl(&["patch", "ingress", "shop", "--type=json", "--patch", &patch])?;
    Ok(())
}

pub(crate) fn agent_killed(context: &Context) -> anyhow::Result<()> {
    let before = context.rig.processes("data-plane", "agent")?;
    let load = load();
    more(&load, 50)?;
    for agent in &before {
        agent.kill()?;
    }
    more(&load, 200)?;
    eventually("both agents run again and are ready", SOON, || {
        let now = context.rig.processes("data-plane", "agent")?;
        let is_new = now.iter().zip(&before).all(|(now, before)| now.restarts > before.restarts);
        ensure!(now.len() == 2 && is_new, "{now:?}");
        Ok(())
    })?;
    context.rig.kubectl(&[
        "-n",
        "portcullis",
        "rollout",
        "status",
        "daemonset/portcullis",
        "--timeout=30s",
    ])?;
    more(&load, 200)?;
    load.stop()?;
    Ok(())
}

pub(crate) fn leader_killed(context: &Context) -> anyhow::Result<()> {
    let holder = || {
        let path = "jsonpath={.spec.holderIdentity}";
        context.rig.kubectl(&["-n", "portcullis", "get", "lease", "portcullis-leader", "-o", path])
    };
    let first = holder()?;
    let processes = context.rig.processes("controller", "controller")?;
    ensure!(
        processes.iter().any(|process| process.pod == first),
        "the holder {first} is one of {processes:?}"
    );
    context.rig.kubectl(&["-n", "portcullis", "delete", "pod", &first, "--wait=false"])?;
    eventually("another replica holds the Lease", Duration::from_secs(40), || {
        let now = holder()?;
        ensure!(!now.is_empty() && now != first, "{now:?}");
        Ok(())
    })?;
    // The new holder writes: a status that somebody emptied is filled in again.
    let empty = ["patch", "ingress", "shop", "--subresource=status", "--type=merge", "--patch"];
    let patch = r#"{"status":{"loadBalancer":{"ingress":null}}}"#;
    context.rig.kubectl(&[&empty[..], &[patch]].concat())?;
    eventually("the status is filled in again", Duration::from_secs(30), || {
        ensure!(published(context, "shop")?.starts_with(VIPS[0]));
        Ok(())
    })
}

pub(crate) fn rolling_update(context: &Context) -> anyhow::Result<()> {
    let before = context.rig.processes("data-plane", "proxy")?;
    let load = load();
    more(&load, 50)?;
    context.rig.kubectl(&["-n", "portcullis", "rollout", "restart", "daemonset/portcullis"])?;
    context.rig.kubectl(&[
        "-n",
        "portcullis",
        "rollout",
        "status",
        "daemonset/portcullis",
        "--timeout=120s",
    ])?;
    eventually("only new pods are left", Duration::from_secs(60), || {
        let now = context.rig.processes("data-plane", "proxy")?;
        let old = now.iter().find(|process| before.iter().any(|before| before.pod == process.pod));
        ensure!(old.is_none() && now.len() == 2, "{now:?}");
        Ok(())
    })?;
    more(&load, 200)?;
    let total = load.stop().context("during the rolling update")?;
    ensure!(total > 300, "{total} requests");
    Ok(())
}

/// A new agent that may load nothing cannot take the node's kernel half away from the one that serves by it.
pub(crate) fn broken_update(context: &Context) -> anyhow::Result<()> {
    let before = context.rig.processes("data-plane", "agent")?;
    let load = load();
    more(&load, 50)?;
    let place = "/spec/template/spec/containers/0/securityContext/capabilities";
    let patch = format!(r#"[{{"op": "replace", "path": "{place}", "value": {{"drop": ["ALL"]}}}}]"#);
    let set = ["-n", "portcullis", "patch", "daemonset", "portcullis", "--type=json", "--patch", &patch];
    context.rig.kubectl(&set)?;
    let pod = eventually("the new agent says what it lacks", SOON, || {
        let processes = context.rig.processes("data-plane", "agent")?;
        let new = processes.iter().find(|process| before.iter().all(|before| before.pod != process.pod));
        let pod = new.context("no new pod yet")?.pod.clone();
        let log = context.rig.kubectl(&["-n", "portcullis", "logs", &pod, "-c", "agent"])?;
        ensure!(log.contains("no rights for eBPF: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN missing"), "{log}");
        ensure!(log.contains("data plane is up"), "{log}");
        Ok(pod)
    })?;
    let lacks = "mode userspace on node-";
    eventually("an Event on its pod says so", SOON, || {
        let selector = format!("involvedObject.name={pod},reason=DataplaneDegraded");
        let list = ["-n", "portcullis", "get", "events", "--field-selector", &selector];
        let events = context.rig.kubectl(&[&list[..], &["-o", "jsonpath={.items[*].message}"]].concat())?;
        ensure!(events.contains(lacks) && events.contains("CAP_BPF"), "{events:?}");
        Ok(())
    })?;
    let status = ["-n", "portcullis", "exec", &pod, "-c", "agent", "--", "portcullis", "status"];
    let status = context.rig.kubectl(&[&status[..], &["--bpffs", "/run/portcullis/bpf"]].concat())?;
    ensure!(status.contains("degraded: stepped down to userspace mode: no rights for eBPF"), "{status}");
    more(&load, 500)?;
    for node in ["node-0", "node-1"] {
        has_mode(context, node, "xdp-native")?;
    }
    let now = context.rig.processes("data-plane", "agent")?;
    for agent in &before {
        ensure!(now.contains(agent), "an old pod went although the new one is not ready: {now:?}");
    }
    context.rig.kubectl(&["-n", "portcullis", "rollout", "undo", "daemonset/portcullis"])?;
    context.rig.kubectl(&[
        "-n",
        "portcullis",
        "rollout",
        "status",
        "daemonset/portcullis",
        "--timeout=60s",
    ])?;
    more(&load, 200)?;
    load.stop().context("while an update failed")?;
    Ok(())
}
