//! A request for a device's history, checked.

use std::ops::RangeInclusive;

use acuvim_lakehouse::{Buckets, Counter, IRREGULAR, Interval};
use acuvim_wire::{
    Micros,
    reading::{READINGS, Reading},
    time::{HOUR, SECOND},
};

use super::{
    aggregate::{Aggregate, Column},
    fill::Fill,
};
use crate::error::QueryError;

/// Rows of a page.
const DEFAULT_LIMIT: usize = 1000;
const LIMITS: RangeInclusive<usize> = 1..=20_000;

/// Cells of a page: rows times columns.
const MAX_CELLS: usize = 2_000_000;

/// The times that a cursor may name: the years 1970 to 9999, and a month around them.
const TIMES: std::ops::Range<Micros> = -2_678_400_000_000..253_404_979_200_000_000;

/// Buckets of one request that fills gaps.
const MAX_FILLED: i64 = 1_000_000;

/// The parameters of a request as they are given.
#[derive(Debug, Default)]
pub struct RequestTexts<'a> {
    /// Names of readings, separated by commas.
    pub fields: Option<&'a str>,
    /// The length of a bucket.
    pub interval: Option<&'a str>,
    /// Names of aggregates, separated by commas.
    pub agg: Option<&'a str>,
    /// How buckets without readings are filled.
    pub fill: Option<&'a str>,
    /// The time zone that buckets follow.
    pub tz: Option<&'a str>,
    /// `asc` or `desc`.
    pub order: Option<&'a str>,
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
    /// Rows of a page.
    pub limit: Option<usize>,
}

/// A checked request for a device's history.
#[derive(Debug, Clone)]
pub struct HistoryRequest {
    pub(super) from: Micros,
    pub(super) to: Micros,
    pub(super) fields: Vec<&'static Reading>,
    pub(super) shape: Shape,
    pub(super) order: Order,
    pub(super) limit: usize,
    pub(super) cursor: Option<Cursor>,
}

/// Readings as they are, or buckets of them.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Raw,
    Buckets {
        /// The length of a bucket as it was given.
        interval: String,
        buckets: Buckets,
        aggregates: Vec<Aggregate>,
        fill: Fill,
    },
}

/// The order of rows by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// Where a page ended. Of raw readings: the last time, and how many readings of it were answered. Of
/// buckets: where the next one begins, and where the last one with readings began, which fills may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub at: Micros,
    pub beside: i64,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (at, beside) = text.split_once('_')?;
        Some(Self { at: at.parse().ok()?, beside: beside.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.at, self.beside)
    }
}

/// A column of a history's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryColumn {
    /// Its name: `ts`, a reading, or a reading and an aggregate, such as `voltage_l1_v_max`.
    pub name: String,
    /// The unit of its values; empty if they have none.
    pub unit: &'static str,
}

impl HistoryRequest {
    /// Checks a request for readings of some time.
    ///
    /// # Errors
    /// The parameter that is wrong.
    pub fn new(from: Micros, to: Micros, texts: &RequestTexts<'_>) -> Result<Self, QueryError> {
        if from >= to {
            return Err(QueryError::field("to", "later than from"));
        }
        let order = match texts.order {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(QueryError::field("order", "asc or desc")),
        };
        let limit = texts.limit.unwrap_or(DEFAULT_LIMIT);
        if !LIMITS.contains(&limit) {
            return Err(QueryError::field("limit", format!("1 to {}", LIMITS.end())));
        }
        let cursor = |text| {
            let within =
                |cursor: &Cursor| TIMES.contains(&cursor.at) && TIMES.contains(&cursor.beside);
            let other = || QueryError::field("cursor", "not a next_cursor of this question");
            Cursor::parse(text).filter(within).ok_or_else(other)
        };
        let request = Self {
            from,
            to,
            fields: fields(texts.fields)?,
            shape: shape(to - from, texts)?,
            order,
            limit,
            cursor: texts.cursor.map(cursor).transpose()?,
        };
        // Without `ts`.
        let columns = request.columns().len().saturating_sub(1).max(1);
        if limit * columns > MAX_CELLS {
            let most = MAX_CELLS / columns;
            return Err(QueryError::field("limit", format!("{most} with {columns} columns")));
        }
        Ok(request)
    }

