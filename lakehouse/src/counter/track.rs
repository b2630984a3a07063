//! Follows one counter from reading to reading.

use acuvim_wire::Micros;

use super::terms::{Counter, MeterTerms, Reading};

/// A roll-over begins in the last part of a counter's range and ends in the first part. Each part is this
/// share of the range.
const NEAR_END: f64 = 0.1;

/// How a counter can have got from one reading to another.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Transition {
    /// It has counted this much.
    Counted(f64),
    /// It has not moved: its last digit flickers.
    Unchanged,
    /// It can't have: the step is back, or further than its greatest power allows.
    Impossible,
}

fn transition(counter: Counter, terms: &MeterTerms, from: Reading, to: Reading) -> Transition {
    let difference = to.value - from.value;
    let within = |counted: f64| match counted.abs() <= terms.reach(from, to) {
        true => Transition::Counted(counted),
        false => Transition::Impossible,
    };
    match counter {
        // The shorter way is assumed, be it across the end of the range or not.
        Counter::Net if difference.abs() > terms.end / 2.0 => {
            within(difference - difference.signum() * terms.end)
        }
        Counter::Net => within(difference),
        Counter::Total if difference >= 0.0 => within(difference),
        Counter::Total if -difference <= terms.tolerance(from.value) => Transition::Unchanged,
        Counter::Total => {
            let (high, low) = (terms.end * (1.0 - NEAR_END), terms.end * NEAR_END);
            // Zero is excluded: a register that could not be read shows it.
            let rolled_over = from.value >= high && to.value > 0.0 && to.value <= low;
            match rolled_over && terms.end + difference >= 0.0 {
                true => within(terms.end + difference),
                false => Transition::Impossible,
            }
        }
    }
}

/// What counts of a step. A register that could not be read shows zero, and the step from there to the meter's
/// true value would be all that the meter has ever counted. So a step from zero counts only if it is as small as
/// those of a new meter, or of one that was reset.
fn counted_since(terms: &MeterTerms, from: Reading, to: Reading, counted: f64) -> f64 {
    match from.value == 0.0 && counted > terms.reach_from_zero(from, to) {
        true => 0.0,
        false => counted,
    }
}

/// What a reading adds to the consumption.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CountOutcome {
    /// The consumption up to the reading.
    pub counted: f64,
    /// Whether counting continues from this reading. A later reading may still take back `counted`.
    pub believed: bool,
    /// Set if the reading shows that the believed one before it was suspect: the consumption up to that
    /// one no longer counts.
    pub taken_back: Option<TakenBack>,
    /// The number of earlier readings that turned out to be suspect.
    pub suspects: u32,
    /// The last of them.
    pub suspect: Option<Reading>,
}

/// A consumption that a later reading contradicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TakenBack {
    /// Its amount in kWh, kvarh or kVAh.
    pub counted: f64,
    /// The reading that it was counted from, which is believed again.
    pub stood: Reading,
}

/// A reading that contradicts the believed one, and that no later reading has confirmed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// The first reading with its value.
    pub reading: Reading,
    /// The number of consecutive readings with that value.
    pub times: u32,
}

/// The state of a counter after the readings so far, which must be taken in the order of their times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Track {
    /// The reading that consumption is counted from.
    believed: Option<Reading>,
    /// When the counter last showed that value. The time since then limits what it can have counted.
    seen: Micros,
    /// The believed reading before, and the consumption from there. Unknown in a track that was restored
    /// from a table.
    before: Option<TakenBack>,
    doubt: Option<Doubt>,
}

impl Track {
    /// Restores a track from stored values.
    #[must_use]
    pub const fn behind(believed: Reading, seen: Micros, doubt: Option<Doubt>) -> Self {
        Self { believed: Some(believed), seen, before: None, doubt }
    }

    /// Continues from a later state that is stored. If the believed reading is the same, the reading
    /// before it stays known. Returns whether it is the same.
    pub fn pass(&mut self, next: &Self) -> bool {
        let same = self.believed == next.believed;
        match same {
            true => (self.seen, self.doubt) = (next.seen, next.doubt),
            false => *self = *next,
        }
        same
    }

    /// Whether later readings count the same from this state as from another, as far as states are stored.
    #[must_use]
    pub fn continues_as(&self, other: &Self) -> bool {
        let state = |track: &Self| (track.believed, track.seen, track.doubt);
        state(self) == state(other)
    }

    /// The reading that consumption is counted from.
    #[must_use]
    pub const fn believed(&self) -> Option<Reading> {
        self.believed
    }

    /// When the counter last showed the believed value.
    #[must_use]
    pub const fn seen(&self) -> Micros {
        self.seen
    }

