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

/// An open episode.
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
                if torn {
                    self.forget_waiting();
                }
                None
            }
            (
                Self::Quiet | Self::Pending(_) | Self::Rested(_) | Self::PendingAgain { .. },
                ReadingState::Breach,
            ) => {
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
mod tests {
    use super::*;
    use crate::cadence::Recent;
    use acuvim_wire::{Identity, time::SECOND};

    const TERMS: Terms = Terms { hold: 20 * SECOND, clear: 10 * SECOND, gap: None, flapping: None };

    fn mark(second: i64) -> Mark {
        let at = Identity { epoch: 0, partition: 0, offset: second, item: 0 };
        Mark { ts: second * SECOND, at }
    }

    /// Runs readings, given as seconds and states (b, c, - or ?), and returns the steps.
    fn run(samples: &[(i64, char)], terms: Terms) -> Vec<(char, i64, i64)> {
        let (mut state, mut recent, mut steps) = (State::Quiet, Recent::default(), Vec::new());
        for (second, reading) in samples {
            let reading = match reading {
                'b' => ReadingState::Breach,
                'c' => ReadingState::Clear,
                '-' => ReadingState::Between,
                _ => ReadingState::Unknown,
            };
            let torn = recent.is_torn(second * SECOND, terms.gap);
            let step = state.step(mark(*second), torn, reading, terms, |_| Uuid::nil());
            recent.push(second * SECOND);
            steps.extend(step.map(|step| match step {
                Step::Raised(open) => ('R', open.started.ts / SECOND, open.raised.ts / SECOND),
                Step::Cleared { end, confirmed, .. } => {
                    ('C', end.ts / SECOND, confirmed.ts / SECOND)
                }
            }));
        }
        steps
    }

    #[test]
    fn an_episode_is_raised_after_its_hold_time_and_ends_when_the_condition_does() {
        let samples = [(0, 'b'), (10, 'b'), (20, 'b'), (30, 'b'), (40, 'c'), (50, 'c'), (60, 'c')];
        assert_eq!(run(&samples, TERMS), [('R', 0, 20), ('C', 40, 50)]);
        let at_once = run(&[(0, 'b'), (10, 'b'), (20, 'c')], Terms::default());
        assert_eq!(at_once, [('R', 0, 0), ('C', 20, 20)]);
    }

    #[test]
    fn a_reading_without_the_condition_ends_what_was_pending() {
        for breaker in ['c', '-'] {
            let samples = [(0, 'b'), (10, breaker), (20, 'b'), (30, 'b'), (40, 'b')];
            assert_eq!(run(&samples, TERMS), [('R', 20, 40)]);
        }
        assert_eq!(run(&[(0, 'b'), (10, '?'), (20, 'b')], TERMS), [('R', 0, 20)]);
    }

    #[test]
    fn hysteresis_and_a_relapse_keep_an_episode_open() {
        let up = [(0, 'b'), (10, 'b'), (20, 'b')];
        for down in [
            vec![(30, '-'), (40, '-'), (50, '-')],
            vec![(30, 'c'), (40, '-'), (50, 'c')],
            vec![(30, 'c'), (35, 'b'), (45, 'c')],
        ] {
            let samples: Vec<_> = up.iter().copied().chain(down).collect();
            assert_eq!(run(&samples, TERMS), [('R', 0, 20)], "{samples:?}");
        }
    }

    #[test]
    fn a_torn_gap_starts_the_wait_again() {
        assert_eq!(run(&[(0, 'b'), (10, 'b'), (2000, 'b')], TERMS), []);
        assert_eq!(
            run(&[(0, 'b'), (10, 'b'), (2000, 'b'), (2020, 'b')], TERMS),
            [('R', 2000, 2020)]
        );
        let clearing = [(0, 'b'), (20, 'b'), (30, 'c'), (2000, 'c'), (2010, 'c')];
        assert_eq!(run(&clearing, TERMS), [('R', 0, 20), ('C', 2000, 2010)]);
    }

    #[test]
    fn a_slow_logger_is_not_torn_at_its_usual_step() {
        let at = |n: i64, verdict: char| (n * 960, verdict);
        let breach = [at(0, 'c'), at(1, 'c'), at(2, 'b'), at(3, 'b'), at(4, 'c'), at(5, 'c')];
        assert_eq!(run(&breach, TERMS), [('R', 1920, 2880), ('C', 3840, 4800)]);
        let own = Terms { gap: Some(900 * SECOND), ..TERMS };
        assert_eq!(run(&breach, own), [], "a rule that asks for more than the device has");
        let wide = Terms { gap: Some(2 * 86_400 * SECOND), ..TERMS };
        assert_eq!(run(&[(0, 'b'), (86_400, 'b')], wide), [('R', 0, 86_400)]);
    }

    #[test]
    fn a_flapping_condition_becomes_one_episode() {
        let flapping = Some(Flapping { count: 3, window: 100 * SECOND });
        let terms = Terms { flapping, ..Terms::default() };
        let flip = |n: i64| (n * 10, if n % 2 == 0 { 'b' } else { 'c' });
        let samples: Vec<_> = (0..200).map(flip).collect();
        let told = [('R', 0, 0), ('C', 10, 10), ('R', 20, 20), ('C', 30, 30), ('R', 40, 40)];
        assert_eq!(run(&samples, terms), told);
        assert_eq!(run(&samples, Terms::default()).len(), 200, "nothing is flapping unless asked");
        // It clears once it has been calm for a whole window, at the time when the condition ended.
        let calm = (0..20).map(|n| (2000 + n * 10, 'c'));
        let all: Vec<_> = samples.iter().copied().chain(calm).collect();
        let ended = [&told[..], &[('C', 1990, 2090)]].concat();
        assert_eq!(run(&all, terms), ended);
        // From then on episodes are separate again.
        let again: Vec<_> = all.iter().copied().chain([(2300, 'b'), (2310, 'c')]).collect();
        let more = [&ended[..], &[('R', 2300, 2300), ('C', 2310, 2310)]].concat();
        assert_eq!(run(&again, terms), more);
        // Beginnings further apart than the window are not flapping.
        let slow: Vec<_> = samples.iter().map(|(second, verdict)| (second * 6, *verdict)).collect();
        assert_eq!(run(&slow, terms).len(), 200);
    }

    #[test]
    fn flapping_works_with_a_hold_time_too() {
        let flapping = Some(Flapping { count: 2, window: 300 * SECOND });
        let terms = Terms { flapping, ..TERMS };
        let one = |from: i64| (0..6).map(move |n| (from + n * 10, if n < 3 { 'b' } else { 'c' }));
        let samples: Vec<_> = one(0).chain(one(60)).chain(one(120)).collect();
        let told = [('R', 0, 20), ('C', 30, 40), ('R', 60, 80)];
        assert_eq!(run(&samples, terms), told);
    }

    #[test]
    fn states_survive_being_stored() {
        let open = Open { id: Uuid::nil(), started: mark(1), raised: mark(2), flapping: false };
        let begun = Begun::from(vec![1, 2]);
        for state in [
            State::Pending(mark(1)),
            State::Open { episode: open, clearing: None, begun: Begun::default() },
            State::Open { episode: open, clearing: Some(mark(9)), begun },
            State::Rested(begun),
            State::PendingAgain { since: mark(3), begun },
        ] {
            let stored = serde_json::to_string(&state).expect("json");
            assert_eq!(serde_json::from_str::<State>(&stored).ok(), Some(state));
        }
        // The format of earlier versions, without `begun`.
        let stored = serde_json::to_value(open).expect("json");
        let stored = serde_json::json!({"Open": {"episode": stored, "clearing": null}});
        let state = State::Open { episode: open, clearing: None, begun: Begun::default() };
        assert_eq!(serde_json::from_value::<State>(stored).ok(), Some(state));
    }
}
