//! Queries that pass the gate, queries that do not, and arbitrary texts.

use super::*;
use proptest::prelude::*;

fn verdict(text: &str) -> Result<(), String> {
    check(text, &GateLimits::default()).map(|_| ()).map_err(|problem| problem.detail)
}

#[test]
fn what_reads_tables_passes() {
    for good in [
        "SELECT 1",
        "select device_id, count(*) from telemetry group by 1 order by 2 desc limit 5;",
        "WITH x AS (SELECT * FROM telemetry) SELECT avg(voltage_l1_v) FROM x JOIN devices USING (device_id)",
        "SELECT a FROM (SELECT 1 AS a) UNION ALL SELECT 2",
        "SELECT row_number() OVER (PARTITION BY device_id ORDER BY ts) FROM telemetry",
        "SELECT date_bin(INTERVAL '5 minutes', ts), EXTRACT(hour FROM ts) FROM telemetry WHERE ts > $1",
        "SELECT CASE WHEN a IS NULL THEN 1 ELSE 2 END FROM (VALUES (1), (2)) AS t(a)",
        "SELECT count(*) FROM telemetry WHERE device_id IN (SELECT device_id FROM devices)",
    ] {
        assert_eq!(verdict(good), Ok(()), "{good}");
    }
    let list = (0..3000).map(|i| format!("'d{i}'")).collect::<Vec<_>>().join(",");
    assert_eq!(verdict(&format!("SELECT 1 FROM telemetry WHERE device_id IN ({list})")), Ok(()));
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    for (bad, why) in [
        ("", "empty"),
        ("SELEC 1", "does not parse"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("DROP TABLE telemetry", "only a SELECT"),
        ("CREATE TABLE x AS SELECT 1", "only a SELECT"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "only a SELECT"),
        ("INSERT INTO telemetry SELECT * FROM telemetry", "only a SELECT"),
        ("DELETE FROM telemetry", "only a SELECT"),
        ("UPDATE telemetry SET seq = 1", "only a SELECT"),
        ("COPY telemetry TO '/tmp/x'", "only a SELECT"),
        ("COPY (SELECT 1) TO '/tmp/x'", "only a SELECT"),
        ("SET datafusion.execution.batch_size = 1", "only a SELECT"),
        ("SHOW ALL", "only a SELECT"),
        ("PREPARE p AS SELECT 1", "only a SELECT"),
        ("EXPLAIN SELECT 1", "only a SELECT"),
        ("TABLE telemetry", ""),
        ("SELECT 1 INTO x", "INTO"),
        ("WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT * FROM n) SELECT * FROM n", "RECURSIVE"),
        ("SELECT 1 FROM (WITH RECURSIVE n AS (SELECT 1) SELECT * FROM n)", "RECURSIVE"),
        ("SELECT repeat('x', 2000000000)", "repeat"),
        ("SELECT * FROM range(0, 400000000)", "FROM"),
        ("SELECT * FROM generate_series(1, 10)", "FROM"),
        ("SELECT unnest(range(0, 400000000))", "not allowed"),
        ("SELECT datafusion.public.repeat('x', 9)", "not allowed"),
        ("SELECT \"REPEAT\"('x', 9)", "not allowed"),
        ("SELECT a FROM telemetry WHERE array_repeat(1, 9) IS NULL", "array_repeat"),
        ("SELECT count(*) FILTER (WHERE lpad('x', 999999999) = 'x') FROM telemetry", "lpad"),
        ("SELECT 1 ORDER BY repeat('x', 9)", "repeat"),
        (
            "SELECT approx_percentile_cont(seq, 0.5, 1000000000000000) FROM telemetry",
            "approx_percentile",
        ),
        ("SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)') FROM telemetry", "arrow_cast"),
        ("SELECT CAST(NULL AS BIGINT[2000000000]) FROM telemetry", "BIGINT[2000000000]"),
        ("SELECT NULL::STRUCT<a INT> FROM telemetry", "STRUCT"),
        ("SELECT a||a||a||a||a||a FROM (SELECT 'x' AS a)", "||"),
        ("SELECT * FROM telemetry, LATERAL (SELECT repeat('x', 9))", "repeat"),
    ] {
        let got = verdict(bad).expect_err(bad);
        assert!(got.contains(why), "{bad}: {got}");
    }
}

#[test]
fn what_multiplies_is_counted() {
    let doubling: Vec<String> =
        (1..30).map(|n| format!("c{n} AS (SELECT l.x FROM c{} l, c{} r)", n - 1, n - 1)).collect();
    let text = format!("WITH c0 AS (SELECT 1 AS x), {} SELECT x FROM c29", doubling.join(","));
    assert!(verdict(&text).expect_err("doubling").contains("WITH"));
    let columns = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",");
    for (group_by, passes) in [
        (format!("CUBE({})", columns(6)), true),
        (format!("x, CUBE({})", columns(40)), false),
        (format!("CUBE({})", columns(200)), false),
        (format!("ROLLUP({})", columns(40)), true),
        (format!("ROLLUP({}), ROLLUP({})", columns(40), columns(2)), false),
        ("CUBE(a, b, c), CUBE(d, e, f)".to_owned(), true),
        ("CUBE(a, b, c), CUBE(d, e, f), ROLLUP(g)".to_owned(), false),
        ("GROUPING SETS ((a), (b), ())".to_owned(), true),
        (format!("GROUPING SETS (CUBE({}), (a))", columns(30)), false),
        ("a, b WITH CUBE".to_owned(), false),
    ] {
        let text = format!("SELECT count(*) FROM telemetry GROUP BY {group_by}");
        let got = verdict(&text);
        let reasons = ["groupings", "parse", "CUBE is not allowed"];
        let refused = got.as_ref().is_err_and(|e| reasons.iter().any(|reason| e.contains(reason)));
        assert_eq!((got.is_ok(), refused), (passes, !passes), "{group_by}: {got:?}");
    }
    let seven = "SELECT 1 FROM telemetry GROUP BY CUBE(a,b,c,d,e)";
    let split = format!("SELECT 1 FROM ({seven}), ({seven}), ({seven})");
    assert!(verdict(&split).expect_err("spread over subqueries").contains("groupings"));
    for percentile in [
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY voltage_l1_v)",
        "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY voltage_l1_v)",
        "approx_percentile_cont(voltage_l1_v, 0.95)",
        "approx_percentile_cont(voltage_l1_v, 0.95, 200)",
    ] {
        assert_eq!(verdict(&format!("SELECT {percentile} FROM telemetry")), Ok(()), "{percentile}");
    }
    for unbounded in [
        "approx_percentile_cont(0.5, 1000 * 1000000) WITHIN GROUP (ORDER BY seq)",
        "approx_percentile_cont(0.5, 2000) WITHIN GROUP (ORDER BY seq)",
        "approx_percentile_cont(seq, 0.5, seq)",
    ] {
        let got = verdict(&format!("SELECT {unbounded} FROM telemetry")).expect_err(unbounded);
        assert!(got.contains("numbers up to 1000"), "{unbounded}: {got}");
    }
    let many = format!("SELECT 1 FROM {}", vec!["telemetry"; 500].join(","));
    assert!(verdict(&many).expect_err("joins").contains("tables in FROM"));
    assert_eq!(
        verdict("SELECT CAST(payload AS VARCHAR), ts::date, a || 'x' FROM dead_letters"),
        Ok(())
    );
}

