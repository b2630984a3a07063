use std::{sync::Arc, time::Duration};

use object_store::{ObjectMeta, path::Path};

use super::*;
use crate::delta::snapshot::{Bounds, MinMax};

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
        by: devices.map(|(min, max)| MinMax { min: min.into(), max: max.into() }),
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
    assert_eq!(due[0].bounds.by, Some(MinMax { min: "00".into(), max: "99".into() }));
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

#[test]
fn sizes_within_a_factor_of_eight_are_one_class() {
    let kib = 1 << 10;
    assert_eq!(size_class(0), 0);
    assert_eq!(size_class(256 * kib - 1), 0);
    assert_eq!((size_class(256 * kib), size_class(2048 * kib - 1)), (1, 1));
    assert_eq!((size_class(2048 * kib), size_class(16_384 * kib - 1)), (2, 2));
    assert_eq!(size_class(16_384 * kib), 3);
    assert!(size_class(u64::MAX) < 20);
}

#[test]
fn a_day_is_over_at_the_midnight_after_it() {
    assert!(!is_over(0, DAY - 1));
    assert!(is_over(0, DAY));
    assert!(is_over(-1, 0) && !is_over(-1, -1));
}

#[test]
fn as_many_files_as_the_fan_in_are_due_and_no_fewer() {
    let files: Vec<File> = (0..4).map(|n| file(20_000, 1000 + n, None)).collect();
    assert!(due(&files[..3], POLICY, 0).is_none());
    assert_eq!(due(&files, POLICY, 0).expect("four").len(), 4);
    let half = POLICY.file_bytes / 2;
    let large: Vec<File> = (0..4).map(|_| file(20_000, half, None)).collect();
    assert!(due(&large, POLICY, 0).is_none(), "they are large enough");
}

#[test]
fn of_too_many_files_the_smallest_are_merged() {
    let files: Vec<File> = (0..20).map(|n| file(20_000, 1000 - n, None)).collect();
    assert_eq!(sizes(due(&files, POLICY, 0)), (981..=988).collect::<Vec<_>>());
}

#[test]
fn a_fan_in_of_less_than_two_is_two() {
    let policy = CompactionPolicy { fan_in: 0, max_files: 0, ..POLICY };
    assert!(
        due(&[file(20_000, 10, None)], policy, 0).is_none(),
        "a file alone is merged with none"
    );
    let three: Vec<File> = (0..3).map(|n| file(20_000, 10 + n, None)).collect();
    assert_eq!(sizes(due(&three, policy, 0)), [10, 11]);
}

#[test]
fn a_device_that_ends_one_full_file_may_begin_the_next() {
    let mb = 1 << 20;
    let follow = |bytes: u64, last: &str, next: &str| {
        let before = file(0, bytes, Some(("a", last)));
        follows(&before, &file(0, mb, Some((next, "z"))), POLICY.file_bytes)
    };
    assert!(follow(10 * mb, "c", "d"));
    assert!(follow(90 * mb, "d", "d"), "nine tenths are full");
    assert!(!follow(90 * mb - 100, "d", "d"));
    assert!(!follow(90 * mb, "e", "d"));
    let unknown = file(0, mb, None);
    assert!(!follows(&unknown, &file(0, mb, Some(("a", "b"))), POLICY.file_bytes));
}

#[test]
fn files_that_do_not_overlap_and_fill_their_size_are_left() {
    let mb = 1 << 20;
    let merged = [file(0, 41 * mb, Some(("a", "c"))), file(0, 40 * mb, Some(("d", "f")))];
    assert!(!would_merge_again(&merged, POLICY), "together they exceed four fifths of a file");
    let small = [file(0, 40 * mb, Some(("a", "c"))), file(0, 40 * mb, Some(("d", "f")))];
    assert!(would_merge_again(&small, POLICY));
    let overlap = [file(0, 90 * mb, Some(("a", "d"))), file(0, 90 * mb, Some(("d", "f")))];
    assert!(!would_merge_again(&overlap, POLICY), "one device that is larger than a file");
    assert!(!would_merge_again(&[], POLICY) && !would_merge_again(&small[..1], POLICY));
}

#[test]
fn the_oldest_day_is_put_in_order_first() {
    let files: Vec<File> = [3, 1, 2]
        .into_iter()
        .flat_map(|day| [file(day, 10, Some(("a", "b"))), file(day, 11, Some(("a", "b")))])
        .collect();
    let due = due(&files, POLICY, LATER).expect("three days");
    assert_eq!(due.iter().map(|file| file.date).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_file_that_seems_to_come_from_the_future_waits() {
    let mut files = [file(0, 20 << 20, Some(("a", "f"))), file(0, 21 << 20, Some(("e", "k")))];
    for file in &mut files {
        file.meta.last_modified += chrono::TimeDelta::days(30);
    }
    assert!(due(&files, POLICY, LATER).is_none());
    assert!(due(&files, POLICY, LATER + 30 * DAY).is_some());
}
