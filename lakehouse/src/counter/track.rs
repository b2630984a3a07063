//! What a meter's counters have counted, from one reading to the next. Pure.
//!
//! A reading is judged by its neighbours. A lone fall or jump that the next reading contradicts is
//! *suspect*: it is stored as it came, and counted by nothing. A fall that the next reading confirms is a
//! reset, which has counted nothing that is known.

use acuvim_schemas::{
    Micros,
    time::{HOUR, MINUTE},
};

/// The share of its range that a counter which has rolled over was from its end, and is from its beginning.
const NEAR: f64 = 0.1;

/// Amperes that the meter's current inputs can stand for at most: 50,000:5 A transformers.
const MOST_AMPERES: f64 = 50_000.0;

/// The phase voltage of a meter whose nominal voltage is not known, in V.
const USUAL_VOLTS: f64 = 690.0;

/// Which of the two a reading column is, if it is a counter at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Counts up.
    Total,
    /// Counts both ways.
    Net,
}

impl Counter {
    /// The kind of a reading column's counter.
    #[must_use]
    pub fn of(reading: &str) -> Option<Self> {
        if !reading.starts_with("energy_") {
            None
        } else if reading.contains("_net_") {
            Some(Self::Net)
        } else {
            Some(Self::Total)
        }
    }
}

/// What a meter's counters can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterTerms {
    /// Where they begin again at zero, in kWh, kvarh or kVAh.
    pub end: f64,
    /// The most that they count in an hour: the greatest power, in kW, kvar or kVA.
    pub per_hour: f64,
}

impl Default for MeterTerms {
    /// Of an Acuvim II in primary mode, which rolls over behind 99,999,999.9.
    fn default() -> Self {
        Self { end: 100_000_000.0, per_hour: most_power(USUAL_VOLTS) }
    }
}

impl MeterTerms {
    /// Of a meter at a nominal voltage, in V, unless its greatest power, in kW, or the end of its counters
    /// is known.
    #[must_use]
    pub fn of(volts: Option<f64>, max_power_kw: Option<f64>, end: Option<f64>) -> Self {
        let default = Self::default();
        let per_hour = max_power_kw.or(volts.map(most_power)).unwrap_or(default.per_hour);
        Self { end: end.unwrap_or(default.end), per_hour }
    }

    /// How far a counter may step back without having been reset: one of its digits, or what a float of
    /// 32 bits leaves off.
    fn tolerance(&self, value: f64) -> f64 {
        (self.end / 1e9).max(0.01).max(value.abs() / 8e6) * 1.001
    }

    /// The most that is counted from one time to another.
    fn reach(&self, from: Reading, to: Reading) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
        let hours = to.ts.saturating_sub(from.ts).max(MINUTE) as f64 / HOUR as f64;
        self.per_hour * hours + 2.0 * self.tolerance(from.value)
    }
}

/// The most power of three phases at a voltage, in kW.
fn most_power(volts: f64) -> f64 {
    3.0 * volts * MOST_AMPERES / 1000.0
}

/// Where a counter stood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When.
    pub ts: Micros,
    /// What it showed.
    pub value: f64,
}

/// How a counter can have come from one reading to another.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// By counting so much.
    Onward(f64),
    /// It has not moved: a digit that flickers.
    Stays,
    /// It can't have.
    None,
}

fn way(counter: Counter, terms: &MeterTerms, from: Reading, to: Reading) -> Way {
    let plain = to.value - from.value;
    let within = |counted: f64| match counted.abs() <= terms.reach(from, to) {
        true => Way::Onward(counted),
        false => Way::None,
    };
    match counter {
        // A way round the end is taken for a roll-over if it is the shorter one.
        Counter::Net if plain.abs() > terms.end / 2.0 => within(plain - plain.signum() * terms.end),
        Counter::Net => within(plain),
        Counter::Total if plain >= 0.0 => within(plain),
        Counter::Total if -plain <= terms.tolerance(from.value) => Way::Stays,
        Counter::Total => {
            let (high, low) = (terms.end * (1.0 - NEAR), terms.end * NEAR);
            // Zero itself is what a register shows that was not read.
            let over = from.value >= high && to.value > 0.0 && to.value <= low;
            match over && terms.end + plain >= 0.0 {
                true => within(terms.end + plain),
                false => Way::None,
            }
        }
    }
}

/// What a reading has told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// What was counted up to it.
    pub counted: f64,
    /// Whether it is what the counter counts on from now: what was counted up to it may be taken back.
    pub believed: bool,
    /// The believed reading before was suspect: what had been counted up to that is taken back, and the
    /// counter stood here by then.
    pub taken_back: Option<TakenBack>,
    /// Readings found to be suspect.
    pub suspects: u32,
    /// The last of these.
    pub suspect: Option<Reading>,
}

