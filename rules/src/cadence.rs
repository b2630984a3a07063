//! The usual distance between the readings of a device. A longer gap is torn: nothing is known about the time
//! in between. An hourly logger must not count as torn after each reading, so the limit depends on the device.

use acuvim_wire::{Micros, time::SECOND};

/// A gap up to this is never torn, unless the rule has its own limit.
pub const GAP: Micros = 15 * 60 * SECOND;

/// A longer gap is always torn, unless the rule has its own limit.
pub const LONGEST_GAP: Micros = 4 * 86_400 * SECOND;

/// A gap up to this many usual steps of the device is not torn.
const STEPS: i64 = 4;

/// Readings that the usual step is computed from.
const KEPT: usize = 6;

/// The times of the last readings of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// The newest is last. With fewer readings the first elements are unused.
    times: [Micros; KEPT],
    count: usize,
}

impl Recent {
    /// From times in ascending order.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = Micros>) -> Self {
        let mut recent = Self::default();
        times.into_iter().for_each(|ts| recent.push(ts));
        recent
    }

    /// Adds the next reading.
    pub fn push(&mut self, ts: Micros) {
        self.times.rotate_left(1);
        if let Some(last) = self.times.last_mut() {
            *last = ts;
        }
        self.count = KEPT.min(self.count + 1);
    }

    /// The time of the newest reading.
    #[must_use]
    pub fn newest(&self) -> Option<Micros> {
        self.times.last().copied().filter(|_| self.count > 0)
    }

    /// Whether there are enough readings for the usual step.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count == KEPT
    }

    /// The usual distance between readings: the second largest of the known ones. The largest is left out so
    /// that one outage does not count, and small ones don't matter, so that readings may come in pairs.
    #[must_use]
    pub fn step(&self) -> Option<Micros> {
        let known = self.times.iter().skip(KEPT - self.count);
        let mut steps: Vec<Micros> =
            known.clone().skip(1).zip(known).map(|(after, before)| after - before).collect();
        steps.sort_unstable();
        steps.get(steps.len().saturating_sub(2)).copied()
    }

    /// Whether the gap between the newest reading and the next one, at `ts`, is torn: longer than `gap` or,
    /// without it, than the usual step of the device explains.
    #[must_use]
    pub fn is_torn(&self, ts: Micros, gap: Option<Micros>) -> bool {
        let Some(apart) = self.newest().map(|newest| ts - newest) else { return false };
        match gap {
            Some(gap) => apart > gap,
            // The first comparison is cheap, and mostly enough.
            None => apart > GAP && apart > self.gap(),
        }
    }

    fn gap(&self) -> Micros {
        self.step().map_or(GAP, |step| (STEPS * step).clamp(GAP, LONGEST_GAP))
    }
}

/// A moment from which on evaluating readings gives the same results at `from` as evaluating all readings
/// there are: whatever a rule waits for at that moment is decided before `from`, because it waits for `wait`
/// at most.
///
/// `times` are the last readings before `from`, in ascending order. `None` if they don't go back far enough.
#[must_use]
pub fn certain_before(times: &[Micros], from: Micros, wait: Micros) -> Option<Micros> {
    let (mut widest, mut behind) = (GAP, from);
    for ts in times.iter().rev().copied() {
        let apart = behind - ts;
        if apart > LONGEST_GAP {
            return Some(behind - 1);
        }
        widest = widest.max(apart);
        if from - ts > wait + widest {
            return Some(ts - 1);
        }
        behind = ts;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(seconds: &[i64]) -> Recent {
        Recent::of(seconds.iter().map(|s| s * SECOND))
    }

    #[test]
    fn the_limit_follows_the_usual_step_of_the_device() {
        for (seconds, next, torn) in [
            // Every ten seconds: the limit is a quarter of an hour.
            (&[0, 10, 20, 30][..], 930, false),
            (&[0, 10, 20, 30], 931, true),
            // Every sixteen minutes, hour or day: the limit is four times that.
            (&[0, 960, 1920], 1920 + 960, false),
            (&[0, 3600, 7200, 10_800], 10_800 + 4 * 3600, false),
            (&[0, 3600, 7200, 10_800], 10_801 + 4 * 3600, true),
            (&[0, 86_400, 172_800], 259_200, false),
            (&[0, 86_400, 172_800, 259_200], 259_201 + 4 * 86_400, true),
            // An extra reading in between, and one outage, change nothing.
            (&[0, 960, 965, 1920], 2880, false),
            (&[0, 10, 20, 7220], 12_000, true),
            // One reading gives no step.
            (&[0], 901, true),
            (&[], 901, false),
        ] {
            assert_eq!(recent(seconds).is_torn(next * SECOND, None), torn, "{seconds:?} {next}");
        }
        assert!(recent(&[0, 960, 1920]).is_torn(2880 * SECOND, Some(GAP)), "a rule's own");
    }

    #[test]
    fn a_repair_starts_where_nothing_before_it_still_waits() {
        let times = |step: i64, n: i64| (0..n).map(|i| i * step * SECOND).collect::<Vec<_>>();
        let begin = |times: &[Micros], from: i64, wait: i64| {
            certain_before(times, from * SECOND, wait * SECOND)
        };
        assert_eq!(begin(&times(10, 1000), 9991, 30), Some(9060 * SECOND - 1));
        // An hourly logger: a step and the wait back, and that reading itself.
        assert_eq!(begin(&times(3600, 100), 356_401, 60), Some((356_400 - 7200) * SECOND - 1));
        // Torn there for certain.
        assert_eq!(begin(&[0, 500_000 * SECOND], 500_010, 60), Some(500_000 * SECOND - 1));
        assert_eq!(begin(&[500_000 * SECOND], 500_010, 60), None);
    }
}