#[test]
fn size_is_judged_before_anything_recursive() {
    for (text, why) in [
        (format!("SELECT {}1", "1+".repeat(20_000)), "complex"),
        (format!("SELECT '{}'", "x".repeat(70_000)), "over"),
        (format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200)), ""),
        (format!("SELECT {}1", "NOT ".repeat(5000)), "complex"),
        (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1000)), "complex"),
        (format!("SELECT {}", vec!["1"; 9000].join(",")), "complex"),
        (format!("SELECT {}1", "-".repeat(300)), ""),
    ] {
        if let Err(got) = verdict(&text) {
            assert!(got.contains(why), "{got}");
        } else {
            assert_eq!(why, "", "must not pass");
        }
    }
    assert_eq!(verdict(&format!("SELECT {}1", "1+".repeat(500))), Ok(()));
}

#[test]
fn a_select_without_grouping_sets_counts_for_none() {
    let many = vec!["SELECT device_id FROM devices WHERE device_id = 'x' GROUP BY 1"; 18];
    assert_eq!(verdict(&many.join(" UNION ALL ")), Ok(()));
    assert_eq!(verdict(&vec!["SELECT 1"; 200].join(" UNION ALL ")), Ok(()));
}

#[test]
fn texts_that_double_are_counted() {
    let encoded = (0..30).fold("'x'".to_owned(), |x, _| format!("encode({x}, 'hex')"));
    let got = verdict(&format!("SELECT octet_length({encoded})")).expect_err("doubling");
    assert!(got.contains("encode"), "{got}");
    assert_eq!(verdict("SELECT encode(sha256('x'), 'hex')"), Ok(()));
}

