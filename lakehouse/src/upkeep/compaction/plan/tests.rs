use std::{sync::Arc, time::Duration};

use object_store::{ObjectMeta, path::Path};

use super::*;
use crate::delta::snapshot::Bounds;

const POLICY: CompactionPolicy = CompactionPolicy {
    fan_in: 4,
    max_files: 8,
    file_bytes: 100 << 20,
    settle: Duration::from_secs(600),
};

/// Long after every file below.
const LATER: Micros = 10 * DAY;

fn file(date: i32, size: u64, devices: Option<(&str, &str)>) -> File {
    let bounds = Bounds {
        by: devices.map(|(first, last)| (first.into(), last.into())),
        ..Bounds::default()
    };
    let meta = ObjectMeta {
        location: Path::from(format!("{date}/{size}/{devices:?}")),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size,
        e_tag: None,
        version: None,
    };
    File { meta, date, rows: Some(1), bounds: Arc::new(bounds), since: 0 }
}

fn sizes(files: Option<Vec<File>>) -> Vec<u64> {
    files.into_iter().flatten().map(|f| f.meta.size).collect()
}

#[test]
fn a_day_never_has_many_files_of_a_class() {
    let mut files = Vec::new();
    for flush in 0..3000_u64 {
        files.push(file(20_000, 30_000 + flush % 7, None));
        while let Some(due) = due(&files, POLICY, 0) {
            let merged = due.iter().map(|f| f.meta.size).sum();
            files.retain(|f| !due.iter().any(|d| d.meta == f.meta));
            files.push(file(20_000, merged, None));
        }
        assert!(files.len() <= 24, "{} files after {flush} flushes", files.len());
    }
}

#[test]
fn days_are_not_mixed_and_large_files_left_alone() {
    let large = POLICY.file_bytes;
    assert!(due(&[file(0, 10, None), file(1, 10, None)], POLICY, LATER).is_none());
    let two = [file(0, large, Some(("a", "b"))), file(0, large - 1, Some(("c", "d")))];
    assert!(due(&two, POLICY, LATER).is_none());
    let files = [file(1, 10, None), file(0, 10, None), file(1, 11, None)];
    let due = due(&files, POLICY, LATER).expect("a day with two");
    assert!(due.iter().all(|f| f.date == 1));
}

#[test]
fn a_day_that_is_over_ends_as_files_that_follow_each_other() {
    let mb = 1 << 20;
    let files = [
        file(0, 90 * mb, Some(("a", "f"))),
        file(0, 80 * mb, Some(("e", "k"))),
        file(0, 95 * mb, Some(("m", "z"))),
    ];
    assert_eq!(sizes(due(&files, POLICY, LATER)), [90 * mb, 80 * mb]);
    assert!(due(&files, POLICY, DAY - 1).is_none(), "the day is not over");
    let settled = [file(0, 90 * mb, Some(("a", "f"))), file(0, 80 * mb, Some(("g", "k")))];
    assert!(due(&settled, POLICY, LATER).is_none());
    let neighbours = [file(0, 30 * mb, Some(("a", "f"))), file(0, 40 * mb, Some(("g", "k")))];
    assert_eq!(sizes(due(&neighbours, POLICY, LATER)), [30 * mb, 40 * mb]);
}

#[test]
fn late_rows_are_folded_in_when_it_is_worth_it_or_after_a_day() {
    let mb = 1 << 20;
    let (big, second) = (file(0, 90 * mb, Some(("a", "k"))), file(0, 90 * mb, Some(("l", "z"))));
    let mut late = file(0, 20 * mb, Some(("c", "c")));
    late.meta.last_modified += chrono::TimeDelta::days(5);
    let files = [big.clone(), second.clone(), late.clone()];
    let at = |minutes: i64| 5 * DAY + minutes * 60_000_000;
    assert!(due(&files, POLICY, at(5)).is_none(), "more may come");
    assert_eq!(sizes(due(&files, POLICY, at(11))), [90 * mb, 20 * mb]);
    late.meta.size = mb;
    let files = [big, second, late];
    assert!(due(&files, POLICY, at(11)).is_none(), "too little for so much work");
    assert_eq!(sizes(due(&files, POLICY, at(24 * 60))), [90 * mb, mb]);
}

#[test]
fn of_many_that_overlap_the_first_are_merged_first() {
    let files: Vec<File> =
        (0..30_u64).map(|n| file(0, (60 << 20) + n, Some((&format!("{n:02}"), "99")))).collect();
    let due = due(&files, POLICY, LATER).expect("they overlap");
    assert_eq!(due.len(), POLICY.max_files);
    assert_eq!(due[0].bounds.by, Some(("00".into(), "99".into())));
}

#[test]
fn a_device_larger_than_a_file_and_rows_of_no_device_come_to_rest() {
    let mb = 1 << 20;
    let large = [
        file(0, 100 * mb, Some(("d", "d"))),
        file(0, 99 * mb, Some(("d", "d"))),
        file(0, 20 * mb, Some(("d", "d"))),
        file(0, 98 * mb, Some(("e", "k"))),
    ];
    assert_eq!(sizes(due(&large, POLICY, LATER)), Vec::<u64>::new());
    let unknown = [
        file(0, 90 * mb, None),
        file(0, 91 * mb, None),
        file(0, 92 * mb, Some(("a", "b"))),
        file(0, 93 * mb, Some(("c", "d"))),
    ];
    assert!(due(&unknown, POLICY, LATER).is_none());
}

#[test]
fn what_is_left_of_late_rows_is_not_merged_across_a_day_that_is_in_order() {
    let mb = 1 << 20;
    let mut files = Vec::new();
    for n in 0..12_u64 {
        files.push(file(0, 90 * mb + n, Some((&format!("{n:02}a"), &format!("{n:02}b")))));
        files.push(file(0, 15 * mb + n, Some((&format!("{n:02}c"), &format!("{n:02}d")))));
    }
    assert!(small(&files, POLICY, LATER).is_none());
    assert!(small(&files, POLICY, 0).is_some(), "while the day lasts it is");
}