/// A count that a later reading contradicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TakenBack {
    /// How much it was.
    pub counted: f64,
    /// The reading that it was counted from, which is believed again.
    pub stood: Reading,
}

/// A reading that nothing has confirmed yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// The first that showed it.
    pub reading: Reading,
    /// How many in a row have shown the same.
    pub times: u32,
}

/// A counter as it is followed from reading to reading, in the order of their times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Track {
    believed: Option<Reading>,
    /// When it was shown last: for how long it can have counted since.
    seen: Micros,
    /// The one before, and what was counted from it: not known behind what was read from a table.
    before: Option<TakenBack>,
    doubt: Option<Doubt>,
}

impl Track {
    /// Goes on behind what was known: the believed reading, when it was shown last, and what was in doubt.
    #[must_use]
    pub const fn behind(believed: Reading, seen: Micros, doubt: Option<Doubt>) -> Self {
        Self { believed: Some(believed), seen, before: None, doubt }
    }

    /// Goes on behind what is known to have come next. Where that was believed by then already, it is known
    /// still what was before it; answers whether it was.
    pub fn pass(&mut self, next: &Self) -> bool {
        let same = self.believed == next.believed;
        match same {
            true => (self.seen, self.doubt) = (next.seen, next.doubt),
            false => *self = *next,
        }
        same
    }

    /// The last reading that is believed.
    #[must_use]
    pub const fn believed(&self) -> Option<Reading> {
        self.believed
    }

    /// When that was shown last.
    #[must_use]
    pub const fn seen(&self) -> Micros {
        self.seen
    }

    /// What nothing has confirmed yet.
    #[must_use]
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Whether the next reading may show that the believed one was suspect, which can be told only with the
    /// reading before that, and this is not known.
    #[must_use]
    pub fn lacks_before(&self, counter: Counter, terms: &MeterTerms, to: Reading) -> bool {
        self.before.is_none()
            && counter == Counter::Total
            && self.last_shown().is_some_and(|at| way(counter, terms, at, to) == Way::None)
    }

    /// Takes the next reading.
    pub fn take(&mut self, counter: Counter, terms: &MeterTerms, at: Reading) -> Told {
        let (Some(believed), Some(shown)) = (self.believed, self.last_shown()) else {
            (self.believed, self.seen) = (Some(at), at.ts);
            return Told { believed: true, ..Told::default() };
        };
        match way(counter, terms, shown, at) {
            Way::Stays => self.stay(at),
            Way::Onward(counted) if counted.abs() < f64::EPSILON => self.stay(at),
            Way::Onward(counted) => match self.was_a_lost_zero(counter, at) {
                true => self
                    .take_back(counter, terms, at)
                    .unwrap_or_else(|| self.go_on(believed, at, counted)),
                false => self.go_on(believed, at, counted),
            },
            Way::None => self.contradict(counter, terms, at),
        }
    }

    /// The believed reading, as of when it was shown last.
    fn last_shown(&self) -> Option<Reading> {
        self.believed.map(|believed| Reading { ts: self.seen.max(believed.ts), ..believed })
    }

    /// Who shows what was there before says nothing for or against it.
    fn stay(&mut self, at: Reading) -> Told {
        self.seen = at.ts;
        self.drop_doubt()
    }

    /// Whether a net counter, which may go both ways, has only come back from a zero to where it was.
    fn was_a_lost_zero(&self, counter: Counter, at: Reading) -> bool {
        let (Some(zero), Some(before)) = (self.believed, self.before) else { return false };
        let far = before.stood.value.abs();
        counter == Counter::Net
            && zero.value == 0.0
            && (at.value - before.stood.value).abs() * 10.0 <= far
    }

    fn go_on(&mut self, from: Reading, to: Reading, counted: f64) -> Told {
        self.before = Some(TakenBack { counted, stood: from });
        (self.believed, self.seen) = (Some(to), to.ts);
        Told { counted, believed: true, ..self.drop_doubt() }
    }

    fn drop_doubt(&mut self) -> Told {
        match self.doubt.take() {
            Some(doubt) => {
                Told { suspects: doubt.times, suspect: Some(doubt.reading), ..Told::default() }
            }
            None => Told::default(),
        }
    }

    /// A reading that the believed one can't have come to.
    fn contradict(&mut self, counter: Counter, terms: &MeterTerms, at: Reading) -> Told {
        if let Some(told) = self.take_back(counter, terms, at) {
            return told;
        }
        let Some(doubt) = &mut self.doubt else {
            self.doubt = Some(Doubt { reading: at, times: 1 });
            return Told::default();
        };
        let reset = doubt.reading;
        match way(counter, terms, reset, at) {
            // A register that is stuck confirms nothing.
            Way::Stays => doubt.times = doubt.times.saturating_add(1),
            Way::Onward(counted) if counted.abs() < f64::EPSILON => {
                doubt.times = doubt.times.saturating_add(1);
            }
            Way::Onward(counted) => {
                self.doubt = None;
                return self.go_on(reset, at, counted);
            }
            Way::None => {
                let told = self.drop_doubt();
                self.doubt = Some(Doubt { reading: at, times: 1 });
                return told;
            }
        }
        Told::default()
    }

