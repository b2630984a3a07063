//! Releases and rollouts, on both engines.

use acuvim_control::{
    AlertChange, AlertFilter, Answer, Applied, Changes, Control, DeviceUpdate, FirmwareDeleted,
    FirmwareMade, MemberChange, NewAlert, NewCommand, NewRollout, OUTBOX_LEASE, ROLLOUTS_LEASE,
    RolloutChange, RolloutChanged, RolloutDeviceFilter, RolloutFilter, RolloutOffer,
    RolloutStarted, RolloutStep, RolloutVerb, StoredFirmware, Strayed, Target,
};
use acuvim_model::{
    Deliver, Deployed, Firmware, FirmwareEdit, FirmwareImage, RolloutPlan, RolloutStage,
    RolloutState, Scope, UpdateState,
};
use acuvim_rollout::RunningRollout;
use acuvim_wire::payload::{Heartbeat, Registration, Severity};
use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use crate::{at, by, on_both, step};

fn stored(version: &str, checksum: &str) -> StoredFirmware {
    let firmware = Firmware {
        id: Uuid::now_v7(),
        version: version.into(),
        filename: "a.bin".into(),
        file_size: 1000,
        checksum: checksum.into(),
        hardware: Some("T-Call".into()),
        mandatory: false,
        active: true,
        release_notes: None,
        image: FirmwareImage {
            chip: "ESP32".into(),
            project: None,
            app_version: Some(version.into()),
            idf_version: None,
            built_at: None,
        },
        manifest: None,
        warnings: vec!["doubtful".into()],
        created_by: "test".into(),
        created_at: at(0),
        updated_at: at(0),
    };
    StoredFirmware { firmware, object: format!("{version}.bin"), manifest_expires: None }
}

async fn register(control: &Control, partition: u32, ids: &[&str]) {
    let devices = ids
        .iter()
        .map(|id| {
            let registration: Registration = serde_json::from_value(json!({
                "device_id": id, "hardware": "T-Call", "firmware_version": "1.1.0", "boot": 3
            }))
            .expect("a registration");
            DeviceUpdate { registrations: vec![registration], ..DeviceUpdate::new(id, at(1)) }
        })
        .collect();
    let changes = Changes { devices, now: at(1), ..step(partition, None, 1) };
    control.apply(0, &changes).await.expect("stored");
}

/// A plan with one stage for all devices.
fn one_stage() -> RolloutPlan {
    let all = RolloutStage { percent: Some(100.0), ..RolloutStage::default() };
    RolloutPlan { stages: vec![all], ..RolloutPlan::default() }
}

async fn start(
    control: &Control,
    version: &str,
    ids: &[&str],
    most: Option<i64>,
) -> RolloutStarted {
    let target = Target::Devices(ids.iter().map(|id| (*id).to_owned()).collect());
    let plan = one_stage();
    let new = NewRollout { version, target: &target, plan: &plan, most_failures: most, chips: &[] };
    control.start_rollout(&new, None, &by(10)).await.expect("asked")
}

fn started(started: RolloutStarted) -> Deployed {
    match started {
        RolloutStarted::Started(deployed) => deployed,
        other => panic!("{other:?}"),
    }
}

fn offer(id: &str, deliver: Deliver) -> RolloutOffer {
    let command = NewCommand {
        device_id: id.into(),
        command: "ota_update".into(),
        params: serde_json::Map::new(),
        deliver,
        first_timeout_s: 60,
        ack_timeout_s: 3600,
        expires_s: 86_400,
        idempotency_key: None,
        topic_prefix: "acuvim".into(),
        section: None,
        desired: false,
        group_command: None,
    };
    RolloutOffer { boot: Some(3), command }
}

