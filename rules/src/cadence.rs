//! The usual distance between the readings of a device. A longer gap is torn: nothing is known about the time
//! in between. An hourly logger must not count as torn after each reading, so the limit depends on the device.

use acuvim_wire::{Micros, time::SECOND};

/// A gap up to this is never torn, unless the rule has its own limit.
pub const GAP: Micros = 15 * 60 * SECOND;

/// A longer gap is always torn, unless the rule has its own limit.
pub const LONGEST_GAP: Micros = 4 * 86_400 * SECOND;

/// A gap up to this many usual steps of the device is not torn.
// A bad line loses a few readings in a row; more of them are an outage.
const STEPS: i64 = 4;

/// Readings that the usual step is computed from.
// Each further one would cost eight bytes for every device of the fleet.
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
        // A repair begins behind so long a gap and knows nothing from before it. It must find what the stream
        // has found, so the stream forgets it too.
        if self.newest().is_some_and(|newest| ts - newest > LONGEST_GAP) {
            *self = Self::default();
        }
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
        // With a single distance this is that one, which is better than none.
        steps.get(steps.len().saturating_sub(2)).copied()
    }

    /// Whether the gap between the newest reading and the next one, at `ts`, is torn: longer than `gap` or,
    /// without it, than the usual step of the device explains.
    #[must_use]
    pub fn is_torn(&self, ts: Micros, gap: Option<Micros>) -> bool {
        // Before the first reading there is nothing that a gap could tear.
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
            // Every rule starts waiting again behind so long a gap, whatever came before it.
            return Some(behind - 1);
        }
        widest = widest.max(apart);
        if from - ts > wait + widest {
            // Whatever a rule waited for at this reading has either come to pass or been torn by a
            // gap before `from`.
            return Some(ts - 1);
        }
        behind = ts;
    }
    None
}

#[cfg(test)]
mod tests;
