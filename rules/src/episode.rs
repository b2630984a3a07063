//! The state machine of one rule on one device: quiet, pending, open, clearing. It takes readings one at a
//! time, in the order of event time. A condition that flaps is one episode, open until it has ceased.

use acuvim_model::event::Mark;
use acuvim_wire::Micros;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::flapping::{Begun, Flapping};

/// The result of a rule for one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadingState {
    /// The condition of the rule holds.
    Breach,
    /// The condition is over.
    Clear,
    /// Neither: the reading is inside the hysteresis.
    Between,
    /// A value that the rule needs is missing, so the state stays as it is.
    Unknown,
}

/// The times of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long the condition must hold before an episode is raised.
    pub hold: Micros,
    /// How long it must be over before the episode is cleared.
    pub clear: Micros,
    /// A longer gap between readings is torn. `None` uses the usual step of the device.
    pub gap: Option<Micros>,
    /// What counts as flapping, if anything does.
    pub flapping: Option<Flapping>,
}

impl Terms {
    /// How long the condition of an episode must be over. A flapping one must be calm for a whole window.
    fn clear_of(&self, episode: &Open) -> Micros {
        let window = self.flapping.filter(|_| episode.flapping).map_or(0, |f| f.window);
        self.clear.max(window)
    }

    /// The longest time that the rule waits for anything.
    #[must_use]
    pub fn longest_wait(&self) -> Micros {
        self.hold.max(self.clear).max(self.flapping.map_or(0, |f| f.window))
    }
}

/// An episode whose condition is not over, or not yet for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The id of its alert.
    pub id: Uuid,
    /// The first reading with the condition.
    pub started: Mark,
    /// The reading at which it had held for long enough.
    pub raised: Mark,
    /// Whether it is flapping: the last of several that began within the window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
}

/// The state of a rule on a device. `Quiet` is not stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// There is no condition.
    #[default]
    Quiet,
    /// The condition holds, but not for long enough; since this reading.
    Pending(Mark),
    /// An episode is open.
    Open {
        /// The episode.
        episode: Open,
        /// Since when it is over, not yet for long enough.
        clearing: Option<Mark>,
        /// When it and those before it began.
        #[serde(default, skip_serializing_if = "Begun::is_empty")]
        begun: Begun,
    },
    /// There is no condition, but earlier episodes still count for flapping.
    Rested(Begun),
    /// Pending, and earlier episodes still count for flapping.
    PendingAgain {
        /// The first reading with the condition.
        since: Mark,
        /// The beginnings of earlier episodes.
        begun: Begun,
    },
}

/// What a reading changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An episode is raised.
    Raised(Open),
    /// An episode is cleared.
    Cleared {
        /// The episode.
        episode: Open,
        /// The first reading after the condition: the end of the episode.
        end: Mark,
        /// The reading at which the condition had been over for long enough.
        confirmed: Mark,
    },
}

impl State {
    /// Takes the next reading. With `torn`, nothing is known about the time since the reading before it, so
    /// whatever waits starts waiting again. `id` makes the id of an episode from its first reading.
    pub fn step(
        &mut self,
        sample: Mark,
        torn: bool,
        reading: ReadingState,
        terms: Terms,
        id: impl FnOnce(&Mark) -> Uuid,
    ) -> Option<Step> {
        match (*self, reading) {
            (_, ReadingState::Unknown) => {
                // Only what waits is affected: an open episode needs a reading to end.
                if torn {
                    self.forget_waiting();
                }
                None
            }
            (
                Self::Quiet | Self::Pending(_) | Self::Rested(_) | Self::PendingAgain { .. },
                ReadingState::Breach,
            ) => {
                // Behind a gap the condition may have been over in between, so it counts from this
                // reading.
                let since = self.pending_since().filter(|_| !torn).unwrap_or(sample);
                self.breach(since, sample, terms, id)
            }
            (Self::Quiet | Self::Pending(_) | Self::Rested(_) | Self::PendingAgain { .. }, _) => {
                *self = Self::rest(self.begun(), sample.ts, terms);
                None
            }
            (Self::Open { episode, clearing, begun }, ReadingState::Clear) => {
                let end = clearing.filter(|_| !torn).unwrap_or(sample);
                if sample.ts - end.ts >= terms.clear_of(&episode) {
                    // Its beginning stays counted, because the next episode may make it flap.
                    *self = Self::rest(begun, sample.ts, terms);
                    Some(Step::Cleared { episode, end, confirmed: sample })
                } else {
                    *self = Self::Open { episode, clearing: Some(end), begun };
                    None
                }
            }
            (Self::Open { episode, begun, .. }, _) => {
                *self = Self::Open { episode, clearing: None, begun };
                None
            }
        }
    }

    fn breach(
        &mut self,
        since: Mark,
        sample: Mark,
        terms: Terms,
        id: impl FnOnce(&Mark) -> Uuid,
    ) -> Option<Step> {
        let mut begun = self.begun();
        if sample.ts - since.ts < terms.hold {
            *self = Self::pending(since, begun);
            return None;
        }
        // Counted at its beginning and not now, so that the time a rule waits makes no difference.
        let flapping = terms.flapping.is_some_and(|f| begun.is_flapping(since.ts, f));
        let episode = Open { id: id(&since), started: since, raised: sample, flapping };
        begun.push(since.ts);
        *self = Self::Open { episode, clearing: None, begun };
        Some(Step::Raised(episode))
    }

    /// Pending since a reading, with the beginnings of earlier episodes.
    pub(crate) const fn pending(since: Mark, begun: Begun) -> Self {
        if begun.is_empty() { Self::Pending(since) } else { Self::PendingAgain { since, begun } }
    }

    /// No condition, with the beginnings of earlier episodes as long as they count.
    pub(crate) fn rest(begun: Begun, at: Micros, terms: Terms) -> Self {
        match terms.flapping {
            Some(flapping) if begun.recent(at, flapping) > 0 => Self::Rested(begun),
            _ => Self::Quiet,
        }
    }

    const fn pending_since(&self) -> Option<Mark> {
        match self {
            Self::Pending(since) | Self::PendingAgain { since, .. } => Some(*since),
            Self::Quiet | Self::Rested(_) | Self::Open { .. } => None,
        }
    }

    fn begun(&self) -> Begun {
        match self {
            Self::Open { begun, .. } | Self::Rested(begun) | Self::PendingAgain { begun, .. } => {
                *begun
            }
            Self::Quiet | Self::Pending(_) => Begun::default(),
        }
    }

    /// Stops waiting, because nothing is known about the time before.
    pub const fn forget_waiting(&mut self) {
        match *self {
            Self::Pending(_) => *self = Self::Quiet,
            Self::PendingAgain { begun, .. } => *self = Self::Rested(begun),
            Self::Open { episode, begun, .. } => {
                *self = Self::Open { episode, clearing: None, begun };
            }
            Self::Quiet | Self::Rested(_) => {}
        }
    }

    /// Whether it waits, to raise or to clear an episode.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(
            self,
            Self::Pending(_) | Self::PendingAgain { .. } | Self::Open { clearing: Some(_), .. }
        )
    }

    /// Whether the state need not be stored.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Self::Quiet)
    }
}

#[cfg(test)]
mod tests;
