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

fn refusal(text: &str) -> String {
    verdict(text).expect_err(text)
}

#[test]
fn each_limit_holds_at_its_edge_and_not_beyond() {
    let limits = GateLimits::default();
    let text = |bytes: usize| format!("SELECT '{}'", "x".repeat(bytes - 9));
    let tables = |n: usize| format!("SELECT 1 FROM {}", vec!["devices"; n].join(", "));
    let ctes = |n: usize| {
        let all = (0..n).map(|i| format!("c{i} AS (SELECT 1)")).collect::<Vec<_>>().join(", ");
        format!("WITH {all} SELECT 1")
    };
    let concatenated = |n: usize| format!("SELECT 'x'{}", " || 'x'".repeat(n));
    let tuple = |n: usize| format!("SELECT count(DISTINCT ({})) FROM t", vec!["a"; n].join(", "));
    let pattern = |n: usize| format!("SELECT 1 FROM t WHERE a LIKE '{}'", "x".repeat(n - 2));
    let regexes = |n: usize| vec![format!("a ~ '{}'", "x".repeat(1022)); n].join(" OR ");
    let regexes = |n: usize| format!("SELECT 1 FROM t WHERE {}", regexes(n));
    type Case<'a> = (&'a str, usize, &'a dyn Fn(usize) -> String);
    let cases: [Case<'_>; 7] = [
        ("bytes", limits.text, &text),
        ("tables in FROM", limits.relations, &tables),
        ("queries in WITH", limits.ctes, &ctes),
        ("uses of ||", limits.concatenations, &concatenated),
        ("list", TUPLE, &tuple),
        ("pattern", limits.pattern, &pattern),
        ("regular expressions", 4, &regexes),
    ];
    for (what, most, query) in cases {
        assert_eq!(verdict(&query(most)), Ok(()), "{what}");
        let got = refusal(&query(most + 1));
        assert!(got.contains(what), "{what}: {got}");
    }
}

#[test]
fn a_refusal_is_the_callers_and_says_so() {
    for bad in ["DROP TABLE telemetry", "SELECT repeat('x', 9)", "SELECT", "SELECT '", ""] {
        let problem = check(bad, &GateLimits::default()).expect_err(bad);
        assert_eq!((problem.status, problem.code.as_str()), (400, "bad_query"), "{bad}");
        assert!(!problem.detail.contains("SQL error"), "{bad}: {}", problem.detail);
    }
}

#[test]
fn the_centroids_of_a_percentile_are_a_number_in_the_text() {
    let of = |call: &str| verdict(&format!("SELECT {call} FROM telemetry"));
    for good in [
        "approx_percentile_cont(seq, 0.5, 1000)",
        "approx_percentile_cont(seq + 1, 0.5)",
        "approx_percentile_cont(0.5, 1000) WITHIN GROUP (ORDER BY seq)",
    ] {
        assert_eq!(of(good), Ok(()), "{good}");
    }
    for bad in [
        // A constant in the column's place must not let the centroids be computed.
        "approx_percentile_cont(0.5, 0.5, 1000 * 1000000)",
        "approx_percentile_cont(1, 0.5, (1000000000))",
        "approx_percentile_cont(1, 0.5, CAST(1000000000 AS BIGINT))",
        "approx_percentile_cont(seq, 0.5, 1001)",
        "approx_percentile_cont(seq, 0.5, 1e9)",
        "approx_percentile_cont(seq, seq, 10)",
        "approx_percentile_cont(seq, 0.5, 10, 10)",
        "approx_percentile_cont(seq, 0.5) WITHIN GROUP (ORDER BY seq)",
    ] {
        let got = of(bad).expect_err(bad);
        assert!(got.contains("numbers up to 1000"), "{bad}: {got}");
    }
}

#[test]
fn a_pattern_is_as_long_as_its_value_however_it_is_quoted() {
    let long = "x".repeat(2000);
    for pattern in [
        format!("$${long}$$"),
        format!("$p${long}$p$"),
        format!("E'{long}'"),
        format!("('{long}')"),
        format!("CAST('{long}' AS VARCHAR)"),
        format!("$$a$$ || $${long}$$"),
    ] {
        for query in [
            format!("SELECT 1 FROM t WHERE a LIKE {pattern}"),
            format!("SELECT 1 FROM t WHERE a ~ {pattern}"),
            format!("SELECT to_char(ts, {pattern}) FROM t"),
        ] {
            let got = refusal(&query);
            assert!(got.contains("pattern or format"), "{query}: {got}");
        }
    }
    assert_eq!(verdict("SELECT 1 FROM t WHERE a LIKE $$x%$$"), Ok(()));
}

