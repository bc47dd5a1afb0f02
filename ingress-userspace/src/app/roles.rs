//! What each role starts, and in which order it ends.
//!
//! At the end, whoever takes traffic goes first: a proxy drains while the agent still answers it, and an agent leaves
//! while its world is still there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::explain::Translated;
use crate::admin::{self, Endpoints, State};
use crate::admission::certificate::Files;
use crate::admission::server::Server;
use crate::app::agent;
use crate::app::agent::announcers::Agreement;
use crate::app::agent::drops;
use crate::app::agent::hits;
use crate::app::agent::last_model::LastModel;
use crate::app::agent::report::{self, ReportSettings};
use crate::app::agent::settings::AgentSettings;
use crate::app::agent::state::{AgentState, register_metrics};
use crate::app::controller::{self, ControllerSettings, webhook_settings};
use crate::app::world::{self, WorldReceiver};
use crate::app::{proxy, shutdown};
use crate::args::publish::PublishArgs;
use crate::args::webhook::WebhookArgs;
use crate::args::{
    AdminArgs, AgentArgs, ControllerArgs, DataplaneArgs, PortArgs, ProxyArgs, RunArgs, SourceArgs,
};
use crate::explain::question;
use crate::k8s::client::connect;
use crate::k8s::reflect::freshness::Freshness;
use crate::k8s::reflect::sources::Access;
use crate::k8s::reflect::{Pace, Reflectors, Wanted};
use crate::link::{AgentEnd, channel, socket};
use crate::telemetry::metrics::Registry;
use crate::translate::Settings;

/// `portcullis run`: agent, proxy and, in a cluster, controller, joined by channels.
pub async fn run(args: &RunArgs) -> anyhow::Result<()> {
    distinct(&args.ports, &args.admin)?;
    let end = shutdown::on_signal()?;
    let (rest, tasks) = (CancellationToken::new(), TaskTracker::new());
    let state = serve_admin(&args.admin, &args.dataplane.bind_address, &tasks, &rest)?;
    let publish = (args.source.manifests.is_none()).then_some(&args.publish);
    let world =
        follow_world(&args.source, (&args.ports, &args.admin), publish, Access::Originals, (&tasks, &rest))
            .await?;
    let settings = proxy::Settings::from_args(&args.workers);
    let (agent_end, proxy_end, carrier) = channel::pair(settings.hello());
    tasks.spawn(carrier.run());
    if args.source.manifests.is_none() {
        let settings = ControllerSettings::new(&args.publish, &node_name(&args.dataplane));
        start_controller(&args.source, settings, &world.newest, (&tasks, &rest)).await?;
    }
    let dataplane = AgentSettings {
        last_model: args.last_model.clone().and_then(|path| world.last_model(path)),
        freshness: world.freshness,
        node: node_name(&args.dataplane),
        agreement: agreement(&args.source, Some(&args.publish.election_namespace)).await?,
        ..AgentSettings::new(&args.dataplane, &args.ports)
    };
    let mut agent =
        tasks.spawn(run_agent(dataplane, world.newest, (agent_end, None), state.clone(), rest.clone()));
    let stop = end.clone();
    let proxy = proxy::run(settings, proxy_end, state, stop);
    tokio::pin!(proxy);
    let ended = tokio::select! {
        ended = &mut proxy => ended,
        // An agent that cannot go on ends the process: its traffic could not follow the world any more.
        failed = &mut agent => {
            end.cancel();
            let drained = proxy.await;
            failed.context("the agent panicked")?.and(drained)
        }
    };
    finish(tasks, &rest).await;
    ended
}

