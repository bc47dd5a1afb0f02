//! The claims of the demo, in order. Each is tried from outside, as a user would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;

use crate::manifests;
use crate::rig::{CLIENT, DENIED, GREEDY, Rig, VIP, VIP6, portcullis};

/// What curl saw.
struct Answer {
    /// curl's own exit code: 0, or 28 for a timeout.
    exit: i32,
    status: String,
    http_version: String,
    redirect: String,
    body: String,
}

struct Demo {
    rig: Rig,
    binary: PathBuf,
    held: u32,
    failed: u32,
}

/// Runs the demo; whether every claim held.
pub(crate) async fn run(keep: bool) -> anyhow::Result<bool> {
    let kernel = rustix::process::geteuid().is_root();
    if !kernel {
        println!(
            "Not root: no network namespaces and no kernel programs (they need CAP_SYS_ADMIN, CAP_BPF, CAP_NET_ADMIN)."
        );
        println!("The userspace half follows, on loopback; run as root to see the kernel half too.\n");
    }
    let mut demo = Demo::start(kernel).await?;
    demo.routing().await?;
    demo.tls().await?;
    demo.websocket().await?;
    demo.allow_list().await?;
    demo.edit().await?;
    if kernel {
        demo.kernel_lists_and_limits().await?;
        demo.proxy_restart().await?;
        demo.maps().await?;
    }
    if keep {
        println!("\n{} held, {} did not", demo.held, demo.failed);
        demo.hints();
        std::future::pending::<()>().await;
    }
    if kernel {
        demo.cleanup().await?;
    }
    println!("\n{} passed, {} failed", demo.held, demo.failed);
    Ok(demo.failed == 0)
}

impl Demo {
    async fn start(kernel: bool) -> anyhow::Result<Self> {
        let mut rig = Rig::new(kernel)?;
        let binary = rig.folder.join("portcullis");
        std::fs::copy(portcullis()?, &binary)?;
        let web = rig.start_backend("web", 0).await?;
        let api = rig.start_backend("api", 1).await?;
        let echo = rig.start_backend("echo", 1).await?;
        let endpoints = [("web", "http", web), ("api", "http", api), ("echo", "ws", echo)];
        let folder = rig.folder.join("manifests");
        manifests::write(&folder, &endpoints, kernel)?;
        println!("serving {} (a folder of manifests)", folder.display());
        let mut demo = Self { rig, binary, held: 0, failed: 0 };
        if kernel {
            demo.start_roles().await?
        } else {
            demo.start_alone().await?
        }
        Ok(demo)
    }

    /// One process, no kernel half.
    async fn start_alone(&mut self) -> anyhow::Result<()> {
        let socket = self.rig.folder.join("admin.sock");
        let mut command = self.rig.node(&self.binary);
        command.arg("run").arg("--manifests").arg(self.rig.folder.join("manifests"));
        command.args(["--mode", "userspace", "--bind-address", "127.0.0.1", "--healthz-port", "0"]);
        command.arg(format!("--http-port={}", self.rig.http.port()));
        command.arg(format!("--https-port={}", self.rig.https.port()));
        command.arg("--admin-socket").arg(&socket);
        self.rig.start("portcullis", command)?;
        self.rig.ready("portcullis", &socket).await
    }

