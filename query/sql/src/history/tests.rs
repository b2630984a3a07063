//! Pages of a history, read from tables in memory: however a client pages, it gets every row once.

use std::sync::Arc;

use acuvim_lakehouse::{MeterTerms, QUARTER};
use acuvim_model::History;
use acuvim_tables::Table;
use acuvim_wire::time::{DAY, SECOND, to_rfc3339};
use arrow::array::{
    ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    bucket_query::BucketQuery,
    fold::Meter,
    page::Page,
    request::{HistoryRequest, Order, RequestTexts, Shape},
    site::{Site, SiteLogger},
};
use crate::engine::ViewState;

/// A reading: its device, its time in seconds, a voltage and an energy, both in hundredths.
type Row = (&'static str, i64, Option<i64>, Option<i64>);

fn times(seconds: impl Iterator<Item = i64>) -> ArrayRef {
    let micros = TimestampMicrosecondArray::from_iter_values(seconds.map(|s| s * SECOND));
    Arc::new(micros.with_timezone("UTC"))
}

fn hundredths(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let values = Decimal128Array::from_iter(values.map(|v| v.map(i128::from)));
    Arc::new(values.with_precision_and_scale(14, 2).expect("fits"))
}

fn telemetry(rows: &[Row]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let columns: [(&str, ArrayRef); 4] = [
        ("device_id", Arc::new(ids)),
        ("ts", times(rows.iter().map(|row| row.1))),
        ("voltage_l1_v", hundredths(rows.iter().map(|row| row.2))),
        ("energy_import_kwh", hundredths(rows.iter().map(|row| row.3))),
    ];
    RecordBatch::try_from_iter(columns).expect("rows")
}

fn heartbeats(rows: &[(&str, i64, Option<&str>)]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let serials = StringArray::from_iter(rows.iter().map(|row| row.2));
    let columns: [(&str, ArrayRef); 3] = [
        ("device_id", Arc::new(ids)),
        ("ts", times(rows.iter().map(|row| row.1))),
        ("meter_serial", Arc::new(serials)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true)))
        .expect("rows")
}

/// The beginnings of quarters of an hour that the rollup has, in seconds.
fn quarters(rows: &[(&str, i64)]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let columns: [(&str, ArrayRef); 2] =
        [("device_id", Arc::new(ids)), ("ts", times(rows.iter().map(|row| row.1)))];
    RecordBatch::try_from_iter(columns).expect("rows")
}

struct Stored {
    telemetry: RecordBatch,
    heartbeats: RecordBatch,
    quarters: RecordBatch,
}

impl Stored {
    fn readings(rows: &[Row]) -> Self {
        Self { telemetry: telemetry(rows), heartbeats: heartbeats(&[]), quarters: quarters(&[]) }
    }

    fn context(&self) -> SessionContext {
        let context = SessionContext::new();
        for (table, rows) in [
            (Table::Telemetry, &self.telemetry),
            (Table::Heartbeats, &self.heartbeats),
            (Table::Rollup15m, &self.quarters),
        ] {
            context.register_batch(table.name(), rows.clone()).expect("a table");
        }
        context
    }
}

fn site(loggers: &[(&str, std::ops::Range<i64>)]) -> Site {
    let logger = |(id, there): &(&str, std::ops::Range<i64>)| SiteLogger {
        device_id: (*id).to_owned(),
        there: there.start.saturating_mul(SECOND)..there.end.saturating_mul(SECOND),
    };
    Site(loggers.iter().map(logger).collect())
}

fn always(id: &str) -> Site {
    site(&[(id, i64::MIN..i64::MAX)])
}

/// What a client asks for, times in seconds.
#[derive(Debug, Clone)]
struct Asked {
    range: std::ops::Range<i64>,
    order: &'static str,
    limit: usize,
    /// When the request comes.
    now: i64,
    /// The interval, aggregates and fill of buckets; none: readings as they are.
    buckets: Option<(&'static str, &'static str, &'static str)>,
}

impl Asked {
    fn raw(order: &'static str, limit: usize) -> Self {
        Self { range: 0..10_000, order, limit, now: 100_000_000, buckets: None }
    }