/// `portcullis agent`.
pub async fn agent(args: &AgentArgs) -> anyhow::Result<()> {
    distinct(&args.ports, &args.admin)?;
    let end = shutdown::on_signal()?;
    let (rest, tasks) = (CancellationToken::new(), TaskTracker::new());
    let state = serve_admin(&args.admin, &args.dataplane.bind_address, &tasks, &rest)?;
    let access = args.sync_namespace.clone().map_or(Access::Originals, Access::Copies);
    let world = follow_world(&args.source, (&args.ports, &args.admin), None, access, (&tasks, &rest)).await?;
    let (agent_end, server) = socket::bind(&args.link_socket)?;
    tasks.spawn(server.run(rest.clone()));
    let dataplane = AgentSettings {
        last_model: world.last_model(args.last_model.clone()),
        freshness: world.freshness,
        node: node_name(&args.dataplane),
        agreement: agreement(&args.source, args.sync_namespace.as_deref()).await?,
        ..AgentSettings::new(&args.dataplane, &args.ports)
    };
    let report = match &args.sync_namespace {
        Some(namespace) if args.source.manifests.is_none() => {
            let settings = ReportSettings {
                namespace: namespace.clone(),
                node: node_name(&args.dataplane),
                pod: std::env::var("POD_NAME").unwrap_or_default(),
            };
            Some((connect(args.source.kubeconfig.as_deref()).await?, settings))
        }
        _ => None,
    };
    let ended = run_agent(dataplane, world.newest, (agent_end, report), state, end).await;
    finish(tasks, &rest).await;
    ended
}

/// `portcullis proxy`.
pub async fn proxy(args: &ProxyArgs) -> anyhow::Result<()> {
    let end = shutdown::on_signal()?;
    let (rest, tasks) = (CancellationToken::new(), TaskTracker::new());
    let state = serve_admin(&args.admin, &[], &tasks, &rest)?;
    let settings = proxy::Settings::from_args(&args.workers);
    let (proxy_end, client) = socket::connect(&args.link_socket, settings.hello());
    tasks.spawn(client.run(rest.clone()));
    let ended = proxy::run(settings, proxy_end, state, end).await;
    finish(tasks, &rest).await;
    ended
}

/// `portcullis controller`.
pub async fn controller(args: &ControllerArgs) -> anyhow::Result<()> {
    let end = shutdown::on_signal()?;
    let (rest, tasks) = (CancellationToken::new(), TaskTracker::new());
    anyhow::ensure!(
        args.source.manifests.is_none(),
        "--manifests: a folder has no status and no Events to write"
    );
    let state = serve_admin(&args.admin, &[], &tasks, &rest)?;
    state.readiness.fails("world", "not every kind was listed yet");
    let access = args.sync_namespace.clone().map_or(Access::Originals, Access::Copying);
    let publish = Some(&args.publish);
    let mut world = follow_world(&args.source, (&args.ports, &args.admin), publish, access, (&tasks, &rest))
        .await?
        .newest;
    let settings = ControllerSettings {
        registry: Some(Arc::clone(&state.registry)),
        copies: args.sync_namespace.clone(),
        webhook: webhook_settings(&args.webhook, &args.publish),
        ..ControllerSettings::new(&args.publish, "")
    };
    start_controller(&args.source, settings, &world, (&tasks, &rest)).await?;
    tokio::select! {
        () = end.cancelled() => {}
        first = world.wait_for(Option::is_some) => {
            first.context("the watch has ended")?;
            state.readiness.holds("world");
            end.cancelled().await;
        }
    }
    finish(tasks, &rest).await;
    Ok(())
}

