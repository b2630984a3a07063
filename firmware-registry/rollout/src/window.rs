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

    #[test]
    fn invalid_times_are_refused() {
        for (from, to) in [
            ("1:00", "05:00"),
            ("01:00", "24:00"),
            ("01:00", "01:00"),
            ("", ""),
            ("ab:cd", "05:00"),
        ] {
            assert_eq!(window(from, to), None, "{from} {to}");
        }
    }
}