    /// The columns of its rows.
    #[must_use]
    pub fn columns(&self) -> Vec<HistoryColumn> {
        let column = |name: String, unit: &'static str| HistoryColumn { name, unit };
        let mut columns = vec![column("ts".to_owned(), "")];
        match &self.shape {
            Shape::Raw => {
                columns.extend(self.fields.iter().map(|r| column(r.name.to_owned(), r.unit)));
            }
            Shape::Buckets { aggregates, .. } => {
                for reading in &self.fields {
                    columns.extend(aggregates.iter().map(|aggregate| {
                        let unit = if *aggregate == Aggregate::Count { "" } else { reading.unit };
                        column(format!("{}_{}", reading.name, aggregate.name()), unit)
                    }));
                }
            }
        }
        columns
    }

    /// The length of its buckets as it was given; none for readings as they are.
    #[must_use]
    pub fn interval(&self) -> Option<&str> {
        match &self.shape {
            Shape::Raw => None,
            Shape::Buckets { interval, .. } => Some(interval),
        }
    }

    /// The time zone that its buckets follow.
    #[must_use]
    pub fn tz(&self) -> chrono_tz::Tz {
        match &self.shape {
            Shape::Raw => chrono_tz::Tz::UTC,
            Shape::Buckets { buckets, .. } => buckets.tz(),
        }
    }

    /// Whether `delta` is among the aggregates.
    pub(super) fn counts(&self) -> bool {
        matches!(&self.shape, Shape::Buckets { aggregates, .. } if aggregates.contains(&Aggregate::Delta))
    }

    /// How each field is folded.
    pub(super) fn folded(&self) -> Vec<Column> {
        let column = |r: &&Reading| Column { counter: Counter::of(r.name), scale: r.scale };
        self.fields.iter().map(column).collect()
    }
}

/// A time zone by its name.
///
/// # Errors
/// When there is none of that name.
pub fn time_zone(field: &str, name: &str) -> Result<chrono_tz::Tz, QueryError> {
    let unknown = |_| QueryError::field(field, "an IANA name, such as Africa/Johannesburg");
    name.parse().map_err(unknown)
}

/// The readings of a list of names, separated by commas; all if there is no list.
///
/// # Errors
/// A name that is none of a reading.
pub fn fields(names: Option<&str>) -> Result<Vec<&'static Reading>, QueryError> {
    let Some(names) = names else { return Ok(READINGS.iter().collect()) };
    let mut fields: Vec<&'static Reading> = Vec::new();
    for name in names.split(',') {
        let Some(reading) = READINGS.iter().find(|r| r.name == name.trim()) else {
            let text = format!("there is no reading `{name}`; GET /api/sql/tables lists them");
            return Err(QueryError::field("fields", text));
        };
        if !fields.contains(&reading) {
            fields.push(reading);
        }
    }
    Ok(fields)
}

fn shape(length: Micros, texts: &RequestTexts<'_>) -> Result<Shape, QueryError> {
    // A zone that does not exist is a mistake also where it changes nothing.
    let tz = texts.tz.map_or(Ok(chrono_tz::Tz::UTC), |name| time_zone("tz", name))?;
    let Some(text) = texts.interval else {
        let stray = [("agg", texts.agg), ("fill", texts.fill)];
        if let Some((name, _)) = stray.into_iter().find(|(_, given)| given.is_some()) {
            return Err(QueryError::field(name, "only with an interval"));
        }
        return Ok(Shape::Raw);
    };
    let interval = Interval::parse(text)
        .ok_or_else(|| QueryError::field("interval", "such as 10s, 5m, 1h, 1d, 1w, 1mo or 1y"))?;
    let fill = Fill::parse(texts.fill.unwrap_or("none"))
        .ok_or_else(|| QueryError::field("fill", "none, null, previous or linear"))?;
    let shortest = shortest(interval);
    if shortest < SECOND {
        return Err(QueryError::field("interval", "at least 1s"));
    }
    if fill != Fill::None && length / shortest > MAX_FILLED {
        let text = format!("more than {MAX_FILLED} buckets to fill; ask for less time at once");
        return Err(QueryError::field("interval", text));
    }
    let aggregates = aggregates(texts.agg.unwrap_or("avg"))?;
    let buckets =
        Buckets::new(interval, tz).ok_or_else(|| QueryError::field("interval", IRREGULAR))?;
    Ok(Shape::Buckets { interval: text.to_owned(), buckets, aggregates, fill })
}

