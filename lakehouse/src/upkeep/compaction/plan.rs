//! Decides which files are merged next. Pure.
//!
//! During a day, small files of a size class are merged into larger ones. Once the day is over and no
//! file has come for a while, overlapping files are merged into files with consecutive device ranges.
//! Late rows are folded in the same way.

use std::collections::BTreeMap;

use acuvim_wire::time::{DAY, Micros};

use super::policy::CompactionPolicy;
use crate::delta::snapshot::File;

/// Late rows are folded in soon if they are at least one part in this many of the bytes that have to be
/// rewritten. Fewer wait for up to a day.
const LATE_SHARE: u64 = 16;

/// The files to merge now, if any.
pub(super) fn due(files: &[File], policy: CompactionPolicy, now: Micros) -> Option<Vec<File>> {
    // Small files first: they slow down every query of today, while order within past days only
    // helps some.
    small(files, policy, now).or_else(|| unsettled(files, policy, now))
}

/// In a past day only size classes up to this one, 2 MiB, are merged by class: larger files may be in
/// order already.
const LATE_CLASS: u32 = 1;

/// The size class of a day with the most files, if it has enough.
fn small(files: &[File], policy: CompactionPolicy, now: Micros) -> Option<Vec<File>> {
    let mut classes: BTreeMap<(u32, i32), Vec<&File>> = BTreeMap::new();
    let wanted = |file: &&File| {
        file.meta.size < policy.file_bytes / 2
            && (!is_over(file.date, now) || size_class(file.meta.size) <= LATE_CLASS)
    };
    for file in files.iter().filter(wanted) {
        classes.entry((size_class(file.meta.size), file.date)).or_default().push(file);
    }
    let (_, due) = classes
        .into_iter()
        .filter(|(_, files)| files.len() >= policy.fan_in.max(2))
        .max_by_key(|(_, files)| files.len())?;
    let mut due: Vec<File> = due.into_iter().cloned().collect();
    // If there are too many, the smallest go first: they gain most.
    due.sort_by_key(|f| f.meta.size);
    due.truncate(policy.max_files.max(2));
    Some(due)
}

fn is_over(day: i32, now: Micros) -> bool {
    (i64::from(day) + 1) * DAY <= now
}

/// Sizes within a factor of eight are one class, from 256 KiB on. So each row is rewritten only a few
/// times, and a day has at most `fan_in` files in each of a few classes.
fn size_class(bytes: u64) -> u32 {
    (bytes >> 18).checked_ilog2().map_or(0, |log| 1 + log / 3)
}

/// Files of a past day that overlap, or are more than necessary; the oldest day first.
fn unsettled(files: &[File], policy: CompactionPolicy, now: Micros) -> Option<Vec<File>> {
    let mut days: BTreeMap<i32, Vec<&File>> = BTreeMap::new();
    for file in files.iter().filter(|f| is_over(f.date, now)) {
        days.entry(file.date).or_default().push(file);
    }
    let clusters = days.into_values().flat_map(|day| clusters(day, policy.file_bytes));
    clusters.filter(|cluster| is_ripe(cluster, policy, now)).map(owned(policy)).next()
}

/// Whether files that one merge has written would be merged with each other again.
pub(super) fn would_merge_again(merged: &[File], policy: CompactionPolicy) -> bool {
    !clusters(merged.iter().collect(), policy.file_bytes).is_empty()
}

/// The first files of a cluster, as many as may be merged at once. The next merge continues after their
/// ranges.
fn owned(policy: CompactionPolicy) -> impl Fn(Vec<&File>) -> Vec<File> {
    move |cluster| cluster.into_iter().take(policy.max_files.max(2)).cloned().collect()
}

/// Groups of at least two files that should be fewer: files whose device ranges overlap, and neighbours
/// that together fit into one file.
fn clusters(mut day: Vec<&File>, file_bytes: u64) -> Vec<Vec<&File>> {
    // A file without min/max statistics may contain any device, so rewriting it alone gains nothing. It is
    // only merged together with others.
    day.sort_by(|a, b| a.bounds.by.cmp(&b.bounds.by).then_with(|| b.meta.size.cmp(&a.meta.size)));
    let mut clusters: Vec<Vec<&File>> = Vec::new();
    for file in day {
        match clusters.last_mut() {
            Some(cluster) if belongs(cluster, file, file_bytes) => cluster.push(file),
            _ => clusters.push(vec![file]),
        }
    }
    clusters.retain(|cluster| cluster.len() > 1);
    clusters
}

fn belongs(cluster: &[&File], file: &File, file_bytes: u64) -> bool {
    let bytes: u64 = cluster.iter().map(|f| f.meta.size).sum();
    let fits = bytes + file.meta.size <= file_bytes * 4 / 5;
    // Merging files without statistics does not separate their ranges. It can only reduce their number.
    let known = |f: &&&File| f.bounds.by.is_some();
    let overlaps =
        known(&&file) && cluster.iter().filter(known).any(|f| !follows(f, file, file_bytes));
    fits || overlaps
}

/// Whether the device range of one file follows that of another. A device with more rows than fit into a
/// file ends one and begins the next.
fn follows(before: &File, file: &File, file_bytes: u64) -> bool {
    let (Some(before_by), Some(by)) = (&before.bounds.by, &file.bounds.by) else { return false };
    let full = before.meta.size >= file_bytes / 10 * 9;
    before_by.max < by.min || (before_by.max == by.min && full)
}

/// Whether it is time to merge a cluster: no file has come for a while, or one has waited for long.
fn is_ripe(cluster: &[&File], policy: CompactionPolicy, now: Micros) -> bool {
    let settle = i64::try_from(policy.settle.as_micros()).unwrap_or(i64::MAX);
    let age = |f: &&File| now - f.meta.last_modified.timestamp_micros();
    let is_late = |f: &&&File| f.meta.size < policy.file_bytes / 2;
    let bytes = |files: &mut dyn Iterator<Item = &&File>| files.map(|f| f.meta.size).sum::<u64>();
    let late = bytes(&mut cluster.iter().filter(is_late));
    let folded = bytes(&mut cluster.iter()) - late;
    let quiet = cluster.iter().map(age).min().is_some_and(|age| age >= settle);
    let waited = cluster.iter().filter(is_late).map(age).max().unwrap_or(i64::MAX);
    // With the default of ten minutes, enough late rows are folded in after ten minutes without a new
    // file, or at the latest after an hour. Fewer wait for a day.
    if late * LATE_SHARE >= folded {
        quiet || waited >= settle.saturating_mul(6)
    } else {
        waited >= settle.saturating_mul(6).max(DAY.min(settle.saturating_mul(144)))
    }
}

#[cfg(test)]
mod tests;
