//! The control writer alone, on a database of its own, without a log, a lake or a partition task.

use std::time::Duration;

use acuvim_control::{Changes, Control, DeviceUpdate, OffsetMove, Resend};
use acuvim_wire::time;

use super::{ControlTarget, ControlWriter, WritePolicy, task::CHUNK};
use crate::{
    partition::{
        evaluate::{BatchEvaluation, UnsavedStates},
        stop::StopReason,
    },
    state::StateSender,
};

const PARTITION: u32 = 3;

/// States that a test has evaluated.
#[derive(Default)]
struct States(Vec<(String, Option<String>)>);

impl UnsavedStates for States {
    fn has_unsaved_states(&self) -> bool {
        !self.0.is_empty()
    }

    fn take_unsaved_states(&mut self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.0)
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    control: Control,
    state: StateSender,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
        Self { _dir: dir, control, state: StateSender::new([PARTITION]) }
    }

    fn writer(&self, stored_next: Option<i64>) -> ControlWriter {
        let target = ControlTarget {
            control: self.control.clone(),
            epoch: 0,
            partition: PARTITION,
            state: self.state.clone(),
            cursor: None,
        };
        // Commands are never checked here, so that nothing is due without a change.
        let command_check = Duration::from_secs(3600);
        let policy = WritePolicy { partitions: 8, command_check, resend: Resend::default() };
        ControlWriter::start(target, policy, stored_next)
    }

    async fn offset(&self) -> Option<i64> {
        self.control.offset(0, PARTITION).await.expect("control answers")
    }

    async fn has_device(&self, id: &str) -> bool {
        self.control.device(id, None).await.expect("control answers").is_some()
    }
}

/// Has everything stored up to an offset, however long the database takes.
async fn store(writer: &mut ControlWriter, next: i64, states: &mut States) {
    let stored = async {
        loop {
            match writer.settle(next, states).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => panic!("the writer ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stored).await.expect("it is stored in time");
}

fn measured(device: &str, second: i64) -> DeviceUpdate {
    let at = time::to_datetime(second * time::SECOND).unwrap_or_default();
    DeviceUpdate { telemetry: Some(at), ..DeviceUpdate::new(device, at) }
}

fn devices(devices: Vec<DeviceUpdate>) -> Changes {
    Changes { devices, ..Changes::default() }
}

#[tokio::test]
async fn changes_are_stored_with_the_offset_behind_them() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    let mut states = States(vec![("a".into(), Some("[]".into()))]);
    writer.add_decoded(devices(vec![measured("a", 100)]));
    store(&mut writer, 10, &mut states).await;
    assert_eq!(fixture.offset().await, Some(10));
    assert!(fixture.has_device("a").await);
    let stored = fixture.control.judgements().await.expect("control answers");
    assert_eq!(stored, [("a".to_owned(), "[]".to_owned())]);
    assert!(states.0.is_empty(), "states are taken once");
}

#[tokio::test]
async fn records_that_are_read_again_do_not_set_the_offset_back() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    let mut states = States::default();
    store(&mut writer, 10, &mut states).await;
    writer.add_decoded(devices(vec![measured("a", 100)]));
    store(&mut writer, 4, &mut states).await;
    assert_eq!(fixture.offset().await, Some(10));
    assert!(fixture.has_device("a").await, "what was found is stored all the same");
}

#[tokio::test]
async fn a_writer_whose_partition_was_taken_over_stores_nothing() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(Some(10));
    let theirs = OffsetMove { partition: PARTITION, expected: None, next: 20 };
    let theirs = Changes { moves: vec![theirs], ..Changes::default() };
    fixture.control.apply(0, &theirs).await.expect("control answers");
    writer.add_decoded(devices(vec![measured("a", 100)]));
    let ended = writer.finish(12, &mut States::default()).await;
    assert!(matches!(ended, Err(StopReason::Overtaken)));
    assert_eq!(fixture.offset().await, Some(20));
    assert!(!fixture.has_device("a").await);
}

#[tokio::test]
async fn a_batch_of_several_chunks_is_stored_whole() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    let count = 2 * CHUNK + CHUNK / 2;
    let updates = (0..count).map(|n| measured(&format!("d{n}"), 100)).collect();
    writer.add_decoded(devices(updates));
    writer.finish(10, &mut States::default()).await.map_err(|_| "it ended").expect("stored");
    assert_eq!(fixture.offset().await, Some(10));
    for device in ["d0".to_owned(), format!("d{CHUNK}"), format!("d{}", count - 1)] {
        assert!(fixture.has_device(&device).await, "{device}");
    }
}

#[tokio::test]
async fn urgent_changes_are_due_at_once_and_nothing_is_not() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(Some(0));
    let states = States::default();
    assert!(!writer.is_due(&states));
    writer.add_evaluation(BatchEvaluation {
        devices: vec![DeviceUpdate { back: true, ..measured("a", 100) }],
        ..BatchEvaluation::default()
    });
    assert!(writer.is_due(&states));
}

#[tokio::test]
async fn readings_are_reported_now_and_then() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    let at = |second: i64| second * time::SECOND;
    assert!(writer.is_reading_due("a", at(100)));
    writer.add_decoded(devices(vec![measured("a", 100)]));
    assert!(writer.is_reading_due("a", at(101)), "it was not written yet");
    store(&mut writer, 10, &mut States::default()).await;
    assert!(!writer.is_reading_due("a", at(129)));
    assert!(writer.is_reading_due("a", at(130)));
}

#[tokio::test]
async fn changes_gather_while_control_is_away() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    let mut states = States::default();
    let mut state = fixture.state.watch();
    fixture.control.close().await;
    // The first batch is with the task, the second one waits for it, and the others stay with the
    // writer.
    for second in 0..4 {
        writer.add_decoded(devices(vec![measured("a", second)]));
        assert!(writer.settle(second, &mut states).await.is_ok_and(|stored| !stored));
    }
    let reported = state.wait_for(|state| state.control_trouble.is_some());
    let reported = tokio::time::timeout(Duration::from_secs(60), reported).await;
    assert!(reported.is_ok_and(|state| state.is_ok()), "the outage is reported");
}

#[tokio::test]
async fn a_writer_that_has_ended_says_so_and_takes_nothing_more() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    writer.finish(5, &mut States::default()).await.map_err(|_| "it ended").expect("stored");
    assert_eq!(fixture.offset().await, Some(5));
    writer.add_decoded(devices(vec![measured("a", 100)]));
    assert!(writer.write(9, &mut States::default()).await.is_ok());
    assert_eq!(fixture.offset().await, Some(5), "nobody writes any more");
}

#[tokio::test]
async fn the_offset_alone_is_written_where_control_had_none() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.writer(None);
    store(&mut writer, 0, &mut States::default()).await;
    assert_eq!(fixture.offset().await, Some(0), "even at the beginning of the log");
}
