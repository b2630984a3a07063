//! The tables that queries read: their list, and those of the control database.

mod alerts;
mod columns;
mod devices;
mod firmware;
mod replays;

use std::sync::Arc;

use acuvim_model::Scope;
use acuvim_tables::Table;
use acuvim_wire::reading::READINGS;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::catalog::TableProvider;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{engine::Sql, error::QueryError};

/// A table that a query can read.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableInfo {
    /// The name by which a query reads it.
    name: String,
    /// What a row of it is.
    description: String,
    /// Its columns, in the order of `SELECT *`.
    columns: Vec<ColumnInfo>,
}

/// A column of a table.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnInfo {
    /// Its name in queries.
    name: String,
    /// The Arrow type, such as `Utf8`, `Int64` or `Decimal128(9, 2)`.
    r#type: String,
    /// Whether a row may have no value in it.
    nullable: bool,
    /// The unit of a reading, such as `V`; null for every other column.
    unit: Option<String>,
    /// What a reading measures; null for every other column.
    description: Option<String>,
}

/// A table of the control database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ControlTable {
    Devices,
    Alerts,
    Replays,
    Firmware,
    Rollouts,
    RolloutDevices,
}

impl ControlTable {
    const ALL: [Self; 6] = [
        Self::Devices,
        Self::Alerts,
        Self::Replays,
        Self::Firmware,
        Self::Rollouts,
        Self::RolloutDevices,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Alerts => "alerts",
            Self::Replays => "replays",
            Self::Firmware => "firmware",
            Self::Rollouts => "rollouts",
            Self::RolloutDevices => "rollout_devices",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Devices => "Every device that has been heard of",
            Self::Alerts => "Every alert as it is now, those that only record included",
            Self::Replays => "Dead letters that were brought again, and what became of them",
            Self::Firmware => "Every release of firmware",
            Self::Rollouts => "The newest thousand rollouts, and how far each has come",
            Self::RolloutDevices => "The devices of rollouts, and how far each has come",
        }
    }

    fn schema(self) -> SchemaRef {
        match self {
            Self::Devices => devices::schema(),
            Self::Alerts => alerts::schema(),
            Self::Replays => replays::schema(),
            Self::Firmware => firmware::firmware_schema(),
            Self::Rollouts => firmware::rollout_schema(),
            Self::RolloutDevices => firmware::device_schema(),
        }
    }

    async fn rows(
        self,
        sql: &Sql,
        scope: Option<&Scope>,
    ) -> Result<Arc<dyn TableProvider>, QueryError> {
        match self {
            Self::Devices => devices::rows(sql, scope).await,
            Self::Alerts => alerts::rows(sql, scope).await,
            Self::Replays => replays::rows(sql, scope).await,
            Self::Firmware => firmware::firmware(sql).await,
            Self::Rollouts => firmware::rollouts(sql, scope).await,
            Self::RolloutDevices => firmware::rollout_devices(sql, scope).await,
        }
    }
}

/// Every table, with its columns.
#[must_use]
pub fn tables() -> Vec<TableInfo> {
    let of_lake = Table::ALL.into_iter().map(|t| (t.name(), t.description(), t.schema()));
    let of_control = ControlTable::ALL.map(|t| (t.name(), t.description(), t.schema()));
    let info = |(name, description, schema): (&str, &str, SchemaRef)| TableInfo {
        name: name.to_owned(),
        description: description.to_owned(),
        columns: schema.fields().iter().map(|f| column(f)).collect(),
    };
    of_lake.chain(of_control).map(info).collect()
}

fn column(field: &Field) -> ColumnInfo {
    let reading = READINGS.iter().find(|r| r.name == field.name());
    ColumnInfo {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        unit: reading.map(|r| r.unit.to_owned()),
        description: reading.map(|r| r.description.to_owned()),
    }
}

/// A table and the name that queries know it by.
pub type NamedTable = (&'static str, Arc<dyn TableProvider>);

/// The control database's tables that a query names, with the rows that a scope sees.
///
/// # Errors
/// When control is away, or a table has more rows than a query may read.
pub async fn control_tables(
    sql: &Sql,
    scope: Option<&Scope>,
    names: impl Fn(&str) -> bool,
) -> Result<Vec<NamedTable>, QueryError> {
    let mut tables = Vec::new();
    for table in ControlTable::ALL.into_iter().filter(|table| names(table.name())) {
        tables.push((table.name(), table.rows(sql, scope).await?));
    }
    Ok(tables)
}

#[cfg(test)]
mod tests;
