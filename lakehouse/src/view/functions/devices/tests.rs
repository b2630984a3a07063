use datafusion::prelude::SessionContext;

use crate::testing::{cells, engine};

async fn ask(sql: &str) -> Vec<Vec<String>> {
    let session: SessionContext = engine().session();
    let rows = session.sql(sql).await.expect(sql).collect().await.expect(sql);
    cells(&rows)
}

/// Two devices whose counters interleave: `a` counts 3, `b` counts 30. The net counter falls by 3.
const ROWS: &str = "(SELECT device_id, to_timestamp(s) AS ts, v AS energy_import_kwh,
    -v AS energy_net_kwh FROM (VALUES
    ('a', 60, 100.0), ('b', 90, 5000.0), ('a', 120, 101.0), ('b', 150, 5010.0),
    ('a', 180, 103.0), ('b', 210, 5030.0)) AS x(device_id, s, v))";

#[tokio::test]
async fn devices_are_counted_apart_without_being_named() {
    let sql = format!("SELECT counter_delta(energy_import_kwh, ts) FROM {ROWS} t");
    assert_eq!(ask(&sql).await, [["33.0"]]);
    let sql = format!(
        "SELECT device_id, counter_delta(energy_import_kwh, ts) FROM {ROWS} t
         GROUP BY device_id ORDER BY device_id"
    );
    assert_eq!(ask(&sql).await, [["a", "3.0"], ["b", "30.0"]]);
}

#[tokio::test]
async fn net_counters_fall_whether_the_device_is_named_or_not() {
    for args in ["energy_net_kwh, ts", "energy_net_kwh, ts, device_id", "t.energy_net_kwh, t.ts"] {
        let sql = format!("SELECT counter_delta({args}) FROM {ROWS} t");
        assert_eq!(ask(&sql).await, [["-33.0"]], "{args}");
    }
    let sql = format!("SELECT counter_delta(energy_net_kwh * 2, ts) FROM {ROWS} t");
    assert_eq!(ask(&sql).await, [["-66.0"]]);
}

#[tokio::test]
async fn the_column_keeps_its_name() {
    let session = engine().session();
    let sql = format!("SELECT counter_delta(energy_import_kwh, ts) FROM {ROWS} t");
    let rows = session.sql(&sql).await.expect("plan").collect().await.expect("rows");
    let schema = rows[0].schema();
    assert_eq!(schema.field(0).name(), "counter_delta(t.energy_import_kwh,t.ts)");
    let sql = format!(
        "SELECT kwh * 2 FROM (SELECT counter_delta(energy_import_kwh, ts) AS kwh FROM {ROWS} t)"
    );
    assert_eq!(ask(&sql).await, [["66.0"]]);
}

#[tokio::test]
async fn windows_and_subqueries_know_the_device_too() {
    let sql = format!("SELECT DISTINCT counter_delta(energy_import_kwh, ts) OVER () FROM {ROWS} t");
    assert_eq!(ask(&sql).await, [["33.0"]]);
    let sql =
        format!("SELECT 1 WHERE (SELECT counter_delta(energy_import_kwh, ts) FROM {ROWS} t) > 32");
    assert_eq!(ask(&sql).await, [["1"]]);
}

#[tokio::test]
async fn of_joined_tables_the_one_with_the_time_has_the_device() {
    let sql = format!(
        "SELECT counter_delta(t.energy_import_kwh, t.ts) FROM {ROWS} t
         JOIN (VALUES ('a', 'Berlin'), ('b', 'Berlin')) AS d(device_id, site)
         ON d.device_id = t.device_id GROUP BY d.site"
    );
    assert_eq!(ask(&sql).await, [["33.0"]]);
}

#[tokio::test]
async fn without_a_device_all_readings_are_those_of_one_counter() {
    let sql = "SELECT counter_delta(v, to_timestamp(s)) FROM
        (VALUES (60, 100.0), (120, 101.0), (180, 103.5)) AS x(s, v)";
    assert_eq!(ask(sql).await, [["3.5"]]);
}

#[tokio::test]
async fn other_numbers_of_arguments_are_refused() {
    let session = engine().session();
    for args in ["energy_import_kwh", "energy_import_kwh, ts, device_id, '', ''"] {
        let sql = format!("SELECT counter_delta({args}) FROM {ROWS} t");
        let error = session.sql(&sql).await.expect_err(args);
        assert!(error.to_string().contains("its device's id"), "{error}");
    }
}
