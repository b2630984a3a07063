use acuvim_model::{
    Firmware, FirmwareImage, MaintenanceWindow, RolloutPlan, RolloutStage, RolloutState,
    UpdateState,
};
use acuvim_wire::payload::Registration;
use serde_json::json;
use uuid::Uuid;

use super::progress::counted;
use crate::{
    Changes, Control, DeviceUpdate, FirmwareDeleted, FirmwareMade, NewRollout, RolloutChanged,
    RolloutDeviceFilter, RolloutFilter, RolloutStarted, RolloutVerb, StoredFirmware, Target,
    testing::{apply, at, audited, beat, by, fresh, get_device, scope_of, update},
};

fn release(version: &str) -> StoredFirmware {
    let firmware = Firmware {
        id: Uuid::now_v7(),
        version: version.into(),
        filename: "a.bin".into(),
        file_size: 1000,
        checksum: "aa".into(),
        hardware: Some("T-Call".into()),
        mandatory: false,
        active: true,
        release_notes: None,
        image: FirmwareImage {
            chip: "ESP32".into(),
            project: None,
            app_version: None,
            idf_version: None,
            built_at: None,
        },
        manifest: None,
        warnings: vec![],
        created_by: "test".into(),
        created_at: at(0),
        updated_at: at(0),
    };
    StoredFirmware { firmware, object: format!("{version}.bin"), manifest_expires: None }
}

async fn register(control: &Control, ids: &[&str]) {
    let update = |id: &&str| {
        let registration: Registration = serde_json::from_value(json!({
            "device_id": id, "hardware": "T-Call", "firmware_version": "1.0", "boot": 3
        }))
        .expect("a registration");
        DeviceUpdate { registrations: vec![registration], ..DeviceUpdate::new(id, at(0)) }
    };
    let devices = ids.iter().map(update).collect();
    apply(control, Changes { devices, ..Changes::default() }).await;
}

fn plan() -> RolloutPlan {
    let all = RolloutStage { percent: Some(100.0), ..RolloutStage::default() };
    RolloutPlan { stages: vec![all], deadline_seconds: 600, ..RolloutPlan::default() }
}

/// A database with a release, and a rollout of it to these devices.
async fn rolling(ids: &[&str]) -> (tempfile::TempDir, Control, Uuid) {
    let (dir, control) = fresh().await;
    register(&control, ids).await;
    let made = control.create_firmware(&release("2.0"), &by(0)).await.expect("create");
    assert!(matches!(made, FirmwareMade::Made(_)), "{made:?}");
    let id = start(&control, ids, None, 10).await;
    (dir, control, id)
}

async fn try_start(
    control: &Control,
    target: &Target,
    most_failures: Option<i64>,
    second: i64,
) -> RolloutStarted {
    let plan = plan();
    let new = NewRollout { version: "2.0", target, plan: &plan, chips: &[], most_failures };
    control.start_rollout(&new, None, &by(second)).await.expect("start")
}

async fn start(control: &Control, ids: &[&str], most: Option<i64>, second: i64) -> Uuid {
    let target = Target::Devices(ids.iter().map(|id| (*id).to_owned()).collect());
    match try_start(control, &target, most, second).await {
        RolloutStarted::Started(deployed) => deployed.rollout_id,
        other => panic!("{other:?}"),
    }
}

/// Sets a state without what led to it.
async fn force(control: &Control, rollout: Uuid, state: RolloutState, device: UpdateState) {
    let values = vec![state.as_str().into(), rollout.into()];
    let sql = "UPDATE rollouts SET state = $1 WHERE id = $2";
    control.execute(sql, values).await.expect("rollout");
    let sql = "UPDATE rollout_devices SET state = $1, active = $2 WHERE rollout_id = $3";
    let values = vec![device.as_str().into(), (!device.is_over()).into(), rollout.into()];
    control.execute(sql, values).await.expect("device");
}

const STATES: [RolloutState; 5] = [
    RolloutState::Running,
    RolloutState::Paused,
    RolloutState::Stopped,
    RolloutState::Aborted,
    RolloutState::Completed,
];

