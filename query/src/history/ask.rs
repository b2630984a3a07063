//! What is asked of a history, checked.

use acuvim_lakehouse::{Buckets, IRREGULAR, Interval};
use acuvim_schemas::{
    Micros,
    reading::{READINGS, Reading},
    time::{HOUR, SECOND},
};

use super::{
    fill::Fill,
    fold::{Aggregate, Column},
};
use crate::{checks::time_zone, problem::ApiError};

/// Rows of a page.
const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 20_000;

/// Cells of a page: rows times columns.
const MAX_CELLS: usize = 2_000_000;

/// The years that times lie in, 1970 to 9999, and a month around them.
const TIMES: std::ops::Range<Micros> = -2_678_400_000_000..253_404_979_200_000_000;

/// Buckets of one question that fills gaps.
const MOST_BUCKETS: i64 = 1_000_000;

/// What is asked, as the query gives it.
#[derive(Debug, Default)]
pub(crate) struct Texts<'a> {
    pub fields: Option<&'a str>,
    pub interval: Option<&'a str>,
    pub agg: Option<&'a str>,
    pub fill: Option<&'a str>,
    pub tz: Option<&'a str>,
    pub order: Option<&'a str>,
    pub cursor: Option<&'a str>,
    pub limit: Option<usize>,
}

/// What is asked of a device's history.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub from: Micros,
    pub to: Micros,
    pub fields: Vec<&'static Reading>,
    pub shape: Shape,
    pub order: Order,
    pub limit: usize,
    pub cursor: Option<Cursor>,
}

/// Readings as they are, or buckets.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Raw,
    Buckets { text: String, buckets: Buckets, aggregates: Vec<Aggregate>, fill: Fill },
}

/// Which comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Where the page before ended: of raw readings the last time and how many of it were answered; of
/// buckets the next beginning, and that of the last one with readings, which fills may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
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

impl Asked {
    /// Checks what is asked about a time.
    pub fn new(from: Micros, to: Micros, texts: &Texts<'_>) -> Result<Self, ApiError> {
        if from >= to {
            return Err(ApiError::field("to", "later than from"));
        }
        let order = match texts.order {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(ApiError::field("order", "asc or desc")),
        };
        let limit = match texts.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => limit,
            _ => return Err(ApiError::field("limit", format!("1 to {MAX_LIMIT}"))),
        };
        let cursor = |text| {
            let within =
                |cursor: &Cursor| TIMES.contains(&cursor.at) && TIMES.contains(&cursor.beside);
            Cursor::parse(text)
                .filter(within)
                .ok_or_else(|| ApiError::field("cursor", "not a next_cursor of this question"))
        };
        let asked = Self {
            from,
            to,
            fields: fields(texts.fields)?,
            shape: shape(to - from, texts)?,
            order,
            limit,
            cursor: texts.cursor.map(cursor).transpose()?,
        };
        // Beside `ts`.
        let columns = asked.columns().len().saturating_sub(1).max(1);
        if limit * columns > MAX_CELLS {
            let most = MAX_CELLS / columns;
            return Err(ApiError::field("limit", format!("{most} with {columns} columns")));
        }
        Ok(asked)
    }

    /// The columns of a row: their names and units.
    pub fn columns(&self) -> Vec<(String, &'static str)> {
        let mut columns = vec![("ts".to_owned(), "")];
        match &self.shape {
            Shape::Raw => columns.extend(self.fields.iter().map(|r| (r.name.to_owned(), r.unit))),
            Shape::Buckets { aggregates, .. } => {
                let of = |r: &'static Reading| {
                    aggregates.iter().map(move |a| {
                        let unit = if *a == Aggregate::Count { "" } else { r.unit };
                        (format!("{}_{}", r.name, a.name()), unit)
                    })
                };
                columns.extend(self.fields.iter().flat_map(|r| of(r)));
            }
        }
        columns
    }

    /// Whether counters are counted on.
    pub fn counts(&self) -> bool {
        matches!(&self.shape, Shape::Buckets { aggregates, .. } if aggregates.contains(&Aggregate::Delta))
    }

    /// How each field is folded.
    pub fn folded(&self) -> Vec<Column> {
        let column = |r: &&Reading| Column {
            counter: acuvim_lakehouse::Counter::of(r.name),
            scale: r.scale,
        };
        self.fields.iter().map(column).collect()
    }
}

/// The readings that a list of names means; all if there is none.
pub(crate) fn fields(names: Option<&str>) -> Result<Vec<&'static Reading>, ApiError> {
    let Some(names) = names else { return Ok(READINGS.iter().collect()) };
    let mut fields: Vec<&'static Reading> = Vec::new();
    for name in names.split(',') {
        let Some(reading) = READINGS.iter().find(|r| r.name == name.trim()) else {
            let text = format!("there is no reading `{name}`; GET /api/sql/tables lists them");
            return Err(ApiError::field("fields", text));
        };
        if !fields.contains(&reading) {
            fields.push(reading);
        }
    }
    Ok(fields)
}