/// `portcullis webhook`.
pub async fn webhook(args: &WebhookArgs) -> anyhow::Result<()> {
    let end = shutdown::on_signal()?;
    let (rest, tasks) = (CancellationToken::new(), TaskTracker::new());
    anyhow::ensure!(args.source.manifests.is_none(), "--manifests: nobody asks before a file is written");
    let state = serve_admin(&args.admin, &[], &tasks, &rest)?;
    state.readiness.fails("world", "not every kind was listed yet");
    let ports = PortArgs { http_port: 80, https_port: 443 };
    let settings = Settings {
        access: Access::WithoutSecrets(args.sync_namespace.clone()),
        // The objects around an Ingress may well come after it.
        is_serving: false,
        ..world::settings(&args.source.rules, &ports)?
    };
    let client = connect(args.source.kubeconfig.as_deref()).await?;
    let pace = Pace { period: args.source.sync_period };
    let reflectors = Arc::new(Reflectors::start(&client, &Wanted { pace, ..world::wanted(&settings) }));
    let seen = Arc::clone(&reflectors);
    let view = Arc::new(move || seen.is_ready().then(|| seen.cluster()));
    let files = Files {
        certificate: args.validating_webhook_certificate.clone(),
        key: args.validating_webhook_key.clone(),
    };
    let server = Server::bind(args.validating_webhook, files, view, settings).await?;
    tasks.spawn(server.run(rest.clone()));
    let ready = async {
        while !reflectors.is_ready() {
            reflectors.changed().await;
        }
        state.readiness.holds("world");
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = ready => end.cancelled().await,
    }
    finish(tasks, &rest).await;
    Ok(())
}

/// Sockets share ports (SO_REUSEPORT), so the system would not notice two uses of one port in this process: half of the
/// connections would go to the wrong one.
fn distinct(ports: &PortArgs, admin: &AdminArgs) -> anyhow::Result<()> {
    let named = [
        ("--http-port", ports.http_port),
        ("--https-port", ports.https_port),
        ("--healthz-port", admin.healthz_port),
    ];
    for (at, (flag, port)) in named.iter().enumerate() {
        let twin = named.iter().take(at).find(|(_, other)| other == port && *port != 0);
        if let Some((other, _)) = twin {
            anyhow::bail!("{other} and {flag} are both {port}; give each a port of its own");
        }
    }
    Ok(())
}

/// Health and metrics, from the first moment.
fn serve_admin(
    args: &AdminArgs,
    addresses: &[IpAddr],
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<State> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (namespace, pod) = (variable("POD_NAMESPACE"), variable("POD_NAME"));
    let constant = [("controller_namespace", namespace.as_str()), ("controller_pod", pod.as_str())];
    let registry = Registry::new(&constant).into();
    let hides_metrics = !args.enable_metrics;
    let state = State { registry, hides_metrics, explain: Some(question::answer), ..State::default() };
    // Every process that is asked says at first that it is not ready.
    state.readiness.fails("start", "starting");
    let server = admin::bind(&Endpoints::from_args(args, addresses))?;
    tasks.spawn(server.run(state.clone(), shutdown.clone()));
    state.readiness.holds("start");
    Ok(state)
}

/// A followed source.
struct Followed {
    newest: WorldReceiver,
    freshness: Freshness,
    /// What tells its models from those of another cluster or of other flags; `None` for a folder, which is always there.
    origin: Option<String>,
}

impl Followed {
    /// Where its last model is kept.
    fn last_model(&self, path: PathBuf) -> Option<LastModel> {
        Some(LastModel::new(path, self.origin.as_ref()?))
    }
}