    fn request(&self, cursor: Option<&str>) -> HistoryRequest {
        let texts = RequestTexts {
            fields: Some("voltage_l1_v,energy_import_kwh"),
            interval: self.buckets.map(|b| b.0),
            agg: self.buckets.map(|b| b.1),
            fill: self.buckets.map(|b| b.2),
            order: Some(self.order),
            cursor,
            limit: Some(self.limit),
            ..RequestTexts::default()
        };
        let (from, to) = (self.range.start * SECOND, self.range.end * SECOND);
        HistoryRequest::new(from, to, &texts).expect("a good request")
    }

    async fn page(&self, context: &SessionContext, site: &Site, cursor: Option<&str>) -> History {
        let request = self.request(cursor);
        let page: datafusion::error::Result<Page> = match request.shape.clone() {
            Shape::Raw => super::raw::page(context, site, &request).await,
            Shape::Buckets { buckets, aggregates, fill, .. } => {
                let query = BucketQuery {
                    site: site.clone(),
                    request,
                    buckets,
                    aggregates,
                    fill,
                    now: self.now * SECOND,
                    meter: Meter { terms: MeterTerms::default(), changes: Vec::new() },
                    not_rolled_up: None,
                };
                query.read(context).await
            }
        };
        let columns = json!([{"name": "x", "unit": ""}]);
        let before = json!({"device_id": "a", "interval": null, "tz": "UTC", "columns": columns});
        let view = ViewState { lake_version: 1, watermark: vec![] };
        let text: Vec<u8> = page.expect("a page").into_pieces(&before, view).flatten().collect();
        serde_json::from_slice(&text).expect("a history")
    }

    /// All rows, page by page.
    async fn all(&self, context: &SessionContext, site: &Site) -> Vec<Vec<Value>> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..1000 {
            let page = self.page(context, site, cursor.as_deref()).await;
            assert!(page.rows.len() <= self.limit);
            assert!(page.next_cursor.is_none() || page.rows.len() == self.limit, "a page is full");
            rows.extend(page.rows);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return rows;
            }
        }
        panic!("the pages have no end");
    }
}

fn at(second: i64) -> Value {
    Value::from(to_rfc3339(second * SECOND))
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

fn readings() -> impl Strategy<Value = Vec<(i64, Option<i64>, Option<i64>)>> {
    let one = (0_i64..40, proptest::option::of(0_i64..100), proptest::option::of(0_i64..50));
    proptest::collection::vec(one, 0..14)
}

/// Readings by time, one every ten seconds at most, whose energy never falls.
fn counted(readings: &[(i64, Option<i64>, Option<i64>)]) -> Vec<Row> {
    let mut all = readings.to_vec();
    all.sort_unstable();
    all.dedup_by_key(|reading| reading.0);
    let mut total = 0;
    let mut row = |(at, volts, more): (i64, Option<i64>, Option<i64>)| {
        total += more.unwrap_or(0);
        ("a", at * 10, volts, more.map(|_| total))
    };
    all.into_iter().map(&mut row).collect()
}

const EVERY: &str = "avg,min,max,sum,count,first,last,delta";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// A device's readings have times of their own: `telemetry` has each once per device and `ts`.
    #[test]
    fn pages_of_readings_are_all_readings_once(
        readings in readings(), limit in 1_usize..6, descending: bool,
    ) {
        let rows = counted(&readings);
        let context = Stored::readings(&rows).context();
        let order = if descending { "desc" } else { "asc" };
        let got = on_a_runtime(Asked::raw(order, limit).all(&context, &always("a")));
        let whole = on_a_runtime(Asked::raw(order, 100).all(&context, &always("a")));
        prop_assert_eq!(whole.len(), rows.len());
        prop_assert_eq!(got, whole);
    }

    /// Whatever a bucket shows, it does not depend on the page that it is on.
    #[test]
    fn pages_of_buckets_are_the_same_as_one_page(
        readings in readings(), limit in 1_usize..5, descending: bool, fill in 0_usize..4,
        from in 0_i64..90, to in 100_i64..420,
    ) {
        let context = Stored::readings(&counted(&readings)).context();
        let fill = ["none", "null", "previous", "linear"][fill];
        let order = if descending { "desc" } else { "asc" };
        let buckets = Some(("1m", EVERY, fill));
        let asked = Asked { range: from..to, buckets, ..Asked::raw(order, limit) };
        let got = on_a_runtime(asked.all(&context, &always("a")));
        let whole = Asked { limit: 1000, ..asked };
        prop_assert_eq!(&got, &on_a_runtime(whole.all(&context, &always("a"))));
        // The other order has the same rows.
        let order = if descending { "asc" } else { "desc" };
        let mut other = on_a_runtime(Asked { order, ..whole }.all(&context, &always("a")));
        other.reverse();
        prop_assert_eq!(got, other);
    }
}