fn verdict_with(text: &str, params: &[Value]) -> Result<(), String> {
    let checked = check_with(text, params, &GateLimits::default());
    checked.map(|_| ()).map_err(|problem| problem.detail)
}

#[test]
fn parameters_count_as_text_as_often_as_they_are_used() {
    let long = |bytes: usize| Value::from("x".repeat(bytes));
    let one = "SELECT 1 FROM telemetry WHERE device_id = $1";
    assert_eq!(verdict_with(one, &[long(60_000)]), Ok(()));
    let many =
        format!("SELECT 1 FROM telemetry WHERE device_id IN ({})", vec!["$1"; 100].join(","));
    assert_eq!(verdict_with(&many, &[long(500)]), Ok(()));
    for (text, params) in [
        (one, vec![long(66_000)]),
        (one, vec![long(40_000), long(40_000)]),
        (many.as_str(), vec![long(1000)]),
    ] {
        let got = verdict_with(text, &params).expect_err("too much");
        assert!(got.contains("65536 bytes"), "{got}");
    }
}

#[test]
fn patterns_and_formats_are_short() {
    let (short, long) = ("x".repeat(900), "x".repeat(2000));
    for (text, fits) in [
        (format!("SELECT 1 FROM telemetry WHERE device_id LIKE '{short}%'"), true),
        (format!("SELECT 1 FROM telemetry WHERE device_id LIKE '{long}%'"), false),
        (format!("SELECT 1 FROM telemetry WHERE device_id NOT ILIKE '%' || '{long}'"), false),
        (format!("SELECT 1 FROM telemetry WHERE device_id SIMILAR TO '{long}'"), false),
        (format!("SELECT 1 FROM telemetry WHERE device_id !~* '{long}'"), false),
        (format!("SELECT 1 FROM telemetry WHERE regexp_like(device_id, '{long}')"), false),
        (format!("SELECT 1 FROM telemetry WHERE regexp_like('{long}', 'x')"), true),
        (format!("SELECT to_char(ts, '{long}') FROM telemetry"), false),
        (format!("SELECT 1 FROM (VALUES ('{long}')) p(x) WHERE 'a' LIKE p.x"), false),
        (
            "SELECT a.ts FROM telemetry a, devices b WHERE a.device_id LIKE b.name || '%'".into(),
            true,
        ),
        (format!("SELECT 1 FROM telemetry WHERE device_id = '{long}'"), true),
    ] {
        assert_eq!(verdict(&text).is_ok(), fits, "{text}: {:?}", verdict(&text));
    }
    let given = "SELECT 1 FROM telemetry WHERE device_id LIKE $1 || '%'";
    assert_eq!(verdict_with(given, &[Value::from(short)]), Ok(()));
    assert!(verdict_with(given, &[Value::from(long)]).expect_err("long").contains("pattern"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = verdict(&text);
    }

    #[test]
    fn any_words_are_answered(
        words in proptest::collection::vec(
            prop_oneof![Just("SELECT"), Just("FROM"), Just("telemetry"), Just("("), Just(")"),
                Just(","), Just("repeat"), Just("'x'"), Just("1"), Just("WITH"), Just("AS"),
                Just("UNION"), Just("*"), Just("WHERE"), Just("count"), Just("INTO")], 0..30),
    ) {
        let _ = verdict(&words.join(" "));
    }
}