#[tokio::test]
async fn an_image_may_be_fetched_only_by_a_device_that_was_sent_it() {
    let (_dir, control, id) = rolling(&["d"]).await;
    for rollout in STATES {
        for device in [
            UpdateState::Waiting,
            UpdateState::Offered,
            UpdateState::Downloading,
            UpdateState::Installing,
            UpdateState::Confirmed,
            UpdateState::Failed,
            UpdateState::Cancelled,
        ] {
            force(&control, id, rollout, device).await;
            let under_way = matches!(
                device,
                UpdateState::Offered | UpdateState::Downloading | UpdateState::Installing
            );
            // Paused, a device finishes what it has begun, and does not begin.
            let wanted = match rollout {
                RolloutState::Running => under_way,
                RolloutState::Paused => under_way && device != UpdateState::Offered,
                _ => false,
            };
            let may = control.may_fetch("d", "2.0").await.expect("ask");
            assert_eq!(may, wanted, "{rollout:?} {device:?}");
            let told = control.told_version("d").await.expect("ask");
            let running = rollout == RolloutState::Running && under_way;
            assert_eq!(told.is_some(), running, "{rollout:?} {device:?}");
        }
    }
    force(&control, id, RolloutState::Running, UpdateState::Offered).await;
    for (device, version) in [("d", "2.0.1"), ("d", "2"), ("e", "2.0"), ("", "")] {
        assert!(!control.may_fetch(device, version).await.expect("ask"), "{device} {version}");
    }
}

#[tokio::test]
async fn a_device_that_began_before_the_pause_goes_on() {
    let (_dir, control, id) = rolling(&["d"]).await;
    force(&control, id, RolloutState::Running, UpdateState::Offered).await;
    assert!(control.note_fetched("d", "2.0", false).await.expect("note"));
    force(&control, id, RolloutState::Paused, UpdateState::Offered).await;
    assert!(control.may_fetch("d", "2.0").await.expect("ask"));
}

#[tokio::test]
async fn the_boot_count_is_noted_with_the_first_part_of_an_image() {
    let (_dir, control, id) = rolling(&["d"]).await;
    force(&control, id, RolloutState::Running, UpdateState::Offered).await;
    let member = async || control.rollout_members(id).await.expect("ask").remove(0);
    assert!(!control.note_fetched("d", "1.9", false).await.expect("note"), "another version");
    control.note_fetched("d", "2.0", false).await.expect("note");
    let boots = beat("d", 5, json!({"boot": 4}));
    update(&control, boots).await;
    control.note_fetched("d", "2.0", true).await.expect("note");
    let now = member().await;
    assert_eq!((now.boot_before, now.boot), (Some(3), Some(4)), "a restart in between shows");
    assert!(now.fetched_some && now.fetched_all);
    control.note_fetched("d", "2.0", false).await.expect("note");
    assert!(member().await.fetched_all, "a part that is fetched again takes nothing back");
    force(&control, id, RolloutState::Running, UpdateState::Installing).await;
    assert!(!control.note_fetched("d", "2.0", true).await.expect("note"), "it has it");
}

#[tokio::test]
async fn each_state_of_a_rollout_allows_its_own_changes() {
    let (_dir, control, id) = rolling(&["d"]).await;
    use RolloutVerb::{Abort, Pause, Resume, Retry};
    for state in STATES {
        for verb in [Pause, Resume, Abort, Retry] {
            force(&control, id, state, UpdateState::Failed).await;
            let allowed = match verb {
                Pause => state == RolloutState::Running,
                Resume => matches!(state, RolloutState::Paused | RolloutState::Stopped),
                Abort => !state.is_over(),
                Retry => state != RolloutState::Aborted,
            };
            let before = audited(&control).await.len();
            let changed = control.change_rollout(id, verb, &by(50)).await.expect("change");
            assert_eq!(changed == RolloutChanged::Done, allowed, "{verb:?} {state:?}");
            let entries = audited(&control).await.len() - before;
            assert_eq!(entries, usize::from(allowed), "{verb:?} {state:?}");
            let now = control.rollout(id, None).await.expect("ask").expect("there");
            if !allowed {
                assert_eq!(now.state, state, "{verb:?}");
            }
        }
    }
    let none = control.change_rollout(Uuid::now_v7(), Pause, &by(50)).await.expect("change");
    assert_eq!(none, RolloutChanged::NotFound);
}