async fn follow_world(
    source: &SourceArgs,
    (ports, admin): (&PortArgs, &AdminArgs),
    publish: Option<&PublishArgs>,
    access: Access,
    (tasks, shutdown): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<Followed> {
    let published_service = publish.map(controller::published_service).transpose()?.flatten();
    let settings = Settings {
        secret_namespaces: source.secret_namespace.clone(),
        healthz_port: admin.healthz_port,
        published_service,
        access,
        ..world::settings(&source.rules, ports)?
    };
    let origin = source.manifests.is_none().then(|| {
        let variables = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"].map(std::env::var_os);
        format!("{settings:?} {:?} {variables:?}", source.kubeconfig)
    });
    let source = world::source(source, &settings).await?;
    let freshness = source.freshness();
    let (newest, task) = world::spawn(source, settings, shutdown.clone());
    tasks.spawn(task);
    Ok(Followed { newest, freshness, origin })
}

async fn start_controller(
    source: &SourceArgs,
    settings: ControllerSettings,
    world: &WorldReceiver,
    (tasks, shutdown): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<()> {
    let client = connect(source.kubeconfig.as_deref()).await?;
    tasks.spawn(controller::run(settings, client, world.clone(), shutdown.clone()));
    Ok(())
}

/// The agent, with its state shown by readiness and metrics, and told to the cluster.
async fn run_agent(
    settings: AgentSettings,
    world: WorldReceiver,
    (link, report): (AgentEnd, Option<(Client, ReportSettings)>),
    shown: State,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (sender, mut state) = watch::channel(AgentState::default());
    let translated = show_translated(world.clone(), &shown);
    register_metrics(&shown.registry, &settings.bpffs, state.clone());
    let bpffs = settings.bpffs.clone();
    let (asked, at) = (state.clone(), bpffs.clone());
    shown.lists.told_by(move || hits::told(&at, &asked.borrow().owners.clone()));
    let told = state.clone();
    let tell = async {
        if let Some((client, settings)) = report {
            report::run(client, settings, told).await;
        }
        std::future::pending::<()>().await;
    };
    let show = async {
        loop {
            let now = state.borrow_and_update().clone();
            shown.freshness.send_replace(now.stale);
            shown.degraded.send_replace(now.degraded.clone());
            shown.pools.send_replace(now.pools.clone());
            if now.is_ready() {
                shown.readiness.holds("agent");
            } else if now.failing.is_empty() {
                shown.readiness.fails("agent", "no configuration yet");
            } else {
                shown.readiness.fails("agent", now.failing.join("; "));
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        ended = agent::run(settings, world, link, sender, shutdown) => ended,
        () = show => Ok(()),
        () = tell => Ok(()),
        () = drops::run(&bpffs, &shown.drops) => Ok(()),
        () = translated => Ok(()),
    }
}

/// Shows each build of the world to who asks for explanations.
async fn show_translated(mut world: WorldReceiver, shown: &State) {
    loop {
        let newest = world.borrow_and_update().clone();
        if let Some(newest) = newest {
            let problems = newest.problems.as_slice().into();
            let translated = Translated { model: Arc::clone(&newest.model), problems };
            shown.translated.send_replace(Some(translated));
        }
        if world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Ends what is left, and waits for it.
async fn finish(tasks: TaskTracker, rest: &CancellationToken) {
    rest.cancel();
    tasks.close();
    tasks.wait().await;
    info!("ended");
}

/// How the nodes agree on who announces a pool: by Leases in this namespace, in a folder by their order.
async fn agreement(source: &SourceArgs, namespace: Option<&str>) -> anyhow::Result<Agreement> {
    match namespace {
        _ if source.manifests.is_some() => Ok(Agreement::Order),
        Some(namespace) => {
            Ok(Agreement::Leases(connect(source.kubeconfig.as_deref()).await?, namespace.to_owned()))
        }
        None => {
            warn!(
                "pools with announce: L2 are not announced: without --sync-namespace the agents cannot agree on a node"
            );
            Ok(Agreement::None)
        }
    }
}

fn node_name(args: &DataplaneArgs) -> String {
    let of_host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    args.node_name.clone().unwrap_or_else(of_host)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn checked(flags: &[&str]) -> Result<(), String> {
        let line = ["portcullis", "run"].iter().chain(flags);
        let Command::Run(args) = Cli::try_parse_from(line).unwrap().command else { panic!("not run") };
        distinct(&args.ports, &args.admin).map_err(|error| error.to_string())
    }

    #[test]
    fn a_port_serves_one_purpose() {
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&["--http-port", "0", "--https-port", "0", "--healthz-port", "0"]), Ok(()));
        let error = checked(&["--http-port", "8080", "--https-port", "8080"]).unwrap_err();
        assert_eq!(error, "--http-port and --https-port are both 8080; give each a port of its own");
        assert!(checked(&["--https-port", "10254"]).is_err());
    }
}
