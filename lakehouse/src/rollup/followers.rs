//! Which stored quarters must be recomputed together with others, because their counters continue from
//! them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use acuvim_wire::time::Micros;

use super::{bucket::COUNTERS, carries::StoredQuarters, counting::Carry, keys::BucketKeys};

/// Adds stored quarters that depend on some: for each counter the next one that has it, and the one
/// after that, which may contradict its last value; and the ones before those that found suspect
/// readings.
pub(super) fn add_followers(keys: &mut BucketKeys, stored: &StoredQuarters) {
    for (device, starts) in keys {
        let Some(stored) = stored.get(device) else { continue };
        // Twice: the next quarter counts from the changed one, and the one after it can contradict
        // the next one's last value.
        for _ in 0..2 {
            let next: BTreeSet<Micros> =
                starts.iter().flat_map(|start| followers(*start, stored)).collect();
            starts.extend(next);
        }
        add_suspected(starts, stored);
    }
}

/// Adds the quarter before each one that found suspect readings, since these may lie there, and goes on
/// backwards while those found suspect readings too.
fn add_suspected(starts: &mut BTreeSet<Micros>, stored: &BTreeMap<Micros, Carry>) {
    let mut look: Vec<Micros> = starts.iter().copied().collect();
    while let Some(start) = look.pop() {
        if stored.get(&start).is_none_or(|bucket| bucket.suspects == 0) {
            continue;
        }
        let before = stored.range(..start).next_back().map(|(before, _)| *before);
        look.extend(before.filter(|before| starts.insert(*before)));
    }
}

/// The quarter that follows one, and those after it until each counter that continues has been read
/// again, or the meter was replaced.
fn followers(start: Micros, stored: &BTreeMap<Micros, Carry>) -> Vec<Micros> {
    let mut behind = stored.range(start + 1..).peekable();
    let Some(first) = behind.peek().map(|(start, _)| **start) else { return Vec::new() };
    let continues = |at: usize| stored.range(start + 1..).any(|(_, carry)| has_value(carry, at));
    let mut open: Vec<usize> = (0..COUNTERS).filter(|at| continues(*at)).collect();
    let mut followers = vec![first];
    let mut serial = None;
    for (start, carry) in behind {
        // Counters of another meter do not continue from those before it.
        let replaced = serial.is_some_and(|serial| serial != &carry.serial);
        let before = open.len();
        let reads = open.iter().any(|at| has_value(carry, *at));
        // A counter that is in doubt at the end of a quarter is not settled by it.
        open.retain(|at| !replaced && (!has_value(carry, *at) || is_in_doubt(carry, *at)));
        if (open.len() < before || reads) && *start != first {
            followers.push(*start);
        }
        if open.is_empty() {
            break;
        }
        serial = Some(&carry.serial);
    }
    followers
}

fn is_in_doubt(carry: &Carry, at: usize) -> bool {
    carry.tracks.get(at).is_some_and(|track| track.doubt().is_some())
}

fn has_value(carry: &Carry, at: usize) -> bool {
    carry.tracks.get(at).is_some_and(|track| track.believed().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counter::{Reading, Track},
        rollup::keys::QUARTER,
    };

    fn with_value(suspects: i32) -> Carry {
        let mut carry = Carry { suspects, ..Carry::default() };
        carry.tracks[0] = Track::behind(Reading { ts: 0, value: 1.0 }, 0, None);
        carry
    }

    /// The quarters to recompute, as numbers, if one of the stored ones is recomputed.
    fn added(stored: Vec<Carry>, recomputed: Micros) -> Vec<Micros> {
        let stored = (0..).map(|n| n * QUARTER).zip(stored).collect();
        let stored = StoredQuarters::from([("a".into(), stored)]);
        let mut keys = BucketKeys::from([("a".into(), BTreeSet::from([recomputed * QUARTER]))]);
        add_followers(&mut keys, &stored);
        keys.values().flatten().map(|start| start / QUARTER).collect()
    }

    #[test]
    fn the_next_two_quarters_with_a_counter_are_added() {
        let stored = (0..5).map(|_| with_value(0)).collect();
        assert_eq!(added(stored, 1), [1, 2, 3]);
    }

    #[test]
    fn a_quarter_in_which_a_counter_was_not_read_does_not_end_the_search() {
        let stored = vec![with_value(0), Carry::default(), with_value(0)];
        assert_eq!(added(stored, 0), [0, 1, 2]);
    }

    #[test]
    fn quarters_before_suspect_readings_are_added() {
        let stored = vec![with_value(0), with_value(0), with_value(1), with_value(1)];
        assert_eq!(added(stored, 3), [1, 2, 3]);
    }
}
