use http::{Method, StatusCode};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::super::testing::{self, Log};
use super::*;
use crate::k8s::node_lease::Figures;

fn pod(agent_is_ready: bool) -> Pod {
    let pod = json!({
        "metadata": { "name": "edge-1", "namespace": "edge", "uid": "1" },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "agent" }, { "name": "proxy" }] },
        "status": { "containerStatuses": [
            { "name": "agent", "ready": agent_is_ready, "image": "", "imageID": "", "restartCount": 0 },
            { "name": "proxy", "ready": true, "image": "", "imageID": "", "restartCount": 0 },
        ] },
    });
    serde_json::from_value(pod).unwrap()
}

fn lease(problems: &str, renewed: i64) -> Lease {
    let report = NodeReport {
        node: "node-1".to_owned(),
        pod: "edge-1".to_owned(),
        mode: if problems.is_empty() { "xdp-native" } else { "userspace" }.to_owned(),
        problems: problems.to_owned(),
        is_beside: false,
        is_failing: false,
        unenforced: if problems.is_empty() { Vec::new() } else { vec!["floods".to_owned()] },
        since: format!("since {renewed}"),
        bans: Default::default(),
    };
    let mut lease = report.lease("synced", &Figures::default(), Timestamp::from_second(renewed).unwrap());
    (lease.metadata.uid, lease.metadata.resource_version) = (Some("u".into()), Some("7".into()));
    lease
}

fn plane() -> (DataPlane, Log) {
    let (client, log) = testing::client(|_| testing::refuse(StatusCode::NOT_FOUND, "NotFound"));
    (DataPlane::new(client, "edge", "component=data-plane", Some("synced".to_owned())), log)
}

/// What would be told after this look.
fn told(plane: &mut DataPlane, pod: &Pod, lease: &Lease, now: Instant) -> Vec<String> {
    plane.judge(std::slice::from_ref(pod), std::slice::from_ref(lease), now);
    plane.notices().iter().map(|notice| format!("{notice:?}")).collect()
}