#[tokio::test]
async fn a_retry_begins_again_with_what_failed_and_with_a_new_deadline() {
    let (_dir, control, id) = rolling(&["d", "e"]).await;
    force(&control, id, RolloutState::Completed, UpdateState::Confirmed).await;
    let retry = async |second| {
        control.change_rollout(id, RolloutVerb::Retry, &by(second)).await.expect("change")
    };
    let RolloutChanged::Refused(why) = retry(20).await else { panic!("nothing to try again") };
    assert!(why.contains("no device to try again"), "{why}");
    let failed = "UPDATE rollout_devices SET state = 'failed', failures = 2 WHERE device_id = 'e'";
    control.execute(failed, vec![]).await.expect("fail");
    assert_eq!(retry(30).await, RolloutChanged::Done);
    let now = control.rollout(id, None).await.expect("ask").expect("there");
    assert_eq!((now.state, now.deadline_at), (RolloutState::Running, at(630)));
    assert_eq!((now.devices.waiting, now.devices.confirmed), (1, 1));
    assert_eq!(control.update_failures("e", "2.0").await.expect("ask"), 2, "they stay counted");
    // A device that another rollout has by now is left to that.
    force(&control, id, RolloutState::Completed, UpdateState::Failed).await;
    let other = start(&control, &["d"], None, 40).await;
    assert_eq!(retry(50).await, RolloutChanged::Done);
    let mine = RolloutDeviceFilter {
        state: Some(UpdateState::Waiting),
        limit: 9,
        ..RolloutDeviceFilter::default()
    };
    let (devices, _) = control.rollout_devices(id, &mine, None).await.expect("list");
    assert_eq!(devices.iter().map(|d| d.device_id.as_str()).collect::<Vec<_>>(), ["e"]);
    assert_eq!(control.rollout_devices(other, &mine, None).await.expect("list").1, 1);
}

#[tokio::test]
async fn a_rollout_names_why_it_leaves_a_device_out() {
    let (_dir, control) = fresh().await;
    register(&control, &["fits", "off", "has it", "failed", "busy"]).await;
    update(&control, DeviceUpdate::new("unknown board", at(0))).await;
    update(&control, beat("has it", 5, json!({"firmware_version": "2.0"}))).await;
    let off = acuvim_model::DeviceEdit { enabled: Some(false), ..Default::default() };
    control.edit_device("off", &off, None, &by(1)).await.expect("edit");
    control.create_firmware(&release("2.0"), &by(0)).await.expect("create");
    let old = start(&control, &["failed"], None, 5).await;
    force(&control, old, RolloutState::Stopped, UpdateState::Failed).await;
    let failed = "UPDATE rollout_devices SET failures = 3";
    control.execute(failed, vec![]).await.expect("fail");
    start(&control, &["busy"], None, 6).await;
    let ids = ["fits", "off", "has it", "failed", "busy", "unknown board", "none", "fits"];
    let target = Target::Devices(ids.iter().map(|id| (*id).to_owned()).collect());
    let started = try_start(&control, &target, Some(3), 10).await;
    let RolloutStarted::Started(deployed) = started else { panic!("{started:?}") };
    assert_eq!(deployed.total, 1, "a device that is named twice is one");
    for (id, says) in [
        ("off", "disabled"),
        ("has it", "already"),
        ("failed", "failed on it 3 times"),
        ("busy", "another rollout"),
        ("none", "no such device"),
        ("unknown board", ""),
    ] {
        let skipped = deployed.skipped.iter().find(|skipped| skipped.device_id == id);
        assert!(skipped.is_some_and(|s| s.reason.contains(says)), "{id}: {:?}", deployed.skipped);
    }
    assert_eq!(deployed.skipped.len(), 6);
    let again = start(&control, &["failed"], Some(4), 11).await;
    assert!(!again.is_nil(), "one failure below the limit");
}

#[tokio::test]
async fn a_rollout_to_a_group_or_tag_takes_only_devices_in_the_scope() {
    let (_dir, control) = fresh().await;
    register(&control, &["a", "b", "c"]).await;
    control.create_firmware(&release("2.0"), &by(0)).await.expect("create");
    let tagged =
        acuvim_model::DeviceEdit { tags: Some(Some(vec!["roof".into()])), ..Default::default() };
    for id in ["a", "b"] {
        control.edit_device(id, &tagged, None, &by(1)).await.expect("edit");
    }
    let (plan, target) = (plan(), Target::Tag("roof".into()));
    let new = NewRollout {
        version: "2.0",
        target: &target,
        plan: &plan,
        chips: &[],
        most_failures: None,
    };
    let scope = scope_of(&["b", "c"]);
    let started = control.start_rollout(&new, Some(&scope), &by(10)).await.expect("start");
    let RolloutStarted::Started(deployed) = started else { panic!("{started:?}") };
    assert_eq!((deployed.total, deployed.skipped.len()), (1, 0), "nothing is said of the others");
    let all = RolloutDeviceFilter { limit: 9, ..RolloutDeviceFilter::default() };
    let (devices, _) = control.rollout_devices(deployed.rollout_id, &all, None).await.expect("ask");
    assert_eq!(devices[0].device_id, "b");
    let stranger = Target::Devices(vec!["a".into()]);
    let new = NewRollout { target: &stranger, ..new };
    let started = control.start_rollout(&new, Some(&scope), &by(11)).await.expect("start");
    let RolloutStarted::Nobody(skipped) = started else { panic!("{started:?}") };
    assert_eq!(skipped[0].reason, "there is no such device");
    // Who has none of its devices in the scope does not see the rollout.
    let list = RolloutFilter { limit: 9, ..RolloutFilter::default() };
    let only_a = scope_of(&["a"]);
    assert_eq!(control.rollouts(&list, Some(&only_a)).await.expect("list").1, 0);
    let one = control.rollout(deployed.rollout_id, Some(&only_a)).await.expect("ask");
    assert!(one.is_none());
    let (none, total) =
        control.rollout_devices(deployed.rollout_id, &all, Some(&only_a)).await.expect("list");
    assert!(none.is_empty() && total == 0);
}

