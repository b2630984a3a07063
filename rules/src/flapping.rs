//! Flapping: a condition that begins and ends again and again becomes one episode, which ends once the
//! condition has been over for a whole window.

use acuvim_wire::Micros;
use serde::{Deserialize, Serialize};

/// The highest number of episodes that a rule may require for flapping.
pub const MOST_FLAPS: usize = 10;

/// Beginnings that are kept: with the current episode as many as a rule can require.
const KEPT: usize = MOST_FLAPS - 1;

/// What a rule counts as flapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flapping {
    /// The number of episodes within the window from which on the condition flaps.
    pub count: usize,
    /// The time within which the episodes begin.
    pub window: Micros,
}

/// The beginnings of the last episodes of a rule on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Micros>", into = "Vec<Micros>")]
pub struct Begun {
    /// The newest is last. With fewer episodes the first elements are unused.
    times: [Micros; KEPT],
    count: usize,
}

impl Begun {
    /// Adds the next beginning.
    pub fn push(&mut self, ts: Micros) {
        self.times.rotate_left(1);
        if let Some(last) = self.times.last_mut() {
            *last = ts;
        }
        self.count = KEPT.min(self.count + 1);
    }

    fn times(&self) -> impl Iterator<Item = Micros> {
        self.times.iter().skip(KEPT - self.count).copied()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether an episode that begins at `ts` is flapping.
    #[must_use]
    pub fn is_flapping(&self, ts: Micros, flapping: Flapping) -> bool {
        self.recent(ts, flapping) + 1 >= flapping.count
    }

    /// The number of beginnings within the window before `ts`.
    #[must_use]
    pub fn recent(&self, ts: Micros, flapping: Flapping) -> usize {
        // Saturating, because a stored time may be any number.
        self.times().filter(|begun| *begun > ts.saturating_sub(flapping.window)).count()
    }
}

impl From<Vec<Micros>> for Begun {
    fn from(times: Vec<Micros>) -> Self {
        let mut begun = Self::default();
        times.into_iter().for_each(|ts| begun.push(ts));
        begun
    }
}

impl From<Begun> for Vec<Micros> {
    fn from(begun: Begun) -> Self {
        begun.times().collect()
    }
}

#[cfg(test)]
mod tests;