#[test]
fn a_page_ends_between_two_readings_of_one_time() {
    let rows: Vec<Row> = (0..5).map(|n| ("a", 7, Some(n), None)).collect();
    let context = Stored::readings(&rows).context();
    let (site, asked) = (always("a"), Asked::raw("asc", 2));
    let first = on_a_runtime(asked.page(&context, &site, None));
    assert_eq!(first.next_cursor.as_deref(), Some("7000000_2"));
    let second = on_a_runtime(asked.page(&context, &site, first.next_cursor.as_deref()));
    assert_eq!(second.next_cursor.as_deref(), Some("7000000_4"));
    let last = on_a_runtime(asked.page(&context, &site, second.next_cursor.as_deref()));
    assert_eq!((last.rows.len(), last.next_cursor), (1, None));
}

#[test]
fn a_full_page_that_is_the_last_names_no_next_one() {
    let rows = [("a", 1, Some(1), None), ("a", 2, Some(2), None)];
    let context = Stored::readings(&rows).context();
    for order in ["asc", "desc"] {
        let page = on_a_runtime(Asked::raw(order, 2).page(&context, &always("a"), None));
        assert_eq!((page.rows.len(), page.next_cursor), (2, None), "{order}");
    }
}

#[test]
fn a_range_has_its_beginning_and_not_its_end() {
    let rows = [("a", 0, Some(1), None), ("a", 10, Some(2), None), ("a", 20, Some(3), None)];
    let context = Stored::readings(&rows).context();
    let asked = Asked { range: 0..20, ..Asked::raw("asc", 9) };
    let got = on_a_runtime(asked.all(&context, &always("a")));
    assert_eq!(
        got,
        [vec![at(0), json!(0.01), Value::Null], vec![at(10), json!(0.02), Value::Null]]
    );
    let other = on_a_runtime(asked.all(&context, &always("b")));
    assert!(other.is_empty(), "another device's readings are not its history");
}

/// `b` has replaced `a` at 100 s.
#[test]
fn a_site_has_each_loggers_readings_while_it_stood_there() {
    let rows = [
        ("a", 10, Some(1), Some(100)),
        ("b", 20, Some(2), Some(0)),
        ("a", 99, Some(3), Some(200)),
        ("b", 100, Some(4), Some(250)),
        ("a", 100, Some(5), Some(0)),
        ("b", 200, Some(6), Some(350)),
    ];
    let context = Stored::readings(&rows).context();
    let site = site(&[("b", 100..i64::MAX), ("a", i64::MIN..100)]);
    for (order, wanted) in [("asc", [1, 3, 4, 6]), ("desc", [6, 4, 3, 1])] {
        let got = on_a_runtime(Asked::raw(order, 2).all(&context, &site));
        let volts: Vec<_> = got.iter().map(|row| row[1].as_f64().expect("a voltage")).collect();
        assert_eq!(volts, wanted.map(|n| f64::from(n) / 100.0), "{order}");
    }
    // Their meter stayed: it goes on counting under the new logger.
    let asked = Asked { buckets: Some(("1m", "delta", "none")), ..Asked::raw("asc", 9) };
    let got = on_a_runtime(asked.all(&context, &site));
    let deltas: Vec<_> = got.iter().map(|row| row[2].clone()).collect();
    assert_eq!(deltas, [json!(0.0), json!(1.5), json!(1.0)]);
}

#[test]
fn what_a_counter_counted_before_the_history_belongs_to_its_first_bucket() {
    let day = DAY / SECOND;
    let far = 30 * day;
    let rows = [("a", 0, None, Some(1000)), ("a", far + 60, None, Some(1500))];
    let mut stored = Stored::readings(&rows);
    let asked = |from| Asked {
        range: from..far + 120,
        buckets: Some(("1m", "delta", "none")),
        ..Asked::raw("asc", 9)
    };
    let delta = |stored: &Stored, from| {
        let rows = on_a_runtime(asked(from).all(&stored.context(), &always("a")));
        rows.last().expect("a bucket")[2].clone()
    };
    assert_eq!(delta(&stored, 0), json!(5.0), "both readings are in the history");
    assert_eq!(delta(&stored, far), json!(0.0), "no reading of the week before is known");
    // Beyond a week the rollup shows where to look.
    stored.quarters = quarters(&[("a", 0), ("b", far - 900)]);
    assert_eq!(delta(&stored, far), json!(5.0));
}