/// The shortest bucket of an interval: days are shorter where clocks are set forward, months in February.
fn shortest(interval: Interval) -> Micros {
    match interval {
        Interval::Fixed(micros) => micros,
        Interval::Days(days) => i64::from(days) * 23 * HOUR,
        Interval::Months(months) => i64::from(months) * 27 * 24 * HOUR,
    }
}

fn aggregates(names: &str) -> Result<Vec<Aggregate>, QueryError> {
    let mut aggregates = Vec::new();
    for name in names.split(',') {
        let known = || Aggregate::ALL.map(|(name, _)| name).join(", ");
        let aggregate = Aggregate::parse(name.trim())
            .ok_or_else(|| QueryError::field("agg", format!("of {}", known())))?;
        if !aggregates.contains(&aggregate) {
            aggregates.push(aggregate);
        }
    }
    Ok(aggregates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let request = |texts: RequestTexts<'_>| HistoryRequest::new(0, 3600 * SECOND, &texts);
        let cases = [
            (
                RequestTexts { fields: Some("voltage_l1_v,nonsense"), ..RequestTexts::default() },
                "fields",
            ),
            (RequestTexts { interval: Some("5 minutes"), ..RequestTexts::default() }, "interval"),
            (RequestTexts { agg: Some("avg"), ..RequestTexts::default() }, "agg"),
            (
                RequestTexts {
                    interval: Some("5m"),
                    agg: Some("avg,best"),
                    ..RequestTexts::default()
                },
                "agg",
            ),
            (
                RequestTexts { interval: Some("5m"), fill: Some("up"), ..RequestTexts::default() },
                "fill",
            ),
            (
                RequestTexts {
                    interval: Some("5m"),
                    tz: Some("Mars/Base"),
                    ..RequestTexts::default()
                },
                "tz",
            ),
            (RequestTexts { order: Some("up"), ..RequestTexts::default() }, "order"),
            (RequestTexts { limit: Some(20_001), ..RequestTexts::default() }, "limit"),
            (RequestTexts { cursor: Some("x"), ..RequestTexts::default() }, "cursor"),
            (
                RequestTexts { cursor: Some("8210266876799999999_0"), ..RequestTexts::default() },
                "cursor",
            ),
            (
                RequestTexts {
                    limit: Some(20_000),
                    interval: Some("1h"),
                    agg: Some("avg,min,max"),
                    ..RequestTexts::default()
                },
                "limit",
            ),
        ];
        for (texts, field) in cases {
            let error = request(texts).expect_err(field);
            assert_eq!(error.problem.errors[0].field, field);
        }
        assert!(HistoryRequest::new(5, 5, &RequestTexts::default()).is_err());
    }

    fn refused(request: Result<HistoryRequest, QueryError>) -> (String, String) {
        let error = request.expect_err("a bad request").problem.errors.remove(0);
        (error.field, error.message)
    }

    #[test]
    fn each_bound_holds_at_its_edge_and_not_beyond() {
        let request = |length: i64, texts: &RequestTexts<'_>| HistoryRequest::new(0, length, texts);
        let voltage = || RequestTexts { fields: Some("voltage_l1_v"), ..RequestTexts::default() };
        for (limit, good) in [(0, false), (1, true), (20_000, true), (20_001, false)] {
            let limited = request(1, &RequestTexts { limit: Some(limit), ..voltage() });
            assert_eq!(limited.is_ok(), good, "{limit}");
        }
        // 52 readings as they are: 2,000,000 cells are 38,461 rows, so a page of any size fits.
        let raw = RequestTexts { limit: Some(20_000), ..RequestTexts::default() };
        request(1, &raw).expect("all readings");
        let four = |limit| RequestTexts {
            limit: Some(limit),
            interval: Some("1h"),
            agg: Some("avg,min"),
            ..RequestTexts::default()
        };
        request(1, &four(19_230)).expect("104 columns");
        let (field, message) = refused(request(1, &four(19_231)));
        assert_eq!((field.as_str(), message.as_str()), ("limit", "19230 with 104 columns"));
        let filled = |fill, length| {
            let (interval, fill) = (Some("1s"), Some(fill));
            request(length, &RequestTexts { interval, fill, ..voltage() })
        };
        filled("null", 1_000_000 * SECOND).expect("a million buckets");
        let (field, message) = refused(filled("null", 1_000_001 * SECOND));
        assert!(field == "interval" && message.contains("1000000 buckets"), "{message}");
        filled("none", i64::MAX / 2)
            .expect("buckets without readings cost nothing if none is filled");
    }

    #[test]
    fn days_and_months_count_with_their_shortest_length() {
        assert_eq!(shortest(Interval::Fixed(7)), 7);
        assert_eq!(shortest(Interval::Days(1)), 23 * HOUR);
        assert!(shortest(Interval::Months(1)) <= 28 * 24 * HOUR - HOUR, "a February with a change");
        assert_eq!(shortest(Interval::Months(12)), 12 * shortest(Interval::Months(1)));
    }

    #[test]
    fn a_cursor_reads_back_as_it_was_and_no_other_text_is_one() {
        for cursor in [Cursor { at: 0, beside: 0 }, Cursor { at: -5, beside: 7 }] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for bad in ["", "_", "5", "5_", "_5", "5_5_5", "5 _5", "0x5_1", "9223372036854775808_0"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
        let given = |cursor: &str| {
            let texts = RequestTexts { cursor: Some(cursor), ..RequestTexts::default() };
            HistoryRequest::new(0, 1, &texts)
        };
        // Readings of the year 9999, and one before 1970 whose bucket begins in 1969.
        for good in ["253402300799999999_1", "-1_-2678400000000"] {
            given(good).expect(good);
        }
        for bad in ["253404979200000000_0", "-2678400000001_0", "0_253404979200000000"] {
            assert_eq!(refused(given(bad)).0, "cursor", "{bad}");
        }
    }

    #[test]
    fn names_are_trimmed_and_each_counts_once() {
        let names = |list| fields(list).map(|all| all.iter().map(|r| r.name).collect::<Vec<_>>());
        assert_eq!(names(Some(" voltage_l1_v , voltage_l1_v")), Ok(vec!["voltage_l1_v"]));
        assert_eq!(names(None).map(|all| all.len()), Ok(READINGS.len()));
        for bad in ["", "voltage_l1_v,", "VOLTAGE_L1_V", "ts", "device_id"] {
            let error = names(Some(bad)).expect_err(bad);
            assert_eq!(error.problem.errors[0].field, "fields");
        }
        let all = aggregates("delta, avg,avg")
            .map(|all| all.iter().map(|a| a.name()).collect::<Vec<_>>());
        assert_eq!(all, Ok(vec!["delta", "avg"]));
        let known = aggregates("median").expect_err("no aggregate").problem.detail;
        assert!(known.contains("avg, min, max, sum, count, first, last, delta"), "{known}");
    }

    #[test]
    fn buckets_follow_a_time_zone_that_they_are_regular_in() {
        let request = |interval, tz| {
            let texts =
                RequestTexts { interval: Some(interval), tz: Some(tz), ..RequestTexts::default() };
            HistoryRequest::new(0, 1, &texts)
        };
        for (interval, tz) in [("7m", "UTC"), ("30m", "Asia/Kolkata"), ("5h", "Europe/Berlin")] {
            let good = request(interval, tz).expect(interval);
            assert_eq!((good.interval(), good.tz().name()), (Some(interval), tz));
        }
        let (field, message) = refused(request("7m", "Europe/Berlin"));
        assert!(field == "interval" && message.contains("half an hour"), "{message}");
        for bad in ["europe/berlin ", "+02:00", ""] {
            let (field, message) = refused(request("1h", bad));
            assert!(field == "tz" && message.contains("IANA"), "{bad}: {message}");
        }
    }

    #[test]
    fn columns_are_named_for_what_they_are() {
        let texts = RequestTexts {
            fields: Some("voltage_l1_v,energy_import_kwh"),
            interval: Some("1h"),
            agg: Some("max,count"),
            ..RequestTexts::default()
        };
        let request = HistoryRequest::new(0, 1, &texts).expect("good");
        let names: Vec<_> = request.columns();
        let want = [
            ("ts", ""),
            ("voltage_l1_v_max", "V"),
            ("voltage_l1_v_count", ""),
            ("energy_import_kwh_max", "kWh"),
            ("energy_import_kwh_count", ""),
        ];
        let column = |(name, unit): (&str, _)| HistoryColumn { name: name.to_owned(), unit };
        assert_eq!(names, want.map(column));
        let raw = RequestTexts { fields: Some("voltage_l1_v"), ..RequestTexts::default() };
        let raw = HistoryRequest::new(0, 1, &raw).expect("good").columns();
        assert_eq!(raw, [("ts", ""), ("voltage_l1_v", "V")].map(column));
    }
}