fn shape(length: Micros, texts: &Texts<'_>) -> Result<Shape, ApiError> {
    let Some(text) = texts.interval else {
        let stray = [("agg", texts.agg), ("fill", texts.fill)];
        if let Some((name, _)) = stray.into_iter().find(|(_, given)| given.is_some()) {
            return Err(ApiError::field(name, "only with an interval"));
        }
        return Ok(Shape::Raw);
    };
    let interval = Interval::parse(text)
        .ok_or_else(|| ApiError::field("interval", "such as 10s, 5m, 1h, 1d, 1w, 1mo or 1y"))?;
    let tz = texts.tz.map_or(Ok(chrono_tz::Tz::UTC), |name| time_zone("tz", name))?;
    let fill = texts.fill.unwrap_or("none");
    let fill = Fill::parse(fill)
        .ok_or_else(|| ApiError::field("fill", "none, null, previous or linear"))?;
    let least = match interval {
        Interval::Fixed(micros) => micros,
        Interval::Days(days) => i64::from(days) * 23 * HOUR,
        Interval::Months(months) => i64::from(months) * 27 * 24 * HOUR,
    };
    if least < SECOND {
        return Err(ApiError::field("interval", "at least 1s"));
    }
    if fill != Fill::None && length / least > MOST_BUCKETS {
        let text = format!("more than {MOST_BUCKETS} buckets to fill; ask for less time at once");
        return Err(ApiError::field("interval", text));
    }
    let mut aggregates = Vec::new();
    for name in texts.agg.unwrap_or("avg").split(',') {
        let known = || Aggregate::ALL.map(|(name, _)| name).join(", ");
        let aggregate = Aggregate::parse(name.trim())
            .ok_or_else(|| ApiError::field("agg", format!("of {}", known())))?;
        if !aggregates.contains(&aggregate) {
            aggregates.push(aggregate);
        }
    }
    let buckets =
        Buckets::new(interval, tz).ok_or_else(|| ApiError::field("interval", IRREGULAR))?;
    Ok(Shape::Buckets { text: text.to_owned(), buckets, aggregates, fill })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let asked = |texts: Texts<'_>| Asked::new(0, 3600 * SECOND, &texts);
        let cases = [
            (Texts { fields: Some("voltage_l1_v,nonsense"), ..Texts::default() }, "fields"),
            (Texts { interval: Some("5 minutes"), ..Texts::default() }, "interval"),
            (Texts { agg: Some("avg"), ..Texts::default() }, "agg"),
            (Texts { interval: Some("5m"), agg: Some("avg,best"), ..Texts::default() }, "agg"),
            (Texts { interval: Some("5m"), fill: Some("up"), ..Texts::default() }, "fill"),
            (Texts { interval: Some("5m"), tz: Some("Mars/Base"), ..Texts::default() }, "tz"),
            (Texts { order: Some("up"), ..Texts::default() }, "order"),
            (Texts { limit: Some(20_001), ..Texts::default() }, "limit"),
            (Texts { cursor: Some("x"), ..Texts::default() }, "cursor"),
            (Texts { cursor: Some("8210266876799999999_0"), ..Texts::default() }, "cursor"),
            (
                Texts {
                    limit: Some(20_000),
                    interval: Some("1h"),
                    agg: Some("avg,min,max"),
                    ..Texts::default()
                },
                "limit",
            ),
        ];
        for (texts, field) in cases {
            let error = asked(texts).expect_err(field);
            assert_eq!(error.problem.errors[0].field, field);
        }
        assert!(Asked::new(5, 5, &Texts::default()).is_err());
    }

    #[test]
    fn columns_are_named_for_what_they_are() {
        let texts = Texts {
            fields: Some("voltage_l1_v,energy_import_kwh"),
            interval: Some("1h"),
            agg: Some("max,count"),
            ..Texts::default()
        };
        let asked = Asked::new(0, 1, &texts).expect("good");
        let names: Vec<_> = asked.columns();
        let want = [
            ("ts", ""),
            ("voltage_l1_v_max", "V"),
            ("voltage_l1_v_count", ""),
            ("energy_import_kwh_max", "kWh"),
            ("energy_import_kwh_count", ""),
        ];
        assert_eq!(names, want.map(|(name, unit)| (name.to_owned(), unit)));
        let raw = Texts { fields: Some("voltage_l1_v"), ..Texts::default() };
        let raw = Asked::new(0, 1, &raw).expect("good").columns();
        assert_eq!(raw, [("ts", ""), ("voltage_l1_v", "V")].map(|(n, u)| (n.to_owned(), u)));
    }
}