    /// Agent with the kernel half, proxy without any right.
    async fn start_roles(&mut self) -> anyhow::Result<()> {
        // Sockets made in here belong to the proxy's group, as with the fsGroup of a pod.
        let run = self.rig.folder.join("run");
        std::fs::create_dir_all(&run)?;
        std::os::unix::fs::chown(&run, None, Some(65534))?;
        std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o2770))?;
        let mut agent = self.rig.node(&self.binary);
        agent.arg("agent").arg("--manifests").arg(self.rig.folder.join("manifests"));
        agent.args(["--mode", "xdp-native", "--interface", "eth0", "--healthz-port", "10255"]);
        agent.arg("--bpffs").arg(self.rig.folder.join("bpf"));
        agent.arg("--link-socket").arg(run.join("agent.sock"));
        agent.arg("--admin-socket").arg(run.join("agent-admin.sock"));
        self.rig.start("agent", agent)?;
        self.start_proxy("proxy").await?;
        self.rig.ready("agent", &run.join("agent-admin.sock")).await
    }

    async fn start_proxy(&mut self, name: &str) -> anyhow::Result<()> {
        let run = self.rig.folder.join("run");
        let socket = run.join(format!("{name}.sock"));
        let mut proxy = self.rig.node("setpriv");
        proxy.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"]);
        proxy.args(["--inh-caps", "-all", "--no-new-privs", "--pdeathsig", "KILL"]).arg(&self.binary);
        proxy.args(["proxy", "--link-socket"]).arg(run.join("agent.sock"));
        proxy.arg("--admin-socket").arg(&socket);
        self.rig.start(name, proxy)?;
        self.rig.ready(name, &socket).await
    }

    async fn routing(&mut self) -> anyhow::Result<()> {
        println!("\n# Host and path routing over two Services");
        let answer = self.get("http://shop.example.test/cart?id=7", &[]).await?;
        self.saw("shop.example.test/cart goes to web", "200 web saw GET /cart?id=7", &answer);
        let answer = self.get("http://shop.example.test/api/items", &[]).await?;
        self.saw("shop.example.test/api/items goes to api", "200 api saw GET /api/items", &answer);
        let answer = self.get("http://unknown.example.test/", &[]).await?;
        self.saw("a host that nobody declared", "404", &answer);
        if self.rig.node_name().is_some() {
            let to = format!("::[{VIP6}]:80");
            let answer = self.curl("http://shop.example.test/", &["--connect-to", &to]).await?;
            self.saw("the same over IPv6", "200 web saw GET / ", &answer);
        }
        Ok(())
    }

    async fn tls(&mut self) -> anyhow::Result<()> {
        println!("\n# TLS by SNI, HTTP/2, redirect and rewrite");
        let (shop, docs) = (self.rig.folder.join("shop.pem"), self.rig.folder.join("docs.pem"));
        let (shop, docs) = (shop.display().to_string(), docs.display().to_string());
        let answer = self.get("https://shop.example.test/", &["--cacert", &shop]).await?;
        self.saw("shop.example.test shows its own certificate", "200 web saw GET /", &answer);
        let answer = self.get("https://docs.example.test/manual/intro", &["--cacert", &docs]).await?;
        self.saw("docs.example.test another; /manual/intro is rewritten", "200 api saw GET /intro", &answer);
        let answer = self.get("https://docs.example.test/manual/", &["--cacert", &shop]).await?;
        self.check(
            "a wrong certificate would be noticed",
            "curl exit 60",
            &format!("curl exit {}", answer.exit),
        );
        let answer = self.get("https://shop.example.test/", &["--cacert", &shop, "--http2"]).await?;
        self.check("HTTP/2 by ALPN", "HTTP/2", &format!("HTTP/{}", answer.http_version));
        let answer = self.get("http://docs.example.test/manual/intro", &[]).await?;
        let seen = format!("{} {}", answer.status, answer.redirect);
        self.check("cleartext is redirected", "308 https://docs.example.test/manual/intro", &seen);
        Ok(())
    }

    async fn websocket(&mut self) -> anyhow::Result<()> {
        println!("\n# WebSocket");
        let mut command = self.rig.client(std::env::current_exe()?);
        command.args(["websocket", &self.rig.http.to_string(), "shop.example.test", "round trip"]);
        let output = command.output().await?;
        let seen = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        self.check("a message through /ws comes back", "round trip", &seen);
        Ok(())
    }

    async fn allow_list(&mut self) -> anyhow::Result<()> {
        println!("\n# whitelist-source-range: decided by the proxy, per host and path");
        let answer = self.get("http://office.example.test/", &[]).await?;
        self.saw("a source outside of the list", "403", &answer);
        Ok(())
    }

    async fn edit(&mut self) -> anyhow::Result<()> {
        println!("\n# An edit in the folder");
        let answer = self.get("http://moving.example.test/", &[]).await?;
        self.saw("before the edit", "200 web saw", &answer);
        manifests::move_host(&self.rig.folder.join("manifests"))?;
        let edited = Instant::now();
        let mut answer = answer;
        while !answer.body.starts_with("api") && edited.elapsed() < Duration::from_secs(5) {
            answer = self.get("http://moving.example.test/", &[]).await?;
        }
        let took = edited.elapsed();
        self.saw(&format!("after the edit ({} ms)", took.as_millis()), "200 api saw", &answer);
        Ok(())
    }

    async fn kernel_lists_and_limits(&mut self) -> anyhow::Result<()> {
        println!("\n# The kernel half: a denied source, and new connections per source");
        let before = self.drops("denied").await?;
        let source = ["--interface", DENIED, "--max-time", "1"];
        let answer = self.get("http://shop.example.test/", &source).await?;
        self.check("a denied source gets no answer", "curl exit 28 (timeout)", &timeout_text(answer.exit));
        let dropped = self.drops("denied").await?.saturating_sub(before);
        self.check_that("its packets are counted", "denied > 0", &format!("denied +{dropped}"), dropped > 0);
        let before = self.drops("over-limit").await?;
        let mut command = self.rig.client(std::env::current_exe()?);
        command.args(["burst", GREEDY, &self.rig.http.to_string(), "100"]);
        let output = command.output().await?;
        let established: u32 =
            String::from_utf8_lossy(&output.stdout).trim().parse().context("burst printed no number")?;
        let dropped = self.drops("over-limit").await?.saturating_sub(before);
        self.check_that(
            "100 connections at once, limit 5/s with burst 20",
            "20 to 40 established, the rest dropped",
            &format!("{established} established, over-limit +{dropped}"),
            (20..=40).contains(&established) && dropped >= 60,
        );
        let answer = self.get("http://shop.example.test/", &[]).await?;
        self.saw(&format!("{CLIENT} is exempt and served"), "200 web saw", &answer);
        Ok(())
    }

    async fn proxy_restart(&mut self) -> anyhow::Result<()> {
        println!("\n# A proxy restart under load");
        let mut command = self.rig.client(std::env::current_exe()?);
        command.args(["load", &self.rig.http.to_string(), "shop.example.test"]);
        let mut load = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        self.start_proxy("proxy-next").await?;
        self.rig.stop("proxy").await?;
        for _ in 0..50 {
            self.get("http://shop.example.test/", &[]).await?;
        }
        let mut input = load.stdin.take().context("the load generator has standard input")?;
        input.shutdown().await?;
        drop(input);
        let output = load.wait_with_output().await?;
        let seen = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let held = seen.split(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        let none_failed = seen.ends_with(" none") && held > 50;
        self.check_that(
            "new process in, old one out",
            "no failed request",
            &format!("{seen} failed"),
            none_failed,
        );
        Ok(())
    }

    async fn maps(&mut self) -> anyhow::Result<()> {
        println!("\n# bpftool map dump name vips");
        let mut command = self.rig.node("bpftool");
        let output = command
            .args(["--json", "--pretty", "map", "dump", "pinned"])
            .arg(self.map("vips")?)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines().filter(|line| line.contains('"') && !line.contains("0x")).take(14) {
            println!("    {line}");
        }
        let named = ["\"addr\"", "\"port\"", "\"vip_id\""].iter().all(|field| text.contains(field));
        self.check_that("fields have names", "addr, port, vip_id", &format!("{} bytes", text.len()), named);
        Ok(())
    }

    async fn cleanup(&mut self) -> anyhow::Result<()> {
        self.rig.stop("agent").await?;
        let mut command = self.rig.node(&self.binary);
        command.args(["cleanup", "--bpffs"]).arg(self.rig.folder.join("bpf"));
        let output = command.output().await?;
        println!("\n# portcullis cleanup");
        let pins = self.rig.folder.join("bpf/portcullis");
        let link = self.rig.node("ip").args(["link", "show", "eth0"]).output().await?;
        let seen = format!("{}, {}", output.status, if pins.exists() { "pins left" } else { "no pins" });
        self.check("every trace is removed", "exit status: 0, no pins", &seen);
        let text = String::from_utf8_lossy(&link.stdout);
        let carries = if text.contains("xdp") { "a program" } else { "no program" };
        self.check("the node's interface is as before", "no program", carries);
        Ok(())
    }

    /// Path of a pinned map: the versioned directory is the agent's business, so it is looked up.
    fn map(&self, name: &str) -> anyhow::Result<PathBuf> {
        let pins = self.rig.folder.join("bpf/portcullis");
        let versions = std::fs::read_dir(&pins)?.flatten().map(|entry| entry.path().join(name));
        versions
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| format!("no map {name} below {}", pins.display()))
    }

    /// Packets dropped for a reason so far, as `portcullis status` reports them.
    async fn drops(&self, reason: &str) -> anyhow::Result<u64> {
        let mut command = self.rig.node(&self.binary);
        command.args(["status", "--output", "json", "--bpffs"]).arg(self.rig.folder.join("bpf"));
        let output = command.output().await?;
        let status: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("status printed no JSON")?;
        let rows =
            status.get("counters").and_then(serde_json::Value::as_array).context("status has no counters")?;
        let of_reason =
            rows.iter().filter(|row| row.get("reason").and_then(|value| value.as_str()) == Some(reason));
        Ok(of_reason.filter_map(|row| row.get("packets").and_then(serde_json::Value::as_u64)).sum())
    }

    /// A request to the served address for the scheme of the URL.
    async fn get(&self, url: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let address: SocketAddr = if url.starts_with("https") { self.rig.https } else { self.rig.http };
        let to = format!("::{address}");
        let mut arguments = vec!["--connect-to", &to];
        if self.rig.node_name().is_some() && !more.contains(&"--interface") {
            arguments.extend(["--interface", CLIENT]);
        }
        arguments.extend(more);
        self.curl(url, &arguments).await
    }

    async fn curl(&self, url: &str, more: &[&str]) -> anyhow::Result<Answer> {
        let mut command = self.rig.client("curl");
        command.args(["--silent", "--max-time", "5", "--noproxy", "*"]);
        command.args(["--write-out", "\n%{http_code} %{http_version} %{redirect_url}"]).args(more).arg(url);
        let output = command.output().await.context("cannot start curl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, facts) = text.rsplit_once('\n').unwrap_or_default();
        let mut facts = facts.split(' ').map(str::to_owned);
        Ok(Answer {
            exit: output.status.code().unwrap_or(-1),
            status: facts.next().unwrap_or_default(),
            http_version: facts.next().unwrap_or_default(),
            redirect: facts.next().unwrap_or_default(),
            body: body.trim().to_owned(),
        })
    }

    fn saw(&mut self, claim: &str, expected: &str, answer: &Answer) {
        let seen = match answer.exit {
            0 => format!("{} {}", answer.status, answer.body),
            exit => format!("curl exit {exit}"),
        };
        let held = seen.starts_with(expected);
        self.check_that(claim, expected, &seen, held);
    }

    fn check(&mut self, claim: &str, expected: &str, seen: &str) {
        let held = seen == expected;
        self.check_that(claim, expected, seen, held);
    }

    fn check_that(&mut self, claim: &str, expected: &str, seen: &str, held: bool) {
        let word = if held { "ok  " } else { "FAIL" };
        println!("{word} {claim}: expected {expected}; seen {}", seen.lines().next().unwrap_or_default());
        if held { self.held += 1 } else { self.failed += 1 }
    }

    fn hints(&self) {
        println!(
            "\nEverything keeps running; Ctrl-C ends and removes it. Logs: {}/*.log. To try:",
            self.rig.folder.display()
        );
        let (http, folder) = (self.rig.http, self.rig.folder.display());
        match (self.rig.client_name(), self.rig.node_name()) {
            (Some(client), Some(node)) => {
                let node = format!("ip netns exec {node}");
                println!(
                    "  ip netns exec {client} curl -sv --connect-to ::{VIP}:80 http://shop.example.test/"
                );
                println!("  {node} {folder}/portcullis status --bpffs {folder}/bpf");
                println!("  {node} {folder}/portcullis maps vips --bpffs {folder}/bpf");
                println!("  {node} bpftool map dump name vips");
                println!("  {node} bpftool link");
            }
            _ => println!("  curl -sv --connect-to ::{http} http://shop.example.test/"),
        }
        println!("  $EDITOR {folder}/manifests/ingress.yaml");
        println!("  {folder}/portcullis lint -f {folder}/manifests");
    }
}

fn timeout_text(exit: i32) -> String {
    if exit == 28 { "curl exit 28 (timeout)".to_owned() } else { format!("curl exit {exit}") }
}