#[tokio::test(start_paused = true)]
async fn only_a_pod_that_stays_unready_is_told() {
    let (mut plane, _) = plane();
    let start = Instant::now();
    for (second, is_ready, expected) in
        [(0, false, 0), (20, true, 0), (31, false, 0), (51, false, 0), (61, false, 1), (71, false, 1)]
    {
        plane.judge(&[pod(is_ready)], &[], start + Duration::from_secs(second));
        assert_eq!(plane.notices().len(), expected, "second {second}");
    }
    let told = format!("{:?}", plane.notices());
    assert!(told.contains("not ready: agent; new connections to node-1"), "{told}");
    assert_eq!(plane.count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_down_is_told_at_once_and_its_end_too() {
    let (mut plane, _) = plane();
    let start = Instant::now();
    assert!(told(&mut plane, &pod(true), &lease("", 1), start).is_empty());
    let down = told(&mut plane, &pod(true), &lease("no rights for eBPF", 2), start + Duration::from_secs(10));
    assert_eq!(down.len(), 1);
    assert!(down[0].contains("mode userspace on node-1: no rights for eBPF"), "{down:?}");
    let up = told(&mut plane, &pod(true), &lease("", 3), start + Duration::from_secs(20));
    assert_eq!(up.len(), 1);
    assert!(up[0].contains("DataplaneRecovered") && up[0].contains("mode xdp-native"), "{up:?}");
    assert_eq!(plane.count.load(Ordering::Relaxed), 0);
    // A second time is another Event, although it says the same.
    let again =
        told(&mut plane, &pod(true), &lease("no rights for eBPF", 4), start + Duration::from_secs(30));
    assert!(!again.contains(&down[0]), "{again:?}");
    let over = told(&mut plane, &pod(true), &lease("", 5), start + Duration::from_secs(40));
    assert_eq!(over.len(), 2, "each recovery is told: {over:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_a_sign_of_life_is_told_if_somebody_could_look() {
    let (mut plane, _) = plane();
    let start = Instant::now();
    for second in (0..90).step_by(10) {
        let now = start + Duration::from_secs(second);
        assert!(told(&mut plane, &pod(true), &lease("", 1), now).is_empty(), "second {second}");
    }
    let silent = told(&mut plane, &pod(true), &lease("", 1), start + Duration::from_secs(90));
    assert!(silent[0].contains("no sign of life from the agent on node-1 for 90 s"), "{silent:?}");
    // Ten minutes without the API server: agents could not write either.
    let back = start + Duration::from_secs(690);
    assert!(told(&mut plane, &pod(true), &lease("", 1), back).iter().all(|text| !text.contains("no sign")));
    for second in (10..90).step_by(10) {
        let now = back + Duration::from_secs(second);
        let told = told(&mut plane, &pod(true), &lease("", 1), now);
        assert!(told.iter().all(|text| !text.contains("no sign")), "second {second}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_agents_of_a_rolling_update_do_not_speak_for_each_other() {
    let (mut plane, _) = plane();
    let mut new = pod(true);
    (new.metadata.name, new.metadata.uid) = (Some("edge-2".into()), Some("2".into()));
    let mut of_new = lease("no rights", 2);
    of_new.spec.as_mut().unwrap().holder_identity = Some("edge-2".to_owned());
    let start = Instant::now();
    for (at, lease) in [of_new.clone(), lease("", 3), of_new, lease("", 4)].iter().enumerate() {
        let now = start + Duration::from_secs(10 * at as u64);
        plane.judge(&[pod(true), new.clone()], std::slice::from_ref(lease), now);
        let told = format!("{:?}", plane.notices());
        assert!(told.contains("edge-2") && !told.contains("edge-1") && !told.contains("Recovered"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_serves_pools_while_a_new_agent_without_rights_runs_beside_the_old_one() {
    let (mut plane, _) = plane();
    let serves = |plane: &DataPlane| plane.serving().is_some_and(|nodes| nodes.contains("node-1"));
    let without = lease("no rights", 2);
    let mut beside = without.clone();
    let annotations = beside.metadata.annotations.as_mut().unwrap();
    annotations.insert("portcullis.dev/kernel-half".to_owned(), "of another agent".to_owned());
    let start = Instant::now();
    for (at, (lease, expected)) in
        [(lease("", 1), true), (beside, true), (lease("", 3), true), (without, false)].iter().enumerate()
    {
        plane.judge(&[pod(true)], std::slice::from_ref(lease), start + Duration::from_secs(10 * at as u64));
        assert_eq!(serves(&plane), *expected, "look {at}");
        let mode = if *expected { "xdp-native" } else { "userspace" };
        assert_eq!(plane.modes().and_then(|modes| modes["node-1"].as_deref()), Some(mode), "look {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_a_node_is_removed_in_the_end() {
    let (mut plane, log) = plane();
    let start = Instant::now();
    let mut orphans = Vec::new();
    for second in (0..=600).step_by(10) {
        assert!(orphans.is_empty(), "second {second}");
        orphans = plane.judge(&[], &[lease("", 1)], start + Duration::from_secs(second));
    }
    plane.remove(&orphans[0]).await;
    let log = log.lock().expect("lock");
    assert_eq!(log[0].method, Method::DELETE);
    assert_eq!(
        log[0].path.split('?').next(),
        Some("/apis/coordination.k8s.io/v1/namespaces/synced/leases/node-1")
    );
    assert_eq!(log[0].body["preconditions"], json!({ "uid": "u", "resourceVersion": "7" }));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_stands_while_nobody_can_look() {
    let (mut plane, _) = plane();
    plane.judge(&[pod(true)], &[lease("no rights", 1)], Instant::now());
    assert_eq!(plane.look().await.len(), 1, "the API server refuses");
    let mut none = DataPlane::new(plane.client.clone(), "edge", "", None);
    assert!(none.look().await.is_empty());
}
