//! Exports of a small fleet, and those that can't begin.

use acuvim_model::ExportFormat;
use datafusion::prelude::{SessionContext, col};
use futures::TryStreamExt as _;

use super::*;
use crate::{QueryError, SqlLimits, testing::Fleet};

async fn begin(fleet: &Fleet, column: &'static str) -> Result<Export, QueryError> {
    let query = move |context: SessionContext| async move {
        let rows = context.table("telemetry").await?.select(vec![col("device_id"), col(column)])?;
        rows.sort(vec![col("device_id").sort(true, false), col(column).sort(true, false)])
    };
    export(&fleet.sql, ExportFormat::Csv, false, query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_lake_and_tail_and_says_which_state_it_is_of() {
    let fleet = Fleet::new().await;
    let export = begin(&fleet, "voltage_l1_v").await.expect("it begins");
    assert_eq!(export.view.watermark, [22]);
    let parts: Vec<ExportPart> = export.parts.try_collect().await.expect("whole");
    let Some((ExportPart::Complete { rows, .. }, data)) = parts.split_last() else {
        panic!("no end: {parts:?}")
    };
    let bytes: Vec<u8> = data
        .iter()
        .flat_map(|part| match part {
            ExportPart::Data(bytes) => bytes.to_vec(),
            ExportPart::Complete { .. } => panic!("one end"),
        })
        .collect();
    let lines: String = [("a", 230), ("b", 110)]
        .iter()
        .flat_map(|(id, volts)| (0..10).map(move |n| format!("{id},{volts}.{n}\n")))
        .collect();
    assert_eq!(String::from_utf8(bytes).expect("text"), format!("device_id,voltage_l1_v\n{lines}"));
    assert_eq!(*rows, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_cannot_begin_keeps_no_slot() {
    let limits = SqlLimits { exports: 1, ..SqlLimits::default() };
    let fleet = Fleet::with(limits, || None).await;
    for _ in 0..3 {
        let error = begin(&fleet, "nothing").await.expect_err("no such column");
        assert_eq!(error.problem.status, 400, "{error}");
    }
    let held = fleet.sql.exports().enter().expect("the only slot");
    let error = begin(&fleet, "voltage_l1_v").await.expect_err("no slot is free");
    assert_eq!((error.problem.status, error.problem.code.as_str()), (429, "too_many_requests"));
    drop(held);
    begin(&fleet, "voltage_l1_v").await.expect("the slot is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_half_the_readings_does_not_begin() {
    let fleet = Fleet::with(SqlLimits::default(), || Some("behind".to_owned())).await;
    let error = begin(&fleet, "voltage_l1_v").await.expect_err("the tail can't be read");
    assert_eq!((error.problem.status, error.problem.detail.as_str()), (503, "behind"));
}
