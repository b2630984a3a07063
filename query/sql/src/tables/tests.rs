//! The list of tables, and those of control: their limits and their scopes.

use acuvim_wire::Identity;
use chrono::DateTime;
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::{columns::check_total, *};
use crate::{
    SqlLimits,
    testing::{Fleet, scope},
};

#[test]
fn every_table_is_listed_once_with_what_its_columns_mean() {
    let all = tables();
    let mut names: Vec<&str> = all.iter().map(|table| table.name.as_str()).collect();
    let count = names.len();
    assert_eq!(count, Table::ALL.len() + ControlTable::ALL.len());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name of the lake hides no table of control");
    for table in &all {
        assert!(!table.description.is_empty() && !table.columns.is_empty(), "{}", table.name);
    }
    let telemetry = all.iter().find(|table| table.name == "telemetry").expect("telemetry");
    for reading in READINGS {
        let column = telemetry.columns.iter().find(|c| c.name == reading.name);
        let column = column.expect(reading.name);
        assert_eq!(column.unit.as_deref(), Some(reading.unit), "{}", reading.name);
        assert!(column.nullable && column.description.is_some(), "{}", reading.name);
    }
}

/// The values of a column of one of control's tables.
async fn column(
    fleet: &Fleet,
    scope: Option<&Scope>,
    table: &str,
    name: &str,
) -> Result<Vec<Value>, QueryError> {
    let mut found = control_tables(&fleet.sql, scope, |known| known == table).await?;
    assert_eq!(found.len(), 1, "only the table that is named is read");
    let (_, provider) = found.remove(0);
    let rows = SessionContext::new().read_table(provider).expect("a table");
    let rows = rows.select_columns(&[name]).expect(name).collect().await.expect("rows");
    Ok(crate::encode::value_rows(&rows).concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_control_can_be_read_even_if_it_is_empty() {
    let fleet = Fleet::new().await;
    for table in ControlTable::ALL {
        let first = table.schema().field(0).name().clone();
        let rows = column(&fleet, None, table.name(), &first).await.expect("readable");
        assert_eq!(rows.len(), if table == ControlTable::Devices { 2 } else { 0 }, "{table:?}");
    }
    let nothing = control_tables(&fleet.sql, None, |_| false).await.expect("nothing is read");
    assert!(nothing.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_sees_its_devices_and_replays_alone() {
    let fleet = Fleet::new().await;
    let letter = |offset| Identity { epoch: 0, partition: 0, offset, item: 0 };
    let letters = [(letter(1), "a".to_owned()), (letter(2), "b".to_owned())];
    let claimed = fleet.control.claim_replays(&letters, "me", DateTime::UNIX_EPOCH).await;
    assert_eq!(claimed.expect("control answers").len(), 2);
    for table in ["devices", "replays"] {
        let ids = async |scope: Option<&Scope>| {
            let mut ids = column(&fleet, scope, table, "device_id").await.expect("readable");
            ids.sort_by_key(ToString::to_string);
            ids
        };
        assert_eq!(ids(None).await, ["a", "b"], "{table}");
        assert_eq!(ids(Some(&scope(&["b"]))).await, ["b"], "{table}");
        assert!(ids(Some(&scope(&[]))).await.is_empty(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_too_many_rows_is_refused_and_not_cut_off() {
    let limits = SqlLimits { max_control_rows: 1, ..SqlLimits::default() };
    let fleet = Fleet::with(limits, || None).await;
    let letter = |offset| Identity { epoch: 0, partition: 0, offset, item: 0 };
    let letters = [(letter(1), "a".to_owned()), (letter(2), "b".to_owned())];
    let claimed = fleet.control.claim_replays(&letters, "me", DateTime::UNIX_EPOCH).await;
    claimed.expect("control answers");
    for table in ["devices", "replays"] {
        let error = column(&fleet, None, table, "device_id").await.expect_err("too many");
        assert_eq!(error.problem.status, 422, "{table}");
        assert!(error.problem.detail.contains(&format!("2 {table}")), "{}", error.problem.detail);
        // A scope that leaves few enough can read them.
        let one = column(&fleet, Some(&scope(&["a"])), table, "device_id").await;
        assert_eq!(one.expect("one row"), ["a"], "{table}");
    }
}

#[test]
fn as_many_rows_as_a_query_may_read_can_be_read() {
    assert_eq!(check_total("alerts", 10, 10), Ok(()));
    let error = check_total("alerts", 11, 10).expect_err("one too many");
    assert_eq!(error.problem.detail, "11 alerts are more than a query may read (10)");
}