    /// The unconfirmed reading, if the last one contradicted the believed one.
    #[must_use]
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Whether the next reading may show that the believed one is suspect, while the reading before that,
    /// which decides it, is unknown.
    #[must_use]
    pub fn lacks_before(&self, counter: Counter, terms: &MeterTerms, to: Reading) -> bool {
        let contradicts = |at| transition(counter, terms, at, to) == Transition::Impossible;
        self.before.is_none()
            && counter == Counter::Total
            && self.last_shown().is_some_and(contradicts)
    }

    /// Takes the next reading.
    pub fn take(&mut self, counter: Counter, terms: &MeterTerms, at: Reading) -> CountOutcome {
        let (Some(believed), Some(shown)) = (self.believed, self.last_shown()) else {
            (self.believed, self.seen) = (Some(at), at.ts);
            return CountOutcome { believed: true, ..CountOutcome::default() };
        };
        match transition(counter, terms, shown, at) {
            Transition::Unchanged => self.stay(at),
            Transition::Counted(counted) if counted.abs() < f64::EPSILON => self.stay(at),
            Transition::Counted(counted) => {
                let counted = counted_since(terms, shown, at, counted);
                match self.returns_from_zero(counter, at) {
                    true => self
                        .take_back(counter, terms, at)
                        .unwrap_or_else(|| self.go_on(believed, at, counted)),
                    false => self.go_on(believed, at, counted),
                }
            }
            Transition::Impossible => self.contradict(counter, terms, at),
        }
    }

    /// The believed reading, with the time when its value was last shown.
    fn last_shown(&self) -> Option<Reading> {
        self.believed.map(|believed| Reading { ts: self.seen.max(believed.ts), ..believed })
    }

    /// The same value again. It refutes a doubt, but neither confirms nor refutes the believed reading.
    fn stay(&mut self, at: Reading) -> CountOutcome {
        self.seen = at.ts;
        self.drop_doubt()
    }

    /// Whether a net counter returns from a zero to about the value before it. Since it may count in both
    /// directions, the zero itself was no contradiction.
    fn returns_from_zero(&self, counter: Counter, at: Reading) -> bool {
        let (Some(zero), Some(before)) = (self.believed, self.before) else { return false };
        let far = before.stood.value.abs();
        counter == Counter::Net
            && zero.value == 0.0
            && (at.value - before.stood.value).abs() * 10.0 <= far
    }

    fn go_on(&mut self, from: Reading, to: Reading, counted: f64) -> CountOutcome {
        self.before = Some(TakenBack { counted, stood: from });
        (self.believed, self.seen) = (Some(to), to.ts);
        CountOutcome { counted, believed: true, ..self.drop_doubt() }
    }

    fn drop_doubt(&mut self) -> CountOutcome {
        match self.doubt.take() {
            Some(doubt) => CountOutcome {
                suspects: doubt.times,
                suspect: Some(doubt.reading),
                ..CountOutcome::default()
            },
            None => CountOutcome::default(),
        }
    }

    /// Takes a reading that the believed one can't have led to.
    fn contradict(&mut self, counter: Counter, terms: &MeterTerms, at: Reading) -> CountOutcome {
        if let Some(outcome) = self.take_back(counter, terms, at) {
            return outcome;
        }
        let Some(doubt) = &mut self.doubt else {
            self.doubt = Some(Doubt { reading: at, times: 1 });
            return CountOutcome::default();
        };
        let reset = doubt.reading;
        match transition(counter, terms, reset, at) {
            // The same value again is no confirmation: the register may be stuck.
            Transition::Unchanged => doubt.times = doubt.times.saturating_add(1),
            Transition::Counted(counted) if counted.abs() < f64::EPSILON => {
                doubt.times = doubt.times.saturating_add(1);
            }
            Transition::Counted(counted) => {
                self.doubt = None;
                return self.go_on(reset, at, counted_since(terms, reset, at, counted));
            }
            Transition::Impossible => {
                let outcome = self.drop_doubt();
                self.doubt = Some(Doubt { reading: at, times: 1 });
                return outcome;
            }
        }
        CountOutcome::default()
    }

    /// Returns to the reading before the believed one, if this reading can follow it.
    fn take_back(
        &mut self,
        counter: Counter,
        terms: &MeterTerms,
        at: Reading,
    ) -> Option<CountOutcome> {
        let (suspect, before) = (self.believed?, self.before?);
        let Transition::Counted(counted) = transition(counter, terms, before.stood, at) else {
            return None;
        };
        let counted = counted_since(terms, before.stood, at, counted);
        let outcome = self.go_on(before.stood, at, counted);
        Some(CountOutcome {
            taken_back: Some(before),
            suspects: outcome.suspects + 1,
            suspect: Some(suspect),
            ..outcome
        })
    }
}
