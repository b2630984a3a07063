//! A site: the loggers that stood at one meter one after another, whose readings are one history.

use std::ops::Range;

use acuvim_control::Control;
use acuvim_lakehouse::timestamp;
use acuvim_model::Device;
use acuvim_tables::Table;
use acuvim_wire::Micros;
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Decimal128Array, RecordBatch},
    datatypes::{DataType, Decimal128Type, TimestampMicrosecondType},
};
use datafusion::{
    error::{DataFusionError, Result as EngineResult},
    logical_expr::Expr,
    prelude::{DataFrame, SessionContext, col, lit},
};

use super::request::Order;
use crate::error::QueryError;

/// Loggers of one site that are followed back, at most: each is a query on control and a part of the plan.
const LOGGERS: usize = 32;

/// The loggers of a site, the newest first.
#[derive(Debug, Clone)]
pub struct Site(pub(super) Vec<SiteLogger>);

/// A logger, and when it stood at the site.
#[derive(Debug, Clone)]
pub(super) struct SiteLogger {
    pub device_id: String,
    pub there: Range<Micros>,
}

impl Site {
    /// The site of a device, with the loggers that it replaced.
    ///
    /// # Errors
    /// When control is away.
    pub async fn of(control: &Control, device: Device) -> Result<Self, QueryError> {
        let mut loggers = Vec::new();
        let mut next = Some(device);
        while let Some(device) = next.filter(|_| loggers.len() < LOGGERS) {
            next = match &device.replaces {
                Some(before) => control.device(before, None).await?,
                None => None,
            };
            let replaced = |d: &Device| d.replaced_at.map(|at| at.timestamp_micros());
            // A logger stood there from the end of the one before it to its own end.
            let from = next.as_ref().and_then(replaced).unwrap_or(Micros::MIN);
            let to = replaced(&device).unwrap_or(Micros::MAX);
            loggers.push(SiteLogger { device_id: device.device_id, there: from..to });
        }
        Ok(Self(loggers))
    }

    /// The logger that stands there now, or stood there last.
    pub(super) fn newest(&self) -> Option<&SiteLogger> {
        self.0.first()
    }

    /// The one logger that the site has always had; none if there were several.
    pub(super) fn only(&self) -> Option<&SiteLogger> {
        match self.0.as_slice() {
            [logger] => Some(logger),
            _ => None,
        }
    }
}

/// A site's rows of a table in a range of times, by time: `ts` and these columns.
///
/// # Errors
/// When the engine can't plan it.
pub async fn site_rows(
    context: &SessionContext,
    table: Table,
    site: &Site,
    range: Range<Micros>,
    columns: &[&str],
    order: Order,
) -> EngineResult<DataFrame> {
    let wanted = || {
        let ts = std::iter::once(col("ts"));
        ts.chain(columns.iter().map(|name| col(*name))).collect::<Vec<Expr>>()
    };
    let mut all: Option<DataFrame> = None;
    for SiteLogger { device_id, there } in &site.0 {
        let (from, to) = (range.start.max(there.start), range.end.min(there.end));
        let rows = context
            .table(table.name())
            .await?
            .filter(col("device_id").eq(lit(device_id.as_str())))?
            .filter(col("ts").gt_eq(timestamp(from)).and(col("ts").lt(timestamp(to))))?
            .select(wanted())?;
        all = Some(match all {
            Some(others) => others.union(rows)?,
            None => rows,
        });
    }
    let none = || DataFusionError::Internal("a site without loggers".to_owned());
    let all = all.ok_or_else(none)?;
    // A union keeps no order, although the times of its loggers do not overlap.
    all.sort(vec![col("ts").sort(order == Order::Ascending, false)])
}

/// The times of rows whose first column is `ts`.
pub(super) fn times(batch: &RecordBatch) -> &[Micros] {
    batch.column(0).as_primitive::<TimestampMicrosecondType>().values()
}

/// A column of decimals as the floats nearest to them.
pub(super) struct Floats<'a> {
    values: Option<&'a Decimal128Array>,
    factor: f64,
}

impl<'a> Floats<'a> {
    pub fn of(column: &'a ArrayRef) -> Self {
        let scale = match column.data_type() {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            _ => 0,
        };
        let values = column.as_primitive_opt::<Decimal128Type>();
        Self { values, factor: 10_f64.powi(scale) }
    }

    pub fn get(&self, row: usize) -> Option<f64> {
        let values = self.values.filter(|values| values.is_valid(row))?;
        #[expect(clippy::cast_precision_loss, reason = "readings have at most 15 digits")]
        let value = values.value(row) as f64;
        Some(value / self.factor)
    }
}