#[test]
fn a_reading_behind_the_history_can_take_back_its_last_count() {
    let rows = [("a", 0, None, Some(100)), ("a", 10, None, Some(110)), ("a", 50, None, Some(9000))];
    let asked =
        Asked { range: 0..60, buckets: Some(("1m", "delta", "none")), ..Asked::raw("asc", 9) };
    let delta = |rows: &[Row]| {
        let context = Stored::readings(rows).context();
        on_a_runtime(asked.all(&context, &always("a")))[0][2].clone()
    };
    assert_eq!(delta(&rows), json!(89.0));
    let contradicted = [&rows[..], &[("a", 70, None, Some(120)), ("a", 80, None, Some(121))]];
    assert_eq!(delta(&contradicted.concat()), json!(0.1), "a jump that the next reading denies");
}

#[test]
fn another_meter_is_known_by_its_serial_number() {
    let rows =
        [("a", 10, None, Some(500)), ("a", 50, None, Some(90_000)), ("a", 59, None, Some(90_100))];
    let mut stored = Stored::readings(&rows);
    let asked =
        Asked { range: 0..60, buckets: Some(("1m", "delta", "none")), ..Asked::raw("asc", 9) };
    let delta =
        |stored: &Stored| on_a_runtime(asked.all(&stored.context(), &always("a")))[0][2].clone();
    assert_eq!(delta(&stored), json!(896.0));
    let serials = |of: [(&'static str, Option<&'static str>); 4]| {
        let rows: Vec<_> =
            of.iter().zip([5, 20, 30, 40]).map(|((d, s), at)| (*d, at, *s)).collect();
        heartbeats(&rows)
    };
    stored.heartbeats = serials([
        ("a", Some("AH18010201")),
        ("a", None),
        ("a", Some("AH18010201")),
        ("b", Some("AH18010202")),
    ]);
    assert_eq!(delta(&stored), json!(896.0), "the same meter, and another device's");
    stored.heartbeats = serials([
        ("a", Some("AH18010201")),
        ("a", None),
        ("a", Some("AH18010202")),
        ("a", Some("AH18010202")),
    ]);
    assert_eq!(delta(&stored), json!(1.0), "from 30 s on it is another meter");
}

#[test]
fn nothing_is_filled_in_after_now() {
    let context = Stored::readings(&[("a", 0, Some(100), None)]).context();
    let buckets = Some(("1m", "avg,count", "previous"));
    let asked = Asked { range: 0..300, now: 150, buckets, ..Asked::raw("asc", 99) };
    let got = on_a_runtime(asked.all(&context, &always("a")));
    let filled = |minute: i64, count: i64| {
        vec![at(minute * 60), json!(1.0), json!(count), Value::Null, json!(0)]
    };
    assert_eq!(got, [filled(0, 1), filled(1, 0), filled(2, 0)]);
    let later = on_a_runtime(Asked { now: 9999, ..asked }.all(&context, &always("a")));
    assert_eq!(later.len(), 5);
}

#[test]
fn a_quarter_of_the_rollup_is_found_in_its_range_alone() {
    let quarter = QUARTER / SECOND;
    let mut stored = Stored::readings(&[]);
    stored.quarters = quarters(&[("a", 0), ("a", quarter), ("b", 2 * quarter)]);
    let context = stored.context();
    let last = |range: std::ops::Range<i64>| {
        let range = range.start * SECOND..range.end * SECOND;
        let found = super::sources::last_quarter(&context, "a", range);
        on_a_runtime(found).expect("a plan").map(|at| at / SECOND)
    };
    assert_eq!(last(0..quarter), Some(0));
    assert_eq!(last(0..quarter + 1), Some(quarter));
    assert_eq!(last(1..quarter), None);
    assert_eq!(last(2 * quarter..9 * quarter), None, "that one is another device's");
}

#[test]
fn a_history_is_descending_only_if_it_is_asked_to_be() {
    let order = |order| {
        let texts = RequestTexts { order, ..RequestTexts::default() };
        HistoryRequest::new(0, 1, &texts).map(|request| request.order)
    };
    assert_eq!(order(None), Ok(Order::Ascending));
    assert_eq!(order(Some("asc")), Ok(Order::Ascending));
    assert_eq!(order(Some("desc")), Ok(Order::Descending));
    order(Some("DESC")).expect_err("names are exact");
}