#[tokio::test]
async fn a_version_is_held_until_its_newest_rollout_went_well() {
    let (_dir, control, first) = rolling(&["d"]).await;
    let held = async || control.versions_held().await.expect("ask") == ["2.0"];
    for (state, wanted) in STATES.into_iter().zip([true, true, true, true, false]) {
        force(&control, first, state, UpdateState::Cancelled).await;
        assert_eq!(held().await, wanted, "{state:?}");
    }
    force(&control, first, RolloutState::Aborted, UpdateState::Cancelled).await;
    let second = start(&control, &["d"], None, 20).await;
    force(&control, second, RolloutState::Completed, UpdateState::Confirmed).await;
    assert!(!held().await, "the abort was of an older one");
    force(&control, second, RolloutState::Aborted, UpdateState::Cancelled).await;
    force(&control, first, RolloutState::Completed, UpdateState::Confirmed).await;
    assert!(held().await);
}

#[tokio::test]
async fn a_release_that_is_used_is_deleted_only_by_force() {
    let (_dir, control, id) = rolling(&["d"]).await;
    let delete =
        async |force| control.delete_firmware("2.0", force, &by(20)).await.expect("delete");
    assert_eq!(
        delete(false).await,
        FirmwareDeleted::Needed("1 rollouts of it are not over".into())
    );
    force(&control, id, RolloutState::Completed, UpdateState::Confirmed).await;
    update(&control, beat("d", 30, json!({"firmware_version": "2.0"}))).await;
    assert_eq!(get_device(&control, "d").await.firmware_version.as_deref(), Some("2.0"));
    assert_eq!(delete(false).await, FirmwareDeleted::Needed("1 devices run it".into()));
    assert_eq!(delete(true).await, FirmwareDeleted::Done("2.0.bin".into()));
    assert_eq!(delete(true).await, FirmwareDeleted::NotFound);
    let entries = audited(&control).await;
    assert_eq!(entries.iter().filter(|e| e.action == "firmware.delete").count(), 1);
}

#[tokio::test]
async fn a_plan_that_does_not_fit_starts_nothing() {
    let (_dir, control) = fresh().await;
    register(&control, &["d"]).await;
    control.create_firmware(&release("2.0"), &by(0)).await.expect("create");
    let window = MaintenanceWindow { from: "25:00".into(), to: "x".into() };
    let target = Target::Devices(vec!["d".into()]);
    for bad in [
        RolloutPlan { stages: vec![], ..plan() },
        RolloutPlan { window: Some(window), ..plan() },
        RolloutPlan { max_failure_percent: -1.0, ..plan() },
    ] {
        let new = NewRollout {
            version: "2.0",
            target: &target,
            plan: &bad,
            chips: &[],
            most_failures: None,
        };
        let started = control.start_rollout(&new, None, &by(10)).await.expect("start");
        assert!(matches!(started, RolloutStarted::BadPlan(_)), "{bad:?}: {started:?}");
    }
    let list = RolloutFilter { limit: 9, ..RolloutFilter::default() };
    assert_eq!(control.rollouts(&list, None).await.expect("list").1, 0);
}

#[test]
fn states_that_a_newer_version_wrote_are_counted_as_nothing() {
    let rows = [("waiting".to_owned(), 3), ("hovering".to_owned(), 9), ("failed".to_owned(), 1)];
    let counts = counted(&rows);
    assert_eq!((counts.waiting, counts.failed, counts.total()), (3, 1, 4));
}
