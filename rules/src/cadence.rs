//! How far apart a device's readings are by themselves. What lies between two of them is known only as
//! far as that goes: a logger that sends every hour says as much as one that sends every ten seconds.

use acuvim_schemas::{Micros, time::SECOND};

/// Readings no further apart than this are of one piece, whatever their device does.
pub const GAP: Micros = 15 * 60 * SECOND;

/// Readings further apart than this say nothing of the time between them, whatever their device does.
pub const LONGEST_GAP: Micros = 4 * 86_400 * SECOND;

/// How many of its steps a device may leave out.
const STEPS: i64 = 4;

/// Readings by which a device's step is known.
const KEPT: usize = 6;

/// The times of a device's last readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// The newest last; the first ones say nothing while there are fewer.
    times: [Micros; KEPT],
    count: usize,
}

impl Recent {
    /// The last of these, which are in order.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = Micros>) -> Self {
        let mut recent = Self::default();
        times.into_iter().for_each(|ts| recent.push(ts));
        recent
    }

    /// Takes the next.
    pub fn push(&mut self, ts: Micros) {
        self.times.rotate_left(1);
        if let Some(last) = self.times.last_mut() {
            *last = ts;
        }
        self.count = KEPT.min(self.count + 1);
    }

    /// The time of the last one.
    #[must_use]
    pub fn newest(&self) -> Option<Micros> {
        self.times.last().copied().filter(|_| self.count > 0)
    }

    /// Whether a device's step is known as well as it can be.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count == KEPT
    }

    /// How far apart they are, where they come in pairs the pairs: one outage does not count.
    #[must_use]
    pub fn step(&self) -> Option<Micros> {
        let known = self.times.iter().skip(KEPT - self.count);
        let mut steps: Vec<Micros> =
            known.clone().skip(1).zip(known).map(|(after, before)| after - before).collect();
        steps.sort_unstable();
        steps.get(steps.len().saturating_sub(2)).copied()
    }

    /// Whether nothing is known of the time between the last of them and the next: for longer than is
    /// given, or than the device's own step explains.
    #[must_use]
    pub fn is_torn(&self, ts: Micros, gap: Option<Micros>) -> bool {
        let Some(apart) = self.newest().map(|newest| ts - newest) else { return false };
        match gap {
            Some(gap) => apart > gap,
            // The step is looked at only where it matters.
            None => apart > GAP && apart > self.gap(),
        }
    }

    fn gap(&self) -> Micros {
        self.step().map_or(GAP, |step| (STEPS * step).clamp(GAP, LONGEST_GAP))
    }
}

/// A moment before some readings from which on judging them gives the same as judging all there are:
/// nothing that waits there is still waiting at `from`. `times` are the last before `from`, in order;
/// none if they don't go back far enough.
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
    fn the_gap_follows_the_devices_own_step() {
        for (seconds, next, torn) in [
            // Every ten seconds: a quarter of an hour.
            (&[0, 10, 20, 30][..], 930, false),
            (&[0, 10, 20, 30], 931, true),
            // Every sixteen minutes, every hour, every day: four times that.
            (&[0, 960, 1920], 1920 + 960, false),
            (&[0, 3600, 7200, 10_800], 10_800 + 4 * 3600, false),
            (&[0, 3600, 7200, 10_800], 10_801 + 4 * 3600, true),
            (&[0, 86_400, 172_800], 259_200, false),
            (&[0, 86_400, 172_800, 259_200], 259_201 + 4 * 86_400, true),
            // One that was asked for in between, and one outage, change nothing.
            (&[0, 960, 965, 1920], 2880, false),
            (&[0, 10, 20, 7220], 12_000, true),
            // Of one reading nothing is known but that it was there.
            (&[0], 901, true),
            (&[], 901, false),
        ] {
            assert_eq!(recent(seconds).is_torn(next * SECOND, None), torn, "{seconds:?} {next}");
        }
        assert!(recent(&[0, 960, 1920]).is_torn(2880 * SECOND, Some(GAP)), "a rule's own");
    }

    #[test]
    fn what_waits_is_over_before_a_repair_matters() {
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
