//! Rounds of rollouts, with the database and without devices.

use std::sync::atomic::{AtomicBool, Ordering};

use acuvim_control::{Control, FirmwareMade, NewRollout, RolloutStarted, Target};
use acuvim_model::{RolloutPlan, RolloutState, UpdateState};
use acuvim_rollout::GateAnswer;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::testing::{Server, by, stored_release};

/// A gate that is never asked.
struct NoGate {
    is_up_to_date: AtomicBool,
}

impl HealthGate for NoGate {
    async fn ask(&self, _: Uuid, _: &str) -> GateAnswer {
        GateAnswer::Healthy(json!({}))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn is_up_to_date(&self) -> bool {
        self.is_up_to_date.load(Ordering::Relaxed)
    }
}

fn runner(server: &Server) -> RolloutRunner<NoGate> {
    let RolloutRunner { control, images, urls, commands, interval, holder, .. } =
        server.api.rollout_runner();
    let gate = NoGate { is_up_to_date: AtomicBool::new(true) };
    RolloutRunner { control, gate, images, urls, commands, interval, holder }
}

async fn release(control: &Control, version: &str) {
    let stored = stored_release(version, "x.bin");
    let made = control.create_firmware(&stored, &by()).await.expect("control answers");
    assert!(matches!(made, FirmwareMade::Made(_)));
}

async fn started(control: &Control, plan: &RolloutPlan, devices: &[&str]) -> Uuid {
    let target = Target::Devices(devices.iter().map(|id| (*id).to_owned()).collect());
    let new =
        NewRollout { version: "1.2.0", chips: &[], target: &target, plan, most_failures: None };
    match control.start_rollout(&new, None, &by()).await.expect("control answers") {
        RolloutStarted::Started(deployed) => deployed.rollout_id,
        _ => panic!("it was not started"),
    }
}

async fn lease(runner: &RolloutRunner<NoGate>) -> Lease {
    let length = TimeDelta::minutes(1);
    let lease = runner.control.hold_lease(ROLLOUTS_LEASE, "test", now(), length).await;
    lease.expect("control answers").expect("nobody else has it")
}

async fn state(control: &Control, id: Uuid) -> RolloutState {
    control.rollout(id, None).await.expect("control answers").expect("a rollout").state
}

#[tokio::test]
async fn a_round_offers_each_device_its_own_url_until_the_rollouts_deadline() {
    let server = Server::new().await;
    let runner = runner(&server);
    for device in ["d1", "d2"] {
        server.device(device).await;
    }
    release(&server.control, "1.2.0").await;
    let id = started(&server.control, &RolloutPlan::default(), &["d1", "d2"]).await;
    let lease = lease(&runner).await;
    runner.round(lease, now()).await.expect("a round");
    for device in ["d1", "d2"] {
        let path = format!("/api/devices/{device}/commands");
        let listed = server.get(&server.admin, &path).await.json();
        assert_eq!(
            (&listed["total"], &listed["items"][0]["command"]),
            (&json!(1), &json!("ota_update"))
        );
        let params = &listed["items"][0]["params"];
        assert_eq!(
            (&params["version"], &params["checksum"]),
            (&json!("1.2.0"), &json!("00ff".repeat(16)))
        );
        assert_eq!(listed["items"][0]["deliver"], "when_online");
    }
    let states = server.control.rollout_states(id).await.expect("control answers");
    assert!(states.iter().all(|(_, state, _)| *state == UpdateState::Offered), "{states:?}");
    runner.round(lease, now()).await.expect("a round");
    let again = server.get(&server.admin, "/api/devices/d1/commands").await.json();
    assert_eq!(again["total"], 1, "a device is told once");
}

#[tokio::test]
async fn at_most_as_many_devices_as_the_plan_says_are_told_at_a_time() {
    let server = Server::new().await;
    let runner = runner(&server);
    for device in ["d1", "d2", "d3"] {
        server.device(device).await;
    }
    release(&server.control, "1.2.0").await;
    let plan = RolloutPlan { max_in_progress: 2, ..RolloutPlan::default() };
    let id = started(&server.control, &plan, &["d1", "d2", "d3"]).await;
    runner.round(lease(&runner).await, now()).await.expect("a round");
    let states = server.control.rollout_states(id).await.expect("control answers");
    let offered = states.iter().filter(|(_, state, _)| *state == UpdateState::Offered).count();
    assert_eq!(offered, 2, "{states:?}");
}

#[tokio::test]
async fn a_rollout_whose_firmware_was_deleted_stops() {
    let server = Server::new().await;
    let runner = runner(&server);
    server.device("d1").await;
    release(&server.control, "1.2.0").await;
    let id = started(&server.control, &RolloutPlan::default(), &["d1"]).await;
    let rollouts = server.control.running_rollouts().await.expect("control answers");
    let members = server.control.rollout_members(id).await.expect("control answers");
    server.control.delete_firmware("1.2.0", true, &by()).await.expect("control answers");
    let step = runner.step(&rollouts[0], members, now()).await.expect("a step");
    let change = step.change.expect("a decision");
    assert_eq!(change.state, RolloutState::Stopped);
    assert!(change.reason.contains("deleted"), "{}", change.reason);
    assert!(step.offers.is_empty());
}

#[tokio::test]
async fn who_has_lost_the_lease_changes_nothing() {
    let server = Server::new().await;
    let runner = runner(&server);
    server.device("d1").await;
    release(&server.control, "1.2.0").await;
    let id = started(&server.control, &RolloutPlan::default(), &["d1"]).await;
    let lost = lease(&runner).await;
    let later = now() + TimeDelta::minutes(2);
    let taken = server.control.hold_lease(ROLLOUTS_LEASE, "another", later, TimeDelta::days(1));
    assert!(taken.await.expect("control answers").is_some());
    runner.round(lost, now()).await.expect("a round");
    let states = server.control.rollout_states(id).await.expect("control answers");
    assert!(states.iter().all(|(_, state, _)| *state == UpdateState::Waiting), "{states:?}");
    assert_eq!(state(&server.control, id).await, RolloutState::Running);
}

#[tokio::test]
async fn silence_counts_from_when_messages_have_arrived_without_a_break() {
    let server = Server::new().await;
    let runner = runner(&server);
    let long_ago = now() - TimeDelta::hours(1);
    let mut listening = Listening { since: long_ago, looked: now() };
    runner.look(&mut listening);
    assert_eq!(listening.since, long_ago, "nothing was in the way");
    let mut held_up = Listening { since: long_ago, looked: now() - TimeDelta::minutes(5) };
    runner.look(&mut held_up);
    assert!(held_up.since > long_ago, "this process was held up, and may have missed messages");
    assert_eq!(held_up.looked, held_up.since);
    runner.gate.is_up_to_date.store(false, Ordering::Relaxed);
    runner.look(&mut listening);
    assert!(listening.since > long_ago, "the tail was not up to date");
}

#[tokio::test]
async fn a_runner_that_is_stopped_gives_its_lease_back() {
    let server = Server::new().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(runner(&server).run(stop.clone()));
    let held = async || {
        let leases = server.control.held_leases(ROLLOUTS_LEASE, now()).await;
        !leases.expect("control answers").is_empty()
    };
    let waiting = async {
        while !held().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it takes the lease");
    stop.cancel();
    running.await.expect("it ends");
    assert!(!held().await, "another may run at once");
}
