//! The life of one rule on one device: quiet, pending, open, clearing. A sample at a time, in the
//! order of event time.

use acuvim_schemas::{Micros, event::Mark};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a rule says of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It breaches.
    Breach,
    /// It is over.
    Clear,
    /// Neither: inside the hysteresis.
    Between,
    /// What the rule needs is missing: everything stays as it is.
    Unknown,
}

/// How long a rule waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long it must have breached.
    pub hold: Micros,
    /// How long it must have been over.
    pub clear: Micros,
    /// Readings further apart than this say nothing of the time between them; unless it says, several
    /// of the device's own steps.
    pub gap: Option<Micros>,
}

/// An episode under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The alert's id.
    pub id: Uuid,
    /// The first reading that breached.
    pub started: Mark,
    /// The reading by which it had held for long enough.
    pub raised: Mark,
}

/// Where a rule is on a device. Quiet is the absence of anything else, and is not stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing.
    #[default]
    Quiet,
    /// It breaches, not yet for long enough.
    Pending(Mark),
    /// Raised.
    Open {
        /// The episode.
        episode: Open,
        /// Since when it is over, not yet for long enough.
        clearing: Option<Mark>,
    },
}

/// What a sample brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The episode is raised.
    Raised(Open),
    /// It is over.
    Cleared {
        /// Which.
        episode: Open,
        /// Its true end: the first reading that was over.
        end: Mark,
        /// The reading by which it had been over for long enough.
        confirmed: Mark,
    },
}

impl State {
    /// Takes the next sample; `torn`: nothing is known of the time since the device's reading before
    /// it, so that what was pending begins anew. `id` names a new episode by its first reading.
    pub fn step(
        &mut self,
        sample: Mark,
        torn: bool,
        verdict: Verdict,
        terms: Terms,
        id: impl FnOnce(&Mark) -> Uuid,
    ) -> Option<Step> {
        match (*self, verdict) {
            (_, Verdict::Unknown) => {
                if torn {
                    self.forget_waiting();
                }
                None
            }
            (Self::Quiet, Verdict::Breach) => self.breach(sample, sample, terms, id),
            (Self::Pending(since), Verdict::Breach) => {
                self.breach(if torn { sample } else { since }, sample, terms, id)
            }
            (Self::Quiet | Self::Pending(_), _) => {
                *self = Self::Quiet;
                None
            }
            (Self::Open { episode, clearing }, Verdict::Clear) => {
                let end = clearing.filter(|_| !torn).unwrap_or(sample);
                if sample.ts - end.ts >= terms.clear {
                    *self = Self::Quiet;
                    Some(Step::Cleared { episode, end, confirmed: sample })
                } else {
                    *self = Self::Open { episode, clearing: Some(end) };
                    None
                }
            }
            (Self::Open { episode, .. }, _) => {
                *self = Self::Open { episode, clearing: None };
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
        if sample.ts - since.ts < terms.hold {
            *self = Self::Pending(since);
            return None;
        }
        let episode = Open { id: id(&since), started: since, raised: sample };
        *self = Self::Open { episode, clearing: None };
        Some(Step::Raised(episode))
    }

    /// Lets go of what waits: nothing is known of the time before.
    pub const fn forget_waiting(&mut self) {
        match *self {
            Self::Pending(_) => *self = Self::Quiet,
            Self::Open { episode, .. } => *self = Self::Open { episode, clearing: None },
            Self::Quiet => {}
        }
    }

    /// Whether it waits: to be raised, or to be over.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self, Self::Pending(_) | Self::Open { clearing: Some(_), .. })
    }

    /// Whether there is nothing to keep.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Self::Quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::Recent;
    use acuvim_schemas::{Identity, time::SECOND};

    const TERMS: Terms = Terms { hold: 20 * SECOND, clear: 10 * SECOND, gap: None };

    fn mark(second: i64) -> Mark {
        let at = Identity { epoch: 0, partition: 0, offset: second, item: 0 };
        Mark { ts: second * SECOND, at }
    }

    /// Samples as seconds and verdicts (b, c, - or ?), 10 s apart unless they say.
    fn run(samples: &[(i64, char)], terms: Terms) -> Vec<(char, i64, i64)> {
        let (mut state, mut recent, mut steps) = (State::Quiet, Recent::default(), Vec::new());
        for (second, verdict) in samples {
            let verdict = match verdict {
                'b' => Verdict::Breach,
                'c' => Verdict::Clear,
                '-' => Verdict::Between,
                _ => Verdict::Unknown,
            };
            let torn = recent.is_torn(second * SECOND, terms.gap);
            let step = state.step(mark(*second), torn, verdict, terms, |_| Uuid::nil());
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
    fn raised_once_after_its_time_and_cleared_with_the_true_end() {
        let samples = [(0, 'b'), (10, 'b'), (20, 'b'), (30, 'b'), (40, 'c'), (50, 'c'), (60, 'c')];
        assert_eq!(run(&samples, TERMS), [('R', 0, 20), ('C', 40, 50)]);
        let at_once = run(&[(0, 'b'), (10, 'b'), (20, 'c')], Terms::default());
        assert_eq!(at_once, [('R', 0, 0), ('C', 20, 20)]);
    }

    #[test]
    fn a_clear_reading_or_one_in_between_ends_what_was_pending() {
        for breaker in ['c', '-'] {
            let samples = [(0, 'b'), (10, breaker), (20, 'b'), (30, 'b'), (40, 'b')];
            assert_eq!(run(&samples, TERMS), [('R', 20, 40)]);
        }
        assert_eq!(run(&[(0, 'b'), (10, '?'), (20, 'b')], TERMS), [('R', 0, 20)]);
    }

    #[test]
    fn hysteresis_and_a_relapse_keep_it_open() {
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
    fn a_long_gap_proves_nothing() {
        assert_eq!(run(&[(0, 'b'), (10, 'b'), (2000, 'b')], TERMS), []);
        assert_eq!(
            run(&[(0, 'b'), (10, 'b'), (2000, 'b'), (2020, 'b')], TERMS),
            [('R', 2000, 2020)]
        );
        let clearing = [(0, 'b'), (20, 'b'), (30, 'c'), (2000, 'c'), (2010, 'c')];
        assert_eq!(run(&clearing, TERMS), [('R', 0, 20), ('C', 2000, 2010)]);
    }

    #[test]
    fn a_slow_logger_raises_and_clears_by_its_own_step() {
        let at = |n: i64, verdict: char| (n * 960, verdict);
        let breach = [at(0, 'c'), at(1, 'c'), at(2, 'b'), at(3, 'b'), at(4, 'c'), at(5, 'c')];
        assert_eq!(run(&breach, TERMS), [('R', 1920, 2880), ('C', 3840, 4800)]);
        let own = Terms { gap: Some(900 * SECOND), ..TERMS };
        assert_eq!(run(&breach, own), [], "a rule that asks for more than the device has");
        let wide = Terms { gap: Some(2 * 86_400 * SECOND), ..TERMS };
        assert_eq!(run(&[(0, 'b'), (86_400, 'b')], wide), [('R', 0, 86_400)]);
    }

    #[test]
    fn states_survive_being_stored() {
        let open = Open { id: Uuid::nil(), started: mark(1), raised: mark(2) };
        for state in [
            State::Pending(mark(1)),
            State::Open { episode: open, clearing: None },
            State::Open { episode: open, clearing: Some(mark(9)) },
        ] {
            let stored = serde_json::to_string(&state).expect("json");
            assert_eq!(serde_json::from_str::<State>(&stored).ok(), Some(state));
        }
    }
}