async fn running(control: &Control) -> RunningRollout {
    let mut all = control.running_rollouts().await.expect("asked");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn state(control: &Control, rollout: Uuid, id: &str) -> UpdateState {
    let members = control.rollout_members(rollout).await.expect("asked");
    members.iter().find(|member| member.device_id == id).expect("a member").state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_one_release() {
    on_both(async |control| {
        let new = stored("1.2.0", "aa");
        let made = control.create_firmware(&new, &by(0)).await.expect("asked");
        assert_eq!(made, FirmwareMade::Made(Box::new(new.firmware.clone())));
        assert_eq!(control.firmware("1.2.0").await.expect("asked"), Some(new.clone()));
        let same = control.create_firmware(&stored("1.2.0", "aa"), &by(1)).await.expect("asked");
        assert_eq!(same, FirmwareMade::Same(Box::new(new.firmware.clone())));
        let other = control.create_firmware(&stored("1.2.0", "bb"), &by(1)).await.expect("asked");
        assert_eq!(other, FirmwareMade::Taken);
        let (one, two) = (stored("1.3.0", "cc"), stored("1.3.0", "dd"));
        let ((one_by, two_by), again) = ((by(1), by(2)), control.clone());
        let (one, two) = tokio::join!(
            control.create_firmware(&one, &one_by),
            again.create_firmware(&two, &two_by)
        );
        let made = [one.expect("asked"), two.expect("asked")];
        assert_eq!(made.iter().filter(|m| matches!(m, FirmwareMade::Made(_))).count(), 1);
        assert!(made.contains(&FirmwareMade::Taken), "{made:?}");

        let edit = FirmwareEdit { active: Some(false), ..FirmwareEdit::default() };
        let edited = control.edit_firmware("1.2.0", &edit, &by(3)).await.expect("asked");
        let edited = edited.expect("there");
        assert!(!edited.active && edited.warnings == new.firmware.warnings);
        let active = control.firmware_list(true).await.expect("asked");
        assert_eq!(active.len(), 1, "hidden from checks");
        assert_eq!(control.firmware_list(false).await.expect("asked").len(), 2);
        let deleted = control.delete_firmware("1.2.0", false, &by(4)).await.expect("asked");
        assert_eq!(deleted, FirmwareDeleted::Done("1.2.0.bin".into()));
        let again = control.delete_firmware("1.2.0", false, &by(4)).await.expect("asked");
        assert_eq!(again, FirmwareDeleted::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_leaves_out_unfit_devices_and_a_device_is_in_one_at_a_time() {
    on_both(async |control| {
        register(&control, 0, &["d1", "d2", "d3"]).await;
        assert_eq!(start(&control, "1.2.0", &["d1"], None).await, RolloutStarted::NoFirmware);
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        control.create_firmware(&stored("1.1.0", "bb"), &by(0)).await.expect("asked");
        let RolloutStarted::Nobody(skipped) = start(&control, "1.1.0", &["d1", "dx"], None).await
        else {
            panic!("it runs that")
        };
        let reasons: Vec<&str> = skipped.iter().map(|s| s.reason.as_str()).collect();
        assert_eq!(reasons, ["there is no such device", "it runs this version already"]);
        let first = started(start(&control, "1.2.0", &["d1", "d2"], Some(3)).await);
        assert_eq!((first.total, first.skipped.len()), (2, 0));
        let second = started(start(&control, "1.2.0", &["d2", "d3"], Some(3)).await);
        assert_eq!((second.total, second.skipped[0].device_id.as_str()), (1, "d2"));
        assert!(second.skipped[0].reason.contains("another rollout"));
        let needed = control.delete_firmware("1.2.0", false, &by(4)).await.expect("asked");
        assert_eq!(needed, FirmwareDeleted::Needed("2 rollouts of it are not over".into()));
        let filter = RolloutFilter { limit: 10, ..RolloutFilter::default() };
        let (all, total) = control.rollouts(&filter, None).await.expect("asked");
        assert_eq!((all.len(), total, all[0].id), (2, 2, second.rollout_id));
        assert_eq!(all[1].progress, "2 waiting of 2 devices");
        assert_eq!(control.versions_held().await.expect("asked"), ["1.2.0"]);
        // The version stays held while any rollout of it is not over, even if a newer one is.
        let abort = RolloutVerb::Abort;
        control.change_rollout(second.rollout_id, abort, &by(20)).await.expect("asked");
        assert_eq!(control.versions_held().await.expect("asked"), ["1.2.0"]);
        // A deleted device is no longer part of a rollout.
        assert!(control.delete_device("d3", None, &by(5)).await.expect("asked"));
        assert_eq!(control.rollout_members(second.rollout_id).await.expect("asked").len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_stored_whole_and_only_under_the_lease() {
    on_both(async |control| {
        register(&control, 0, &["d1", "d2"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let id = started(start(&control, "1.2.0", &["d1", "d2"], Some(1)).await).rollout_id;
        let rollout = running(&control).await;
        let minute = TimeDelta::seconds(60);
        let hold = async |who: &str, second| {
            control.hold_lease(ROLLOUTS_LEASE, who, at(second), minute).await.expect("asked")
        };
        let lease = hold("one", 20).await.expect("free");
        let offers = vec![offer("d1", Deliver::WhenOnline), offer("d2", Deliver::WhenOnline)];
        let told = RolloutStep { offers, ..RolloutStep::default() };
        let other = hold("two", 90).await.expect("ran out");
        let stale = control.apply_rollout(lease, &rollout, &told, at(91)).await;
        assert!(!stale.expect("asked"), "another holds the lease");
        assert_eq!(state(&control, id, "d1").await, UpdateState::Waiting);
        let apply = async |rollout: &RunningRollout, step: &RolloutStep, second| {
            control.apply_rollout(other, rollout, step, at(second)).await.expect("asked")
        };
        assert!(apply(&rollout, &told, 92).await);
        assert!(!apply(&rollout, &told, 93).await, "it is another since it was read");
        assert!(apply(&running(&control).await, &told, 93).await);
        let (commands, _) = control
            .commands(&acuvim_control::CommandFilter { limit: 10, ..Default::default() }, None)
            .await
            .expect("asked");
        assert_eq!(commands.len(), 2, "a step again tells nobody again");
        let members = control.rollout_members(id).await.expect("asked");
        assert!(
            members.iter().all(|m| m.state == UpdateState::Offered && m.boot_before == Some(3))
        );
        assert!(control.note_fetched("d1", "1.2.0", false).await.expect("asked"));
        assert!(!control.note_fetched("d1", "1.3.0", true).await.expect("asked"));
        assert_eq!(control.told_version("d1").await.expect("asked").as_deref(), Some("1.2.0"));
        assert!(control.may_fetch("d1", "1.2.0").await.expect("asked"));
        assert!(!control.may_fetch("d1", "1.3.0").await.expect("asked"));

        newest_heartbeat_counts(&control, id).await;

        // Stopped: undelivered commands are taken back, and failures stay counted.
        let change = |device: &str, to: UpdateState| MemberChange {
            device_id: device.into(),
            from: UpdateState::Offered,
            to,
            detail: Some("why".into()),
        };
        let failed = vec![change("d1", UpdateState::Failed)];
        let failed = RolloutStep { changes: failed, ..RolloutStep::default() };
        assert!(apply(&running(&control).await, &failed, 105).await);
        for verb in [RolloutVerb::Pause, RolloutVerb::Resume] {
            let changed = control.change_rollout(id, verb, &by(106)).await.expect("asked");
            assert_eq!(changed, RolloutChanged::Done);
        }
        assert_eq!(running(&control).await.forgiven, 0, "a pause lets no failure pass");
        let stop = RolloutStep {
            changes: Vec::new(),
            offers: Vec::new(),
            change: Some(RolloutChange {
                state: RolloutState::Stopped,
                stage: 1,
                soak_since: None,
                decision: "stopped",
                reason: "too many".into(),
                figures: json!({ "failure_percent": 100.0 }),
            }),
        };
        assert!(apply(&running(&control).await, &stop, 110).await);
        assert!(!apply(&rollout, &told, 111).await, "it does not run any more");
        assert_eq!(state(&control, id, "d2").await, UpdateState::Waiting);
        assert!(!control.may_fetch("d2", "1.2.0").await.expect("asked"));
        assert_eq!(control.update_failures("d1", "1.2.0").await.expect("asked"), 1);
        let shown = control.rollout(id, None).await.expect("asked").expect("there");
        assert_eq!(
            (shown.state, shown.reason.as_deref()),
            (RolloutState::Stopped, Some("too many"))
        );
        assert_eq!(shown.decisions[0].figures["failure_percent"], 100.0);
        assert_eq!(shown.decisions.last().map(|d| d.decision.as_str()), Some("started"));
        let again = start(&control, "1.2.0", &["d1"], Some(1)).await;
        assert!(matches!(again, RolloutStarted::Nobody(_)), "the loop guard: {again:?}");

        people_resume_retry_and_abort(&control, id).await;
    })
    .await;
}

/// The newest heartbeat counts, by the time of its arrival.
async fn newest_heartbeat_counts(control: &Control, id: Uuid) {
    let heartbeat: Heartbeat =
        serde_json::from_value(json!({ "firmware_version": "1.2.0", "boot": 4 })).expect("one");
    let note = DeviceUpdate {
        heartbeat: Some((at(100), Box::new(heartbeat))),
        ..DeviceUpdate::new("d1", at(101))
    };
    let beat = Changes { devices: vec![note], now: at(101), ..step(0, Some(1), 2) };
    control.apply(0, &beat).await.expect("stored");
    let members = control.rollout_members(id).await.expect("asked");
    let d1 = members.iter().find(|m| m.device_id == "d1").expect("d1");
    assert_eq!(
        (d1.beat_version.as_deref(), d1.beat_at, d1.boot),
        (Some("1.2.0"), Some(at(101)), Some(4))
    );
    assert!(d1.fetched_some && !d1.fetched_all);
}

/// A person resumes a stopped rollout, retries the failed device, and aborts it.
async fn people_resume_retry_and_abort(control: &Control, id: Uuid) {
    let verb = async |verb| control.change_rollout(id, verb, &by(120)).await.expect("asked");
    assert_eq!(verb(RolloutVerb::Resume).await, RolloutChanged::Done);
    let resumed = running(control).await;
    assert_eq!((resumed.forgiven, resumed.updated_at), (1, at(120)));
    assert!(matches!(verb(RolloutVerb::Resume).await, RolloutChanged::Refused(_)));
    assert_eq!(verb(RolloutVerb::Retry).await, RolloutChanged::Done);
    assert_eq!(state(control, id, "d1").await, UpdateState::Waiting);
    assert_eq!(verb(RolloutVerb::Abort).await, RolloutChanged::Done);
    assert!(matches!(verb(RolloutVerb::Retry).await, RolloutChanged::Refused(_)));
    let cancelled = Some(UpdateState::Cancelled);
    let filter = RolloutDeviceFilter { state: cancelled, limit: 10, ..Default::default() };
    let (devices, total) = control.rollout_devices(id, &filter, None).await.expect("asked");
    assert_eq!((devices.len(), total), (2, 2));
    let next = started(start(control, "1.2.0", &["d1", "d2"], None).await);
    assert_eq!(next.total, 1, "it is free for another");
    assert_eq!(next.skipped[0].reason, "it runs this version already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_known_until_the_next_command() {
    on_both(async |control| {
        register(&control, 0, &["d1"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let id = started(start(&control, "1.2.0", &["d1"], None).await).rollout_id;
        let lease = control
            .hold_lease(ROLLOUTS_LEASE, "one", at(20), TimeDelta::seconds(6000))
            .await
            .expect("asked")
            .expect("free");
        let told =
            RolloutStep { offers: vec![offer("d1", Deliver::Now)], ..RolloutStep::default() };
        let apply = async |step: &RolloutStep, second| {
            let rollout = running(&control).await;
            let applied = control.apply_rollout(lease, &rollout, step, at(second)).await;
            assert!(applied.expect("asked"));
        };
        let refused = async || {
            let members = control.rollout_members(id).await.expect("asked");
            members[0].is_refused
        };
        let refuse = async || control.note_refused("d1", "1.2.0").await.expect("asked");
        apply(&told, 21).await;
        refuse().await;
        assert!(!refused().await, "the rollout is not held");
        // Once numbered, the command may be with the broker, so it is not taken back.
        let outbox = control
            .hold_lease(OUTBOX_LEASE, "one", at(22), TimeDelta::seconds(600))
            .await
            .expect("asked")
            .expect("free");
        let number = async |second| {
            control.next_of_outbox(outbox, "one", None, at(second)).await.expect("asked");
        };
        number(23).await;
        let change = async |verb, second| {
            let changed = control.change_rollout(id, verb, &by(second)).await.expect("asked");
            assert_eq!(changed, RolloutChanged::Done);
        };
        change(RolloutVerb::Pause, 30).await;
        assert_eq!(state(&control, id, "d1").await, UpdateState::Offered);
        control.note_refused("d1", "1.3.0").await.expect("asked");
        assert!(!refused().await, "it is another version");
        refuse().await;
        assert!(refused().await);
        change(RolloutVerb::Resume, 40).await;
        assert!(refused().await, "what it answers may still come");
        let back = MemberChange {
            device_id: "d1".into(),
            from: UpdateState::Offered,
            to: UpdateState::Waiting,
            detail: None,
        };
        apply(&RolloutStep { changes: vec![back], ..RolloutStep::default() }, 41).await;
        apply(&told, 42).await;
        assert!(!refused().await, "it is told again");
        // Fetching part of the image after a refusal cancels the refusal.
        number(43).await;
        change(RolloutVerb::Pause, 50).await;
        refuse().await;
        assert!(refused().await);
        change(RolloutVerb::Resume, 51).await;
        control.note_fetched("d1", "1.2.0", false).await.expect("asked");
        assert!(!refused().await);
    })
    .await;
}

/// Applies a heartbeat with a version, in a transaction of its own.
async fn beat(control: &Control, id: &str, version: &str, (second, offset): (i64, i64)) {
    let heartbeat: Heartbeat =
        serde_json::from_value(json!({ "firmware_version": version, "boot": 4 })).expect("one");
    let note = DeviceUpdate {
        heartbeat: Some((at(second), Box::new(heartbeat))),
        ..DeviceUpdate::new(id, at(second))
    };
    let changes =
        Changes { devices: vec![note], now: at(second), ..step(0, Some(offset), offset + 1) };
    assert_eq!(control.apply(0, &changes).await.expect("stored"), Applied::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_after_its_rollout_is_a_failure_and_an_alert() {
    on_both(async |control| {
        register(&control, 0, &["d1", "d2"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let id = started(start(&control, "1.2.0", &["d1", "d2"], Some(1)).await).rollout_id;
        let lease = control
            .hold_lease(ROLLOUTS_LEASE, "one", at(20), TimeDelta::seconds(6000))
            .await
            .expect("asked")
            .expect("free");
        beat(&control, "d1", "1.2.0", (30, 1)).await;
        beat(&control, "d2", "1.2.0", (30, 2)).await;
        let confirm = |device: &str, from| MemberChange {
            device_id: device.into(),
            from,
            to: UpdateState::Confirmed,
            detail: None,
        };
        let completed = RolloutStep {
            changes: ["d1", "d2"].map(|d| confirm(d, UpdateState::Waiting)).to_vec(),
            offers: Vec::new(),
            change: Some(RolloutChange {
                state: RolloutState::Completed,
                stage: 2,
                soak_since: None,
                decision: "completed",
                reason: "every device has ended".into(),
                figures: json!({}),
            }),
        };
        let rollout = running(&control).await;
        let applied = control.apply_rollout(lease, &rollout, &completed, at(40)).await;
        assert!(applied.expect("asked"));
        assert!(control.strayed_devices().await.expect("asked").is_empty());

        beat(&control, "d1", "1.1.0", (50, 3)).await;
        let strayed = control.strayed_devices().await.expect("asked");
        let expected = Strayed {
            rollout_id: id,
            version: "1.2.0".into(),
            device_id: "d1".into(),
            from_version: Some("1.1.0".into()),
            running: "1.1.0".into(),
        };
        assert_eq!(strayed, [expected]);
        for second in [60, 70] {
            control.note_fallbacks(lease, &strayed, at(second)).await.expect("asked");
        }
        assert!(control.strayed_devices().await.expect("asked").is_empty());
        assert_eq!(state(&control, id, "d1").await, UpdateState::RolledBack);
        assert_eq!(state(&control, id, "d2").await, UpdateState::Confirmed);
        assert_eq!(control.update_failures("d1", "1.2.0").await.expect("asked"), 1, "once");
        let filter = AlertFilter {
            alert_type: Some("firmware_fallback".into()),
            limit: 10,
            ..AlertFilter::default()
        };
        let (alerts, _) = control.alerts(&filter, None).await.expect("asked");
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].device_id.as_deref(), Some("d1"));
        assert!(alerts[0].message.contains("1.1.0"), "{}", alerts[0].message);

        // It is retried and confirmed, which ends the alert.
        let again = control.change_rollout(id, RolloutVerb::Retry, &by(80)).await.expect("asked");
        assert_eq!(again, RolloutChanged::Done);
        let changes = vec![confirm("d1", UpdateState::Waiting)];
        let good = RolloutStep { changes, ..RolloutStep::default() };
        let rollout = running(&control).await;
        let applied = control.apply_rollout(lease, &rollout, &good, at(90)).await;
        assert!(applied.expect("asked"));
        let (alerts, _) = control.alerts(&filter, None).await.expect("asked");
        assert_eq!(alerts[0].resolved_at, Some(at(90)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_device_is_read_with_what_its_watch_needs() {
    on_both(async |control| {
        register(&control, 0, &["d1"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let id = started(start(&control, "1.2.0", &["d1"], None).await).rollout_id;
        let member = async || control.rollout_members(id).await.expect("asked").remove(0);
        let before = member().await;
        assert_eq!(before.from_version.as_deref(), Some("1.1.0"));
        assert!(!before.is_looping && !before.is_told_since);
        let alert = NewAlert {
            severity: Severity::Critical,
            message: "5 restarts within an hour".into(),
            ..NewAlert::of_health(Uuid::now_v7(), "d1", "crash_loop", at(20))
        };
        let raised = Changes {
            alerts: vec![AlertChange::Raise(Box::new(alert))],
            now: at(20),
            ..step(0, Some(1), 2)
        };
        control.apply(0, &raised).await.expect("stored");
        assert!(member().await.is_looping);
        // The rollout is aborted, and another one has the device.
        control.change_rollout(id, RolloutVerb::Abort, &by(30)).await.expect("asked");
        control.create_firmware(&stored("1.3.0", "bb"), &by(31)).await.expect("asked");
        let other = started(start(&control, "1.3.0", &["d1"], None).await).rollout_id;
        assert!(!member().await.is_told_since, "it only waits there");
        let failed = MemberChange {
            device_id: "d1".into(),
            from: UpdateState::Waiting,
            to: UpdateState::Failed,
            detail: None,
        };
        let lease = control
            .hold_lease(ROLLOUTS_LEASE, "one", at(40), TimeDelta::seconds(600))
            .await
            .expect("asked")
            .expect("free");
        let step = RolloutStep { changes: vec![failed], ..RolloutStep::default() };
        let rollout = running(&control).await;
        assert_eq!(rollout.id, other);
        let applied = control.apply_rollout(lease, &rollout, &step, at(41)).await;
        assert!(applied.expect("asked") && member().await.is_told_since);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_device_has_is_not_taken_back() {
    on_both(async |control| {
        register(&control, 0, &["d1"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let id = started(start(&control, "1.2.0", &["d1"], Some(3)).await).rollout_id;
        let rollout = running(&control).await;
        let lease = control
            .hold_lease(ROLLOUTS_LEASE, "one", at(20), TimeDelta::seconds(600))
            .await
            .expect("asked")
            .expect("free");
        let told =
            RolloutStep { offers: vec![offer("d1", Deliver::Now)], ..RolloutStep::default() };
        assert!(control.apply_rollout(lease, &rollout, &told, at(21)).await.expect("asked"));
        let members = control.rollout_members(id).await.expect("asked");
        assert_eq!(members[0].state, UpdateState::Offered);
        let (commands, _) = control
            .commands(&acuvim_control::CommandFilter { limit: 10, ..Default::default() }, None)
            .await
            .expect("asked");
        let ack: Answer = Answer {
            device_id: "d1".into(),
            response: serde_json::from_value(json!({
                "request_id": commands[0].request_id, "command": "ota_update", "status": "ack"
            }))
            .expect("an answer"),
            at: at(30),
        };
        let answered = Changes { answers: vec![ack], now: at(30), ..step(0, Some(1), 2) };
        control.apply(0, &answered).await.expect("stored");
        let paused = control.change_rollout(id, RolloutVerb::Pause, &by(40)).await.expect("asked");
        assert_eq!(paused, RolloutChanged::Done);
        assert_eq!(state(&control, id, "d1").await, UpdateState::Offered, "it has taken it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_a_health_gate_are_hidden_from_a_scope() {
    on_both(async |control| {
        register(&control, 0, &["d1", "theirs"]).await;
        control.create_firmware(&stored("1.2.0", "aa"), &by(0)).await.expect("asked");
        let target = Target::Devices(vec!["d1".into(), "theirs".into()]);
        let sql = "SELECT count(*) = 0 FROM alerts WHERE device_id = 'theirs'";
        let plan = RolloutPlan { health_gate_sql: Some(sql.into()), ..one_stage() };
        let new = NewRollout {
            version: "1.2.0",
            target: &target,
            plan: &plan,
            most_failures: None,
            chips: &[],
        };
        let id = started(control.start_rollout(&new, None, &by(10)).await.expect("asked"));
        let id = id.rollout_id;
        let lease = control.hold_lease(ROLLOUTS_LEASE, "one", at(20), TimeDelta::seconds(600));
        let lease = lease.await.expect("asked").expect("free");
        let decide = async |state, decision, reason: &str, figures, second| {
            let reason = reason.to_owned();
            let change =
                RolloutChange { state, stage: 1, soak_since: None, decision, reason, figures };
            let step = RolloutStep { change: Some(change), ..RolloutStep::default() };
            let rollout = running(&control).await;
            let done = control.apply_rollout(lease, &rollout, &step, at(second)).await;
            assert!(done.expect("asked"));
        };
        let figures = json!({ "gate": { "id": "theirs" }, "counted": { "ended": 1 } });
        decide(RolloutState::Running, "next_stage", "stage 1 is good", figures, 30).await;
        let failed = "the health gate could not be asked: no number: 'theirs is away'";
        decide(RolloutState::Paused, "gate_error", failed, json!({}), 40).await;

        let all = control.rollout(id, None).await.expect("asked").expect("there");
        assert_eq!(all.reason.as_deref(), Some(failed));
        assert_eq!(all.decisions[1].figures["gate"]["id"], "theirs");
        let scope = Scope { device_ids: vec!["d1".into()], group_ids: vec![] };
        let seen = control.rollout(id, Some(&scope)).await.expect("asked").expect("its own is in");
        let filter = RolloutFilter { limit: 10, ..RolloutFilter::default() };
        let (listed, _) = control.rollouts(&filter, Some(&scope)).await.expect("asked");
        for shown in [&seen].into_iter().chain(&listed) {
            assert_eq!(shown.reason.as_deref(), Some("the health gate could not be asked"));
            let text = serde_json::to_string(shown).expect("JSON");
            assert!(!text.contains("theirs") && !text.contains("SELECT"), "{text}");
        }
        assert_eq!(seen.decisions[1].figures["counted"]["ended"], 1);
    })
    .await;
}