#[test]
fn regular_expressions_in_parameters_count_together_with_the_others() {
    let values: Vec<Value> = (0..5).map(|_| Value::from("x".repeat(1000))).collect();
    let of = |n: usize| {
        let all = (1..=n).map(|i| format!("a ~ ${i}")).collect::<Vec<_>>().join(" OR ");
        verdict_with(&format!("SELECT 1 FROM t WHERE {all}"), &values)
    };
    assert_eq!(of(4), Ok(()));
    assert!(of(5).expect_err("too long").contains("regular expressions of over 4096 bytes"));
    // One parameter is compiled for each of its uses.
    let same = ["a ~ $1"; 5].join(" OR ");
    let got = verdict_with(&format!("SELECT 1 FROM t WHERE {same}"), &values[..1]);
    assert!(got.expect_err("too long").contains("regular expressions"));
}

#[test]
fn a_regular_expression_is_the_same_for_every_row() {
    for good in ["a ~ 'x'", "a !~* ('x' || $1)", "regexp_like(a, 'x', 'i')", "a SIMILAR TO 'x'"] {
        let got = verdict_with(&format!("SELECT 1 FROM t WHERE {good}"), &[Value::from("y")]);
        assert_eq!(got, Ok(()), "{good}");
    }
    for bad in ["a ~ b", "a ~ lower('X')", "regexp_like(a, b)", "a SIMILAR TO b", "a RLIKE b"] {
        let got = refusal(&format!("SELECT 1 FROM t WHERE {bad}"));
        assert!(got.contains("regular expression must be a text"), "{bad}: {got}");
    }
}

#[test]
fn a_parameter_that_is_not_there_has_no_bytes_and_an_unnumbered_one_is_the_largest() {
    let sizes = [3, 500, 7];
    for (name, bytes) in [("$1", 3), ("$2", 500), ("$3", 7), ("$4", 0), ("$0", 0)] {
        assert_eq!(size_of_named(name, &sizes), bytes, "{name}");
    }
    for name in ["?", "$name", "$", "$99999999999999999999999"] {
        assert_eq!(size_of_named(name, &sizes), 500, "{name}");
    }
    assert_eq!(size_of_named("?", &[]), 0);
}

#[test]
fn what_is_allowed_is_checked_in_every_part_of_a_query() {
    let call = "repeat('x', 9)";
    for query in [
        format!("SELECT {call}"),
        format!("SELECT 1 WHERE {call} = 'x'"),
        format!("SELECT 1 FROM t GROUP BY {call}"),
        format!("SELECT count(*) FROM t HAVING {call} = 'x'"),
        format!("SELECT 1 FROM t ORDER BY {call}"),
        format!("SELECT 1 FROM t LIMIT length({call})"),
        format!("SELECT 1 FROM t OFFSET length({call})"),
        format!("SELECT 1 FROM t JOIN u ON t.a = {call}"),
        format!("SELECT DISTINCT ON ({call}) 1 FROM t"),
        format!("SELECT sum(1) OVER (PARTITION BY {call}) FROM t"),
        format!("SELECT sum(1) OVER w FROM t WINDOW w AS (ORDER BY {call})"),
        format!("SELECT max(a ORDER BY {call}) FROM t"),
        format!("SELECT CASE WHEN {call} = 'x' THEN 1 END"),
        format!("SELECT 1 WHERE 'x' IN ({call})"),
        format!("SELECT 1 WHERE EXISTS (SELECT {call})"),
        format!("SELECT (SELECT {call})"),
        format!("VALUES ({call})"),
        format!("WITH a AS (SELECT {call}) SELECT 1"),
        format!("SELECT 1 UNION ALL SELECT {call}"),
        format!("SELECT * FROM (VALUES ({call})) AS v(x)"),
        format!("SELECT trim({call})"),
        format!("SELECT substring({call} FROM 1)"),
        format!("SELECT position({call} IN 'x')"),
        format!("SELECT extract(year FROM CAST({call} AS DATE))"),
        format!("SELECT 1 AS a |> EXTEND {call} AS b"),
        format!("SELECT 1 AS a |> WHERE {call} = 'x'"),
        format!("SELECT 1 AS a |> AGGREGATE count(*) GROUP BY {call}"),
        format!("SELECT * FROM time_buckets({call}, 'x', 'y')"),
    ] {
        let got = refusal(&query);
        assert!(got.contains("repeat is not allowed"), "{query}: {got}");
    }
}

