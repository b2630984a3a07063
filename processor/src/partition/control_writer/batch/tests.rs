use acuvim_wire::time;

use super::*;

fn update(device: &str, second: i64) -> DeviceUpdate {
    DeviceUpdate::new(device, time::to_datetime(second * time::SECOND).unwrap_or_default())
}

#[test]
fn the_updates_of_a_device_are_one_until_they_are_taken() {
    let mut batch = ControlBatch::default();
    batch.add_devices(vec![update("a", 1), update("b", 1)]);
    batch.add_devices(vec![update("a", 2)]);
    assert_eq!(batch.len(), 2);
    let taken = batch.take();
    let [a, b] = taken.devices.as_slice() else { panic!("{taken:?}") };
    assert_eq!((a.at.timestamp(), b.at.timestamp()), (2, 1));
    assert!(batch.is_empty());
    // Positions in the batch that was taken don't count for the next one.
    batch.add_devices(vec![update("b", 3), update("a", 3)]);
    let devices: Vec<_> = batch.take().devices.into_iter().map(|d| d.device_id).collect();
    assert_eq!(devices, ["b", "a"]);
}

#[test]
fn a_device_that_comes_back_is_urgent_and_one_that_is_heard_is_not() {
    let mut batch = ControlBatch::default();
    batch.add_devices(vec![DeviceUpdate { heard: true, ..update("a", 1) }]);
    assert!(!batch.is_urgent());
    batch.add_devices(vec![DeviceUpdate { back: true, ..update("a", 2) }]);
    assert!(batch.is_urgent());
}

#[test]
fn people_wait_for_alerts_answers_and_changes_of_status() {
    use acuvim_control::{AlertChange, StatusStep};
    use acuvim_model::DeviceStatus;
    let urgent = |fill: fn(&mut ControlBatch)| {
        let mut batch = ControlBatch::default();
        fill(&mut batch);
        (batch.is_urgent(), batch.is_empty())
    };
    assert_eq!(urgent(|_| {}), (false, true));
    assert_eq!(urgent(|b| b.add_devices(vec![update("a", 1)])), (false, false));
    let evaluated = |fill: fn(&mut BatchEvaluation)| {
        let mut found = BatchEvaluation::default();
        fill(&mut found);
        let mut batch = ControlBatch::default();
        batch.add_evaluation(found);
        batch.is_urgent()
    };
    assert!(evaluated(|f| f.alerts.push(AlertChange::Withdraw { id: uuid::Uuid::nil() })));
    assert!(!evaluated(|f| f.anchors.push(("a".into(), 1, 5))));
    assert!(!evaluated(|f| f.repairs.push(acuvim_control::RepairChange::Done("a".into()))));
    assert!(evaluated(|f| {
        let (from, to) = (DeviceStatus::Online, DeviceStatus::Offline);
        let at = update("a", 1).at;
        let status = vec![StatusStep { from, to, at, reason: "silent" }];
        f.devices.push(DeviceUpdate { status, ..update("a", 1) });
    }));
}

#[test]
fn nothing_that_was_added_is_lost_or_reordered() {
    use acuvim_control::{AlertChange, RepairChange, ReplayOutcome};
    let id = uuid::Uuid::from_u128;
    let mut batch = ControlBatch::default();
    for n in 0..3 {
        batch.add_evaluation(BatchEvaluation {
            alerts: vec![AlertChange::Withdraw { id: id(n) }],
            repairs: vec![RepairChange::Done(n.to_string())],
            anchors: vec![(n.to_string(), 1, 5)],
            devices: vec![update("a", 1)],
        });
        let letter = Identity { epoch: 0, partition: 0, offset: 1, item: 0 };
        batch.add_replays(vec![(letter, ReplayOutcome::Stored)]);
        let clockless = vec![(n.to_string(), 1, update("a", 1).at)];
        let mut decoded = Changes::default();
        decoded.dead_letters.clockless = clockless;
        batch.add_decoded(decoded);
    }
    let taken = batch.take();
    let ids: Vec<_> = taken
        .alerts
        .iter()
        .map(|change| match change {
            AlertChange::Withdraw { id } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [id(0), id(1), id(2)]);
    let letters = &taken.dead_letters;
    assert_eq!((letters.anchors.len(), letters.clockless.len(), letters.replayed.len()), (3, 3, 3));
    assert_eq!((taken.repairs.len(), taken.devices.len()), (3, 1));
    assert!(batch.is_empty());
}

#[test]
fn only_devices_with_a_reading_count_as_reported() {
    let mut batch = ControlBatch::default();
    let at = time::to_datetime(5 * time::SECOND);
    batch.add_devices(vec![update("a", 9), DeviceUpdate { telemetry: at, ..update("b", 9) }]);
    let reported: Vec<_> = batch.devices_with_readings().collect();
    assert_eq!(reported, [("b".to_owned(), 9 * time::SECOND)], "by the time of the update");
}
