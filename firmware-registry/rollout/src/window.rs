//! Maintenance windows: a span of the day, by the clock of a device's site.

use acuvim_model::MaintenanceWindow;
use chrono::{DateTime, NaiveTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;

/// A maintenance window with valid times. It may reach over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: NaiveTime,
    to: NaiveTime,
}

/// The step of the search for a window's end. Windows begin and end on whole minutes.
const STEP: TimeDelta = TimeDelta::minutes(1);

impl Window {
    /// Parses a window, or returns `None` if its times are not `HH:MM` or are the same.
    #[must_use]
    pub fn parse(window: &MaintenanceWindow) -> Option<Self> {
        let time = |text: &str| {
            let shaped = text.len() == 5 && text.is_ascii();
            shaped.then(|| NaiveTime::parse_from_str(text, "%H:%M").ok()).flatten()
        };
        let (from, to) = (time(&window.from)?, time(&window.to)?);
        (from != to).then_some(Self { from, to })
    }

    /// Whether a moment is inside the window, by the local time of a zone.
    #[must_use]
    pub fn has(self, at: DateTime<Utc>, zone: Tz) -> bool {
        let time = at.with_timezone(&zone).time();
        match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => self.from <= time || time < self.to,
        }
    }

    /// Seconds from a moment inside the window to its end.
    ///
    /// Searched minute by minute rather than computed, because the clocks may be changed in between.
    #[must_use]
    pub fn left(self, at: DateTime<Utc>, zone: Tz) -> i64 {
        let mut end = at;
        while self.has(end, zone) && end - at < TimeDelta::days(1) {
            end += STEP;
        }
        // `at` may be inside a minute, in which case the last step went past the end.
        let over = i64::from(end.with_timezone(&zone).time().second());
        ((end - at).num_seconds() - over).max(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(from: &str, to: &str) -> Option<Window> {
        Window::parse(&MaintenanceWindow { from: from.into(), to: to.into() })
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_window_follows_the_clock_of_the_site() {
        let night = window("01:00", "05:00").expect("a window");
        let zone = chrono_tz::Africa::Johannesburg;
        assert!(night.has(at("2026-05-01T00:30:00Z"), zone), "02:30 there");
        assert!(!night.has(at("2026-05-01T03:30:00Z"), zone), "05:30 there");
        assert!(night.has(at("2026-05-01T03:30:00Z"), Tz::UTC));
        assert_eq!(night.left(at("2026-05-01T00:30:10Z"), zone), 2 * 3600 + 1790);
        let over_midnight = window("22:00", "02:00").expect("a window");
        for (time, inside) in
            [("22:00", true), ("23:59", true), ("01:59", true), ("02:00", false), ("12:00", false)]
        {
            assert_eq!(
                over_midnight.has(at(&format!("2026-05-01T{time}:00Z")), Tz::UTC),
                inside,
                "{time}"
            );
        }
    }

    #[test]
    fn a_window_inside_the_skipped_hour_does_not_open_that_night() {
        // Berlin's clocks go from 02:00 to 03:00 on 2026-03-29.
        let zone = chrono_tz::Europe::Berlin;
        let skipped = window("02:00", "03:00").expect("a window");
        for minute in 0..180 {
            assert!(!skipped.has(at("2026-03-29T00:00:00Z") + TimeDelta::minutes(minute), zone));
        }
        let around = window("01:30", "03:30").expect("a window");
        assert_eq!(around.left(at("2026-03-29T00:30:00Z"), zone), 3600, "an hour shorter");
    }

    /// The hour that comes twice: the window is open in both, and closed where its end comes first.
    #[test]
    fn a_window_in_the_repeated_hour_opens_twice() {
        // Berlin's clocks go back from 03:00 to 02:00 on 2026-10-25, at 01:00 UTC.
        let zone = chrono_tz::Europe::Berlin;
        let twice = window("02:00", "02:30").expect("a window");
        for (time, inside) in [
            ("2026-10-24T23:59:59Z", false),
            ("2026-10-25T00:00:00Z", true),
            ("2026-10-25T00:30:00Z", false),
            ("2026-10-25T01:00:00Z", true),
            ("2026-10-25T01:29:59Z", true),
            ("2026-10-25T01:30:00Z", false),
        ] {
            assert_eq!(twice.has(at(time), zone), inside, "{time}");
        }
        assert_eq!(twice.left(at("2026-10-25T00:10:00Z"), zone), 1200);
        let longer = window("01:30", "03:30").expect("a window");
        assert_eq!(longer.left(at("2026-10-24T23:30:00Z"), zone), 3 * 3600, "an hour longer");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The command of a device expires with its window: it must neither be open longer, nor shorter.
        #[test]
        fn what_is_left_ends_exactly_with_the_window(
            from in 0_u32..1440, length in 1_u32..1080, second in 0_i64..366 * 86_400,
            zone in prop::sample::select(vec![
                Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kathmandu,
                Tz::Australia__Lord_Howe, Tz::Pacific__Apia,
            ]),
        ) {
            let clock = |minute: u32| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
            let window = window(&clock(from), &clock(from + length)).expect("a window");
            let now = at("2026-01-01T00:00:00Z") + TimeDelta::seconds(second);
            let left = window.left(now, zone);
            if window.has(now, zone) {
                prop_assert!(left > 0);
                prop_assert!(window.has(now + TimeDelta::seconds(left - 1), zone));
                prop_assert!(!window.has(now + TimeDelta::seconds(left), zone));
            } else {
                prop_assert_eq!(left, 0);
            }
        }
    }

    #[test]
    fn invalid_times_are_refused() {
        for (from, to) in [
            ("1:00", "05:00"),
            ("01:00", "24:00"),
            ("01:00", "01:00"),
            ("", ""),
            ("ab:cd", "05:00"),
            ("01:60", "05:00"),
            ("01:00", "5:00 "),
            ("01:00", "+5:00"),
            ("0١:0", "05:00"),
            ("01:00:00", "05:00"),
        ] {
            assert_eq!(window(from, to), None, "{from} {to}");
        }
    }
}
