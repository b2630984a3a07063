//! Reading devices: one of them, counts, and ids.

use acuvim_model::{Device, DeviceStatus, Scope};
use uuid::Uuid;

use super::row::{COLUMNS, DeviceRow};
use crate::{
    db::{Control, Tx},
    error::Error,
    scope::within,
    statement::Statement,
};

impl Control {
    /// One device, if it is in the scope.
    pub async fn device(
        &self,
        device_id: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<Device>, Error> {
        Ok(self.select_one::<DeviceRow>(one(device_id, scope)).await?.map(Device::from))
    }

    /// The number of devices in a scope, by status.
    pub async fn device_counts(
        &self,
        scope: Option<&Scope>,
    ) -> Result<Vec<(DeviceStatus, i64)>, Error> {
        let mut statement = Statement::new("SELECT d.status, COUNT(*) FROM devices d WHERE 1 = 1");
        within(&mut statement, scope);
        statement.push("GROUP BY d.status", []);
        let rows: Vec<(String, i64)> = self.select(statement).await?;
        let known = |(status, n): (String, i64)| Some((DeviceStatus::parse(&status)?, n));
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// The ids of all devices, so that a stream can recognise a new one.
    pub async fn device_ids(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self.fetch_all("SELECT device_id FROM devices", vec![]).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The ids of all devices in a scope, for tables that know nothing of groups.
    pub async fn scoped_device_ids(&self, scope: &Scope) -> Result<Vec<String>, Error> {
        self.device_ids_of(None, Some(scope)).await
    }

    /// The ids of all devices in a group, in a scope, or in both.
    pub async fn device_ids_of(
        &self,
        group: Option<Uuid>,
        scope: Option<&Scope>,
    ) -> Result<Vec<String>, Error> {
        let mut statement = Statement::new("SELECT d.device_id FROM devices d WHERE 1 = 1");
        if let Some(group) = group {
            statement.push("AND d.group_id = ?", [group.into()]);
        }
        within(&mut statement, scope);
        let rows: Vec<(String,)> = self.select(statement).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}

impl Tx {
    /// One device, if it is in the scope.
    pub(crate) async fn device(
        &mut self,
        device_id: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<Device>, Error> {
        Ok(self.select_one::<DeviceRow>(one(device_id, scope)).await?.map(Device::from))
    }
}

fn one(device_id: &str, scope: Option<&Scope>) -> Statement {
    let mut statement = Statement::select(COLUMNS);
    statement.push("FROM devices d WHERE d.device_id = ?", [device_id.into()]);
    within(&mut statement, scope);
    statement
}