#[test]
fn types_and_lists_that_grow_are_refused() {
    for good in [
        "CAST(a AS DECIMAL(14, 2))",
        "a::DOUBLE PRECISION",
        "a::VARCHAR(9)",
        "a::TIMESTAMP WITH TIME ZONE",
        "DATE '2026-05-16'",
        "INTERVAL '1 day'",
        "(a, b) IN ((1, 2))",
        "TRY_CAST(a AS BIGINT)",
    ] {
        assert_eq!(verdict(&format!("SELECT {good} FROM t")), Ok(()), "{good}");
    }
    for bad in [
        "[1, 2]",
        "ARRAY[1, 2]",
        "a[1]",
        "{'a': 1}",
        "MAP {'a': 1}",
        "CAST(a AS INT[])",
        "TRY_CAST(a AS INT[])",
        "CAST(a AS BLOB)",
        "a::ARRAY<INT>",
        "a::UUID",
        "OVERLAY(a PLACING 'x' FROM 1)",
        "array_agg(a)",
        "string_agg(a, ',')",
        "concat(a, a)",
        "replace(a, 'x', 'xxxx')",
        "rpad(a, 1000000000)",
        "make_array(1)",
        "struct(1)",
        "generate_series(1, 9)",
        "version()",
    ] {
        let got = refusal(&format!("SELECT {bad} FROM t"));
        assert!(got.contains("not allowed") || got.contains("parse"), "{bad}: {got}");
    }
}

#[test]
fn only_tables_and_queries_stand_in_from() {
    for good in [
        "SELECT * FROM time_buckets('1h', 'a', 'b')",
        "SELECT * FROM (SELECT 1) AS q",
        "SELECT * FROM (a JOIN b ON a.x = b.x)",
        "SELECT * FROM a, LATERAL (SELECT a.x) AS q",
    ] {
        assert_eq!(verdict(good), Ok(()), "{good}");
    }
    for bad in [
        "SELECT * FROM UNNEST([1])",
        "SELECT * FROM other.time_buckets('1h', 'a', 'b')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM a PIVOT (sum(x) FOR y IN ('z'))",
        "SELECT 1 FROM a FOR UPDATE",
    ] {
        refusal(bad);
    }
}

/// A misspelt name would refuse a function that the documentation promises.
#[test]
fn every_function_of_the_list_is_one_of_the_engine() {
    let engine = acuvim_lakehouse::Engine::new(&acuvim_lakehouse::EngineLimits::default());
    let state = engine.expect("an engine").session().state();
    let has = |name: &str| {
        state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name)
    };
    // The parser knows these by their own syntax, and plans other functions for them.
    let parsed = ["extract", "position", "substring", "trim", "mod"];
    let unknown: Vec<_> =
        FUNCTIONS.iter().filter(|name| !has(name) && !parsed.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in WITH_PATTERN {
        assert!(FUNCTIONS.contains(name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands around it, a call that is not on the list never passes.
    #[test]
    fn no_nesting_hides_a_call(
        layers in proptest::collection::vec(0_usize..7, 0..12),
        name in "(repeat|lpad|array_repeat|range|zzz)",
    ) {
        let mut inner = format!("{name}('x', 2)");
        for layer in layers {
            inner = match layer {
                0 => format!("({inner})"),
                1 => format!("lower({inner})"),
                2 => format!("CASE WHEN {inner} = 'x' THEN 1 ELSE 2 END"),
                3 => format!("CAST({inner} AS VARCHAR)"),
                4 => format!("(SELECT {inner})"),
                5 => format!("coalesce(NULL, {inner})"),
                _ => format!("NOT {inner} IS NULL"),
            };
        }
        let got = verdict(&format!("SELECT {inner} FROM telemetry"));
        prop_assert!(got.is_err(), "{}", inner);
    }

    /// Of two queries that differ by a length alone, the longer one never passes where the shorter does not.
    #[test]
    fn a_longer_pattern_is_never_allowed_where_a_shorter_one_is_not(a in 1_usize..3000, b in 1_usize..3000) {
        let of = |n: usize| verdict(&format!("SELECT 1 FROM t WHERE a LIKE '{}'", "x".repeat(n))).is_ok();
        prop_assert!(of(a.min(b)) || !of(a.max(b)));
    }
}
