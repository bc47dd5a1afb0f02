//! In `userspace` mode, which needs no rights; the datapath tier runs the kernel modes.

use super::*;
use crate::app::world::World;
use crate::args::ModeArg;
use crate::controller::sync::Work;
use crate::k8s::reflect::freshness::Freshness;
use crate::link::messages::{Hello, ProxyReport, ToAgent};
use crate::link::{ProxyEnd, channel};
use crate::model::listener::{Listener, ListenerName, ListenerProtocol};

fn settings(bind: &[&str]) -> AgentSettings {
    AgentSettings {
        mode: ModeArg::Userspace,
        without_tcx: false,
        interfaces: vec![],
        bind_addresses: bind.iter().map(|address| address.parse().unwrap()).collect(),
        bind_flag: bind.iter().map(|address| address.parse().unwrap()).collect(),
        is_ipv4_only: false,
        bpffs: "/does/not/exist".into(),
        has_any_port: true,
        last_model: None,
        freshness: Freshness::default(),
        node: "node-1".into(),
        agreement: announcers::Agreement::Order,
    }
}

fn world(version: ModelVersion, port: u16) -> Option<Arc<World>> {
    let listener = Listener { name: ListenerName("http".into()), port, protocol: ListenerProtocol::Http };
    let model = Arc::new(Model { listeners: vec![listener], ..Model::default() });
    Some(Arc::new(World {
        version,
        model,
        problems: vec![],
        ingresses: Arc::default(),
        published_service: None,
        assignments: Arc::default(),
        copies: Work::default(),
        members: Default::default(),
    }))
}

async fn next(proxy: &mut ProxyEnd) -> ToProxy {
    tokio::time::timeout(Duration::from_secs(10), proxy.recv())
        .await
        .expect("a message in time")
        .expect("open")
}

#[tokio::test]
async fn a_proxy_is_told_where_to_listen_and_gets_every_model() {
    let (publish, worlds) = watch::channel(None);
    let (state_sender, mut state) = watch::channel(AgentState::default());
    let (agent, mut proxy, carrier) = channel::pair(Hello { pid: 1, workers: 1, build: "test".into() });
    let carrier = tokio::spawn(carrier.run());
    let stop = CancellationToken::new();
    let role = tokio::spawn(run(settings(&["127.0.0.1"]), worlds, agent, state_sender, stop.clone()));

    assert!(!state.borrow().is_ready(), "nothing is served before the first world");
    publish.send_replace(world(1, 80));
    let ToProxy::Listen(plan) = next(&mut proxy).await else { panic!("expected the listen plan first") };
    assert_eq!(plan, ListenPlan::Ports { addresses: vec!["127.0.0.1".parse().unwrap()] });
    assert!(matches!(next(&mut proxy).await, ToProxy::Model { version: 1, .. }));
    publish.send_replace(world(2, 8080));
    let ToProxy::Model { version: 2, model } = next(&mut proxy).await else {
        panic!("expected the second model")
    };
    assert_eq!(model.listeners[0].port, 8080);
    proxy.send(ToAgent::Report(ProxyReport { version: 2, refused: vec![] })).await;

    let ready = state.wait_for(|state| state.version == 2 && state.has_proxy).await.unwrap().clone();
    assert!(ready.is_ready());
    assert_eq!(ready.mode, "userspace");
    drop(proxy);
    state.wait_for(|state| !state.has_proxy).await.unwrap();
    stop.cancel();
    role.await.unwrap().unwrap();
    carrier.await.unwrap();
}

