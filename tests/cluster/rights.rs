//! What each process may do, shown on the processes and with their own tokens.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{Process, run};

use crate::Context;

const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";

pub(crate) fn proxy(context: &Context) -> anyhow::Result<()> {
    for process in context.rig.processes("data-plane", "proxy")? {
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            let value = process.status(set)?;
            ensure!(value == "0000000000000000", "{}: {set} {value}", process.node);
        }
        ensure!(
            process.status("Uid")?.split_whitespace().all(|uid| uid == "65532"),
            "{}",
            process.status("Uid")?
        );
        ensure!(process.status("NoNewPrivs")? == "1", "{} may gain rights", process.node);
        let root = format!("/proc/{}/root", process.pid);
        ensure!(!Path::new(&root).join(ACCOUNT).exists(), "{} has a token", process.node);
        ensure!(read_only_root(&process)?, "{} can write to its root", process.node);
    }
    Ok(())
}

pub(crate) fn agent(context: &Context) -> anyhow::Result<()> {
    for process in context.rig.processes("data-plane", "agent")? {
        // BPF (39), PERFMON (38), NET_RAW (13) and NET_ADMIN (12); not SYS_ADMIN (21).
        ensure!(process.status("CapEff")? == "000000c000003000", "{}", process.status("CapEff")?);
        ensure!(process.status("CapBnd")? == "000000c000003000", "{}", process.status("CapBnd")?);
        ensure!(process.status("NoNewPrivs")? == "1", "{} may gain rights", process.node);
        ensure!(read_only_root(&process)?, "{} can write to its root", process.node);
        let api = Api::of(&process)?;
        for allowed in ["ingresses.networking.k8s.io", "services", "edgepolicies.portcullis.dev"] {
            api.call(&["get", allowed, "--all-namespaces"])
                .with_context(|| format!("may not read {allowed}"))?;
        }
        api.call(&["get", "secrets,configmaps", "--namespace", "portcullis-synced"])?;
        for forbidden in [
            &["get", "nodes"][..],
            &["get", "secrets", "--all-namespaces"],
            &["get", "secrets", "--namespace", "portcullis"],
            &["delete", "secret", "default.shop-tls", "--namespace", "portcullis-synced"],
            &["get", "pods", "--all-namespaces"],
            &["get", "configmaps", "--all-namespaces"],
            &["get", "leases", "--all-namespaces"],
            &[
                "patch",
                "ingress",
                "shop",
                "--type=merge",
                "--patch={\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
            ],
            &["delete", "secret", "shop-tls"],
            &["create", "secret", "generic", "other"],
            &["create", "configmap", "other"],
            &["delete", "lease", &process.node, "--namespace", "portcullis-synced"],
        ] {
            api.refuses(forbidden)?;
        }
        ensure!(api.can("patch leases.coordination.k8s.io --namespace=portcullis-synced")?, "no node Lease");
        api.refuses(&["get", "nodes"])?;
        for forbidden in [
            "patch ingresses.networking.k8s.io --subresource=status",
            "create events.events.k8s.io",
            "create leases.coordination.k8s.io --namespace=portcullis",
            "patch leases.coordination.k8s.io --namespace=portcullis",
        ] {
            ensure!(!api.can(forbidden)?, "may {forbidden}");
        }
    }
    Ok(())
}

pub(crate) fn controller(context: &Context) -> anyhow::Result<()> {
    for process in context.rig.processes("controller", "controller")? {
        ensure!(process.status("CapEff")? == "0000000000000000", "{}", process.status("CapEff")?);
        ensure!(process.status("CapBnd")? == "0000000000000000", "{}", process.status("CapBnd")?);
        ensure!(read_only_root(&process)?, "{} can write to its root", process.node);
        let api = Api::of(&process)?;
        for allowed in [
            "patch ingresses.networking.k8s.io --subresource=status",
            "patch services --subresource=status",
            "patch nodes --subresource=status",
            "patch addresspools.portcullis.dev --subresource=status",
            "create events.events.k8s.io",
        ] {
            ensure!(api.can(allowed)?, "may not {allowed}");
        }
        api.call(&["get", "lease", "portcullis-leader", "--namespace", "portcullis"])?;
        for forbidden in [
            &[
                "patch",
                "ingress",
                "shop",
                "--type=merge",
                "--patch={\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
            ][..],
            &["delete", "node", &process.node],
            &["label", "node", &process.node, "a=b"],
            &["delete", "service", "kubernetes"],
            &["get", "pods", "--namespace", "default"],
            &["delete", "secret", "shop-tls"],
            &["create", "secret", "generic", "other"],
            &["delete", "lease", "portcullis-leader", "--namespace", "portcullis"],
        ] {
            api.refuses(forbidden)?;
        }
    }
    Ok(())
}

pub(crate) fn webhook(context: &Context) -> anyhow::Result<()> {
    for process in context.rig.processes("webhook", "webhook")? {
        ensure!(process.status("CapBnd")? == "0000000000000000", "{}", process.status("CapBnd")?);
        ensure!(read_only_root(&process)?, "{} can write to its root", process.node);
        let api = Api::of(&process)?;
        api.call(&["get", "ingresses.networking.k8s.io", "--all-namespaces"])?;
        for forbidden in [
            &["get", "secrets", "--all-namespaces"][..],
            &["get", "secrets", "--namespace", "portcullis"],
            &["get", "secrets", "--namespace", "portcullis-synced"],
            &["create", "configmap", "other"],
        ] {
            api.refuses(forbidden)?;
        }
    }
    Ok(())
}

fn read_only_root(process: &Process) -> anyhow::Result<bool> {
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", process.pid))?;
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).context("no root")?;
    Ok(root.split(' ').nth(5).is_some_and(|options| options.split(',').any(|option| option == "ro")))
}

/// The API server, with the token that a container really has.
struct Api {
    token: String,
    authority: String,
}

impl Api {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let folder = format!("/proc/{}/root/{ACCOUNT}", process.pid);
        let token = std::fs::read_to_string(format!("{folder}/token")).context("the token")?;
        Ok(Self { token, authority: format!("{folder}/ca.crt") })
    }

    fn call(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut kubectl = Command::new("kubectl");
        kubectl.env("KUBECONFIG", "/dev/null").args(["--server", "https://198.18.0.1:6443"]);
        kubectl.args(["--certificate-authority", &self.authority, "--token", &self.token]);
        run(kubectl.args(arguments))
    }

    /// Asks about `verb resource` in the namespace `default`: kubectl itself would read an object before it patches it.
    fn can(&self, action: &str) -> anyhow::Result<bool> {
        // The last of two namespaces counts.
        let question = ["auth", "can-i", "--namespace", "default"].into_iter().chain(action.split(' '));
        match self.call(&question.collect::<Vec<_>>()) {
            Ok(answer) => Ok(answer.trim() == "yes"),
            // It exits with 1 to say no.
            Err(error) if error.to_string().contains("exit status: 1") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn refuses(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let error = match self.call(arguments) {
            Ok(output) => anyhow::bail!("kubectl {arguments:?} was allowed: {output}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains("Forbidden") || error.contains("forbidden"), "kubectl {arguments:?}: {error}");
        Ok(())
    }
}
