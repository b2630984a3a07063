use datafusion::prelude::SessionContext;

use crate::testing::{cells, engine};

async fn ask(session: &SessionContext, sql: &str) -> datafusion::error::Result<Vec<Vec<String>>> {
    Ok(cells(&session.sql(sql).await?.collect().await?))
}

async fn one(sql: &str) -> String {
    let found = ask(&engine().session(), &format!("SELECT {sql}")).await;
    found.unwrap_or_else(|error| panic!("{sql}: {error}"))[0][0].clone()
}

async fn error(sql: &str) -> String {
    let found = ask(&engine().session(), &format!("SELECT {sql}")).await;
    found.map_or_else(|error| error.to_string(), |found| panic!("{sql}: {found:?}"))
}

#[tokio::test]
async fn constants_and_columns_have_the_same_buckets() {
    let at = "to_timestamp('2026-05-16T22:44:59.999999Z')";
    for (interval, zone, wanted) in [
        ("'15m'", "", "2026-05-16T22:30:00Z"),
        ("'1d'", "", "2026-05-16T00:00:00Z"),
        ("'1d'", ", 'Africa/Johannesburg'", "2026-05-16T22:00:00Z"),
        ("INTERVAL '1 month'", ", 'Africa/Johannesburg'", "2026-04-30T22:00:00Z"),
        ("INTERVAL '90 minutes'", "", "2026-05-16T22:30:00Z"),
    ] {
        let call = format!("time_bucket({interval}, {at}{zone})");
        assert_eq!(one(&call).await, wanted, "{call}");
        let column = format!(
            "time_bucket({interval}, t{zone}) FROM (VALUES ({at}), ({at}), (NULL)) AS x(t)"
        );
        let found = ask(&engine().session(), &format!("SELECT {column}")).await.expect(&column);
        assert_eq!(found, [[wanted], [wanted], [""]], "{column}");
    }
}

#[tokio::test]
async fn a_bucket_that_ends_at_a_change_of_clocks_is_left_there() {
    // Clocks in Berlin go forward at 01:00Z on this day, so the bucket of one has no hour of two.
    let sql = "SELECT time_bucket('1h', t, 'Europe/Berlin') FROM (VALUES
        (to_timestamp('2026-03-29T00:59:59Z')), (to_timestamp('2026-03-29T01:00:00Z')),
        (to_timestamp('2026-03-28T23:00:00Z')), (to_timestamp('2026-03-29T02:00:00Z'))) AS x(t)";
    let found = ask(&engine().session(), sql).await.expect("buckets");
    let wanted = ["00:00:00", "01:00:00", "23:00:00", "02:00:00"];
    for (row, wanted) in found.iter().zip(wanted) {
        assert!(row[0].contains(wanted), "{found:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_a_bucket_says_why() {
    let at = "to_timestamp('2026-05-16T22:44:59Z')";
    for (call, why) in [
        (format!("time_bucket('1fortnight', {at})"), "an interval is '10s'"),
        (format!("time_bucket('0m', {at})"), "an interval is '10s'"),
        (format!("time_bucket(INTERVAL '1 month 1 day', {at})"), "an interval is '10s'"),
        (format!("time_bucket('1h', {at}, 'Mars/Olympus')"), "'Mars/Olympus' is not a time zone"),
        (format!("time_bucket('7m', {at}, 'Europe/Berlin')"), "divides half an hour"),
        (format!("time_bucket('1h', {at}, 'UTC', 1)"), "optionally a time zone"),
        ("time_bucket('1h')".to_owned(), "optionally a time zone"),
        (
            format!("time_bucket(i, {at}) FROM (VALUES ('1h'), ('2h')) AS x(i)"),
            "must be a constant",
        ),
    ] {
        let error = error(&call).await;
        assert!(error.contains(why), "{call}: {error}");
    }
}

#[tokio::test]
async fn times_of_one_bucket_are_one_group() {
    let sql = "SELECT time_bucket('1h', t) AS b, count(*) FROM (VALUES
        (to_timestamp('2026-05-16T00:10:00Z')), (to_timestamp('2026-05-16T00:20:00Z')),
        (to_timestamp('2026-05-16T01:10:00Z'))) AS x(t) GROUP BY b ORDER BY b";
    let found = ask(&engine().session(), sql).await.expect("buckets");
    assert_eq!(found.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["2", "1"]);
}