    /// Believes the reading before again, if that is where this one comes from.
    fn take_back(&mut self, counter: Counter, terms: &MeterTerms, at: Reading) -> Option<Told> {
        let (suspect, before) = (self.believed?, self.before?);
        let Way::Onward(counted) = way(counter, terms, before.stood, at) else { return None };
        let told = self.go_on(before.stood, at, counted);
        Some(Told {
            taken_back: Some(before),
            suspects: told.suspects + 1,
            suspect: Some(suspect),
            ..told
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Micros = MINUTE;

    /// What a row of readings, one a minute, counts in all, and how many of them are suspect.
    fn count_with(counter: Counter, terms: &MeterTerms, values: &[f64]) -> (f64, u32) {
        let mut track = Track::default();
        let (mut counted, mut suspects) = (0.0, 0);
        for (n, value) in values.iter().enumerate() {
            let ts = Micros::try_from(n).expect("few") * STEP;
            let told = track.take(counter, terms, Reading { ts, value: *value });
            counted += told.counted - told.taken_back.map_or(0.0, |t| t.counted);
            suspects += told.suspects;
        }
        ((counted * 1000.0).round() / 1000.0, suspects)
    }

    fn count(values: &[f64]) -> (f64, u32) {
        count_with(Counter::Total, &MeterTerms::default(), values)
    }

    #[test]
    fn lone_falls_and_jumps_count_nothing() {
        assert_eq!(count(&[13423.7, 13423.8, 0.0, 13423.9, 13424.0]), (0.3, 1));
        assert_eq!(count(&[100.0, 100.1, 41_746_432.0, 100.2]), (0.2, 1));
        // Within what a meter can count in a minute, too.
        assert_eq!(count(&[100.0, 100.1, 150.0, 100.2, 100.3]), (0.3, 1));
        // A register that is stuck, and one that comes and goes.
        assert_eq!(count(&[100.0, 0.0, 0.0, 0.0, 100.2]), (0.2, 3));
        assert_eq!(count(&[100.0, 0.0, 100.1, 0.0, 100.2, 100.3]), (0.3, 2));
        assert_eq!(count(&[100.0, 100.1, 150.0, 0.0, 100.2]), (0.2, 2));
        // Near the end of the digits a zero looks like a roll-over.
        assert_eq!(count(&[99_999_990.0, 99_999_990.1, 0.0, 99_999_990.2]), (0.2, 1));
        assert_eq!(count(&[99_999_990.0, 0.0, 0.0, 0.0, 99_999_990.2]), (0.2, 3));
    }

    #[test]
    fn a_digit_that_flickers_counts_once() {
        assert_eq!(count(&[13423.7, 13423.8, 13423.7, 13423.9]), (0.2, 0));
        assert_eq!(count(&[13423.8, 13423.7, 13423.75, 13423.8, 13423.9]), (0.1, 0));
        assert_eq!(count(&[41_746_432.0, 41_746_428.0, 41_746_436.0]), (4.0, 0));
    }

    #[test]
    fn resets_count_nothing_and_roll_overs_go_on() {
        assert_eq!(count(&[5000.0, 5001.0, 3.0, 4.0, 5.0]), (3.0, 0));
        assert_eq!(count(&[5000.0, 0.0, 0.0, 0.5]), (0.5, 0));
        assert_eq!(count(&[99_999_999.9, 0.4, 0.5]), (0.6, 0));
        assert_eq!(count(&[99_999_999.0, 50_000_000.0, 50_000_001.0]), (1.0, 0));
        let secondary = MeterTerms::of(Some(230.0), None, Some(1_000_000.0));
        assert_eq!(
            count_with(Counter::Total, &secondary, &[999_999.5, 0.25, 0.5]),
            (1.0, 0),
            "behind 999,999.999"
        );
        assert_eq!(count(&[999_999.5, 0.25, 0.5]), (0.25, 0), "unless somebody said so, a reset");
    }

    #[test]
    fn what_cannot_be_is_not_counted() {
        let small = MeterTerms::of(None, Some(60.0), None);
        // At most 1 kWh a minute: what stays there is another counter, and counts on from there.
        assert_eq!(count_with(Counter::Total, &small, &[0.0, 1.0, 9.0, 9.5]), (1.5, 0));
        assert_eq!(count_with(Counter::Total, &small, &[0.0, 1.0, 9.0, 1.5]), (1.5, 1));
    }

    #[test]
    fn what_an_idle_counter_can_count_does_not_grow() {
        let idle: Vec<f64> = (0..5000).map(|_| 0.0).chain([41_746_432.0, 41_746_432.1]).collect();
        assert_eq!(count(&idle), (0.1, 0), "another counter, which counts on from there");
        assert_eq!(count(&[5000.0, 3.0, 2.9, 3.1]), (0.1, 0), "a reset that flickers");
        let small = MeterTerms::of(None, None, Some(1_000_000.0));
        let beyond = count_with(Counter::Total, &small, &[1_000_100.0, 0.0, 0.5]);
        assert_eq!(beyond, (0.5, 0), "nothing is counted below zero");
    }

    #[test]
    fn net_counters_count_both_ways() {
        let net = |values: &[f64]| count_with(Counter::Net, &MeterTerms::default(), values);
        assert_eq!(net(&[-5.0, -7.5]), (-2.5, 0));
        assert_eq!(net(&[99_999_999.0, 1.0]), (2.0, 0));
        assert_eq!(net(&[1.0, 99_999_999.0]), (-2.0, 0));
        assert_eq!(net(&[10.0, 11.0, 40_000_000.0, 10.0]), (0.0, 1));
        assert_eq!(net(&[500.0, 500.1, 0.0, 500.2]), (0.2, 1));
        assert_eq!(net(&[2.0, 1.0, 0.0, -1.0, 0.0, 1.0]), (-1.0, 0));
    }

    #[test]
    fn a_track_goes_on_from_what_was_stored() {
        let terms = MeterTerms::default();
        let at = |ts, value| Reading { ts: ts * STEP, value };
        let mut track = Track::default();
        track.take(Counter::Total, &terms, at(0, 100.0));
        track.take(Counter::Total, &terms, at(1, 0.0));
        let behind = |track: &Track, doubt| {
            Track::behind(track.believed().expect("one"), track.seen(), doubt)
        };
        let mut stored = behind(&track, track.doubt());
        assert_eq!(track.take(Counter::Total, &terms, at(2, 100.5)).suspects, 1);
        let told = stored.take(Counter::Total, &terms, at(2, 100.5));
        assert_eq!((told.counted, told.suspects), (0.5, 1));
        let stored = behind(&stored, None);
        assert!(stored.lacks_before(Counter::Total, &terms, at(3, 100.2)));
        assert!(!stored.lacks_before(Counter::Total, &terms, at(3, 100.6)));
        assert!(!track.lacks_before(Counter::Total, &terms, at(3, 100.2)));
    }

    #[test]
    fn every_energy_is_a_counter_and_nothing_else_is() {
        use acuvim_schemas::reading::READINGS;
        let counters = READINGS.iter().filter(|r| Counter::of(r.name).is_some());
        assert!(counters.clone().all(|r| r.description.contains("Rolls over")));
        assert_eq!(
            counters.count(),
            READINGS.iter().filter(|r| r.description.contains("Rolls over")).count()
        );
        assert_eq!(Counter::of("energy_net_kwh"), Some(Counter::Net));
    }

    /// What happens at a reading, beside that the meter has counted on.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Nothing,
        Reset,
        Zero,
        Spike(f64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            12 => Just(Event::Nothing),
            1 => Just(Event::Reset),
            1 => Just(Event::Zero),
            1 => (1.0_f64..50_000_000.0).prop_map(Event::Spike),
        ]
    }

    proptest! {
        #[test]
        fn glitches_change_a_sum_by_no_more_than_their_own_steps(
            start in prop_oneof![0.0_f64..1_000_000.0, 99_999_000.0_f64..99_999_999.0],
            story in prop::collection::vec((event(), 0.0_f64..20.0), 2..200),
        ) {
            let terms = MeterTerms::default();
            let (mut shown, mut values, mut truth, mut slack) = (start, Vec::new(), 0.0, 0.01);
            for (event, step) in story {
                truth += if values.is_empty() { 0.0 } else { step };
                shown = (shown + step) % terms.end;
                // A reset forgets what was counted up to it; a reading that is lost delays what was counted.
                match event {
                    Event::Nothing => values.push(shown),
                    Event::Reset => {
                        // Near the end of the digits it is taken for a roll-over.
                        let rest = if shown > terms.end * 0.9 { terms.end - shown } else { 0.0 };
                        (shown, slack) = (0.0, slack + rest + 45.0);
                        values.push(shown);
                    }
                    Event::Zero => {
                        slack += 45.0;
                        values.push(0.0);
                    }
                    Event::Spike(by) => {
                        slack += 45.0;
                        values.push((shown + by) % terms.end);
                    }
                }
            }
            // What follows says of the last of them what it was.
            values.push(shown);
            let (counted, _) = count(&values);
            prop_assert!((counted - truth).abs() <= slack, "{counted} for {truth}: {values:?}");
        }
    }
}
