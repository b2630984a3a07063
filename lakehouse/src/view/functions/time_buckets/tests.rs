use acuvim_wire::time::{HOUR, SECOND};

use super::*;
use crate::testing::{cells, engine};

async fn ask(sql: &str) -> Result<Vec<String>> {
    let rows = engine().session().sql(sql).await?.collect().await?;
    Ok(cells(&rows).into_iter().flatten().collect())
}

fn seconds() -> Buckets {
    Buckets::new(Interval::Fixed(SECOND), chrono_tz::Tz::UTC).expect("regular")
}

#[test]
fn the_bucket_of_the_beginning_is_first_and_that_of_the_end_is_left_out() {
    let starts = |from, to| starts(seconds(), from, to).expect("few");
    assert_eq!(starts(SECOND / 2, 3 * SECOND), [0, SECOND, 2 * SECOND]);
    assert_eq!(starts(0, 3 * SECOND + 1).len(), 4);
    assert_eq!(starts(SECOND, SECOND), [0_i64; 0]);
    assert_eq!(starts(5 * SECOND, SECOND), [0_i64; 0], "an end before the beginning");
    assert_eq!(starts(-SECOND / 2, 1), [-SECOND, 0]);
}

#[test]
fn there_are_no_more_buckets_than_allowed() {
    let most = i64::try_from(MAX_BUCKETS).expect("small") * SECOND;
    assert_eq!(starts(seconds(), 0, most).expect("just as many").len(), MAX_BUCKETS);
    let error = starts(seconds(), 0, most + 1).expect_err("one more");
    assert!(error.to_string().contains("100000"), "{error}");
}

#[test]
fn a_day_on_which_clocks_change_has_23_or_25_hours() {
    let zone = chrono_tz::Tz::America__New_York;
    let hours = Buckets::new(Interval::Fixed(HOUR), zone).expect("regular");
    let day = |text: &str| {
        let days = Buckets::new(Interval::Days(1), zone).expect("regular");
        let start = days.start(moment(text).expect("a time")).expect("a day");
        starts(hours, start, days.next(start).expect("the next one")).expect("few").len()
    };
    assert_eq!(day("2026-03-08T12:00:00Z"), 23);
    assert_eq!(day("2026-11-01T12:00:00Z"), 25);
    assert_eq!(day("2026-11-02T12:00:00Z"), 24);
}

#[tokio::test]
async fn buckets_without_readings_are_rows_too() {
    let sql = "SELECT b.bucket, count(x.t) FROM
        time_buckets('1h', '2026-05-16T00:30:00Z', '2026-05-16T03:00:00Z') b
        LEFT JOIN (VALUES (to_timestamp('2026-05-16T01:10:00Z'))) AS x(t)
        ON time_bucket('1h', x.t) = b.bucket GROUP BY b.bucket ORDER BY b.bucket";
    let found = ask(sql).await.expect("rows");
    let wanted =
        ["2026-05-16T00:00:00Z", "0", "2026-05-16T01:00:00Z", "1", "2026-05-16T02:00:00Z", "0"];
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_named() {
    for (args, why) in [
        ("'1h'", "an interval, a beginning, an end"),
        ("1, '2026-05-16T00:00:00Z', '2026-05-17T00:00:00Z'", "takes texts"),
        ("'1x', '2026-05-16T00:00:00Z', '2026-05-17T00:00:00Z'", "an interval is"),
        ("'1h', 'yesterday', '2026-05-17T00:00:00Z'", "'yesterday' is not a time"),
        ("'1h', '2026-05-16T00:00:00Z', '2026-05-17T00:00:00Z', 'Nowhere'", "'Nowhere' is not"),
        ("'40m', '2026-05-16T00:00:00Z', '2026-05-17T00:00:00Z', 'Europe/Berlin'", "half an hour"),
        ("'1s', '2020-01-01T00:00:00Z', '2026-05-17T00:00:00Z'", "more than 100000 buckets"),
    ] {
        let error = ask(&format!("SELECT * FROM time_buckets({args})")).await.expect_err(args);
        assert!(error.to_string().contains(why), "{args}: {error}");
    }
}