#[tokio::test]
async fn limits_that_need_the_programs_are_told_in_userspace_mode() {
    use crate::model::edge::{Counted, EdgeLimit, EdgePolicy, EdgeScope, Per};
    let policy = |name: &str, of| EdgePolicy {
        name: name.into(),
        scope: EdgeScope::Cluster,
        allow: vec![],
        deny: vec![],
        exempt: vec![],
        limits: vec![EdgeLimit { of, per: Per::Source, per_second: 1, burst: 1 }],
        syn_protection: None,
        ban: None,
    };
    let mut first = Arc::into_inner(world(1, 80).unwrap()).unwrap();
    let mut model = (*first.model).clone();
    model.edge.policies = vec![policy("floods", Counted::Packets), policy("logins", Counted::Connections)];
    first.model = Arc::new(model);
    let (publish, worlds) = watch::channel(Some(Arc::new(first)));
    let (state_sender, mut state) = watch::channel(AgentState::default());
    let (agent, proxy, carrier) = channel::pair(Hello { pid: 1, workers: 1, build: "test".into() });
    let carrier = tokio::spawn(carrier.run());
    let stop = CancellationToken::new();
    let role = tokio::spawn(run(settings(&["198.18.0.1"]), worlds, agent, state_sender, stop.clone()));

    let now = state.wait_for(|state| state.version == 1).await.unwrap().clone();
    assert_eq!(now.unenforced, ["floods"]);
    assert_eq!(now.degraded.len(), 1, "{now:?}");
    assert!(now.degraded[0].contains("EdgePolicy floods: its limits of packets/s"), "{now:?}");
    assert!(now.is_ready(), "it serves all the same");
    publish.send_replace(world(2, 80));
    state.wait_for(|state| state.version == 2 && state.degraded.is_empty()).await.unwrap();
    stop.cancel();
    role.await.unwrap().unwrap();
    drop(proxy);
    carrier.await.unwrap();
}

#[test]
fn bind_address_narrows_what_is_served_of_the_node() {
    let node: BTreeSet<IpAddr> =
        ["127.0.0.1", "198.18.0.1", "::1", "2001:db8::1"].map(|address| address.parse().unwrap()).into();
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &["127.0.0.1", "198.18.0.1", "::1", "2001:db8::1"]),
        (&["0.0.0.0"], &["127.0.0.1", "198.18.0.1"]),
        (&["198.18.0.1"], &["198.18.0.1"]),
        (&["198.18.0.1", "::"], &["198.18.0.1", "::1", "2001:db8::1"]),
    ];
    for (bind, expected) in cases {
        let served: Vec<_> = settings(bind).served(&node).iter().map(ToString::to_string).collect();
        assert_eq!(served, expected, "{bind:?}");
    }
}

#[tokio::test]
async fn without_the_api_server_the_last_model_is_served_until_the_world_is_there() {
    let folder = std::path::Path::new("/dev/shm").join(format!("portcullis-agent-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let last = LastModel::new(folder.join("last-model"), &"cluster");
    let of_before = Arc::clone(&world(9, 8080).unwrap().model);
    let keeper = last.clone().start();
    keeper.keep(9, &of_before);
    keeper.end().await;

    let (publish, worlds) = watch::channel(None);
    let (state_sender, mut state) = watch::channel(AgentState::default());
    let (agent, mut proxy, carrier) = channel::pair(Hello { pid: 1, workers: 1, build: "test".into() });
    let carrier = tokio::spawn(carrier.run());
    let stop = CancellationToken::new();
    let settings = AgentSettings { last_model: Some(last.clone()), ..settings(&["127.0.0.1"]) };
    let role = tokio::spawn(run(settings, worlds, agent, state_sender, stop.clone()));

    assert!(matches!(next(&mut proxy).await, ToProxy::Listen(_)));
    let ToProxy::Model { version: 9, model } = next(&mut proxy).await else {
        panic!("expected the last model")
    };
    assert_eq!(model, of_before);
    let now = state.wait_for(|state| state.version == 9).await.unwrap().clone();
    assert!(now.is_ready() && now.stale.is_some_and(|stale| stale.is_kept), "{now:?}");

    publish.send_replace(world(1, 80));
    assert!(matches!(next(&mut proxy).await, ToProxy::Model { version: 1, .. }));
    state.wait_for(|state| state.version == 1 && state.stale.is_none()).await.unwrap();
    drop(proxy);
    stop.cancel();
    role.await.unwrap().unwrap();
    carrier.await.unwrap();
    assert_eq!(last.read().await.expect("kept").version, 1, "what the API server said is kept from now on");
    std::fs::remove_dir_all(folder).unwrap();
}
