//! The fleet list: filters, sorting, pages. Every sort has an index, so that lists of large fleets stay
//! fast.

use acuvim_model::{Device, DeviceStatus, Scope};
use chrono::Datelike as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::row::{COLUMNS, DeviceRow};
use crate::{
    db::Control,
    error::{Error, ErrorKind},
    scope::within,
    statement::Statement,
    value::Value,
};

/// The order of a list. Devices that are equal in it are ordered by id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceSort {
    /// By the id of the device.
    #[default]
    DeviceId,
    /// By the name of the device.
    Name,
    /// By the status of the device.
    Status,
    /// By firmware version.
    FirmwareVersion,
    /// By the time at which they became known.
    CreatedAt,
    /// By the time of the newest heartbeat.
    LastHeartbeat,
    /// By the time of the newest reading.
    LastTelemetry,
}

impl DeviceSort {
    /// All orders, by their name in the API.
    pub const ALL: [(&'static str, Self); 7] = [
        ("device_id", Self::DeviceId),
        ("name", Self::Name),
        ("status", Self::Status),
        ("firmware_version", Self::FirmwareVersion),
        ("created_at", Self::CreatedAt),
        ("last_heartbeat", Self::LastHeartbeat),
        ("last_telemetry", Self::LastTelemetry),
    ];

    /// The SQL expression, exactly as in the index of the order.
    const fn column(self) -> &'static str {
        match self {
            Self::DeviceId => "d.device_id",
            Self::Name => "COALESCE(d.name, '')",
            Self::Status => "d.status",
            Self::FirmwareVersion => "COALESCE(d.firmware_version, '')",
            Self::CreatedAt => "d.created_at",
            Self::LastHeartbeat => "COALESCE(d.last_heartbeat, d.created_at)",
            Self::LastTelemetry => "COALESCE(d.last_telemetry, d.created_at)",
        }
    }

    /// A device's value, as a cursor has it.
    fn value(self, device: &Device) -> Json {
        let text = |text: &Option<String>| json!(text.as_deref().unwrap_or(""));
        match self {
            Self::DeviceId => json!(device.device_id),
            Self::Name => text(&device.name),
            Self::Status => json!(device.status.as_str()),
            Self::FirmwareVersion => text(&device.firmware_version),
            Self::CreatedAt => json!(device.created_at),
            Self::LastHeartbeat => json!(device.last_heartbeat.unwrap_or(device.created_at)),
            Self::LastTelemetry => json!(device.last_telemetry.unwrap_or(device.created_at)),
        }
    }

    /// The value of a cursor, or `None` if it can't be from a list in this order.
    fn parse(self, value: &Json) -> Option<Value> {
        match self {
            Self::CreatedAt | Self::LastHeartbeat | Self::LastTelemetry => {
                serde_json::from_value::<chrono::DateTime<chrono::Utc>>(value.clone())
                    .ok()
                    .filter(|at| (1970..=9999).contains(&at.year()))
                    .map(Value::from)
            }
            _ => value.as_str().map(|text| Value::from(text.replace('\0', ""))),
        }
    }
}

/// Which devices a list holds, and in which order.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// Only with this status.
    pub status: Option<DeviceStatus>,
    /// Only in this group.
    pub group_id: Option<Uuid>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only with this firmware.
    pub firmware_version: Option<String>,
    /// Only with this text in the id, name, MAC, IMEI, ICCID or meter serial. Case is ignored.
    pub q: Option<String>,
    /// The order of the list.
    pub sort: DeviceSort,
    /// Whether the order is reversed.
    pub descending: bool,
    /// Only devices after this cursor, from [`DeviceFilter::next`]: the value that is sorted by, and
    /// the id.
    pub after: Option<(Json, String)>,
    /// At most this many.
    pub limit: i64,
}

impl DeviceFilter {
    /// The cursor of the page after a device.
    #[must_use]
    pub fn next(&self, last: &Device) -> (Json, String) {
        (self.sort.value(last), last.device_id.clone())
    }

    fn conditions(&self, scope: Option<&Scope>) -> Statement {
        let mut all = Statement::new("FROM devices d WHERE 1 = 1");
        if let Some(status) = self.status {
            all.push("AND d.status = ?", [status.as_str().into()]);
        }
        if let Some(group) = self.group_id {
            all.push("AND d.group_id = ?", [group.into()]);
        }
        if let Some(tag) = &self.tag {
            let tag = tag.replace('\0', "");
            all.push(
                "AND d.device_id IN (SELECT device_id FROM device_tags WHERE tag = ?)",
                [tag.into()],
            );
        }
        if let Some(version) = &self.firmware_version {
            let version = version.replace('\0', "");
            all.push("AND COALESCE(d.firmware_version, '') = ?", [version.into()]);
        }
        // REPLACE is much faster than LIKE, and treats letters alike on both engines.
        let q = self.q.as_deref().unwrap_or_default().to_lowercase().replace('\0', "");
        if !q.is_empty() {
            // A subquery of its own scans the index on `search` instead of the whole rows.
            all.push(
                "AND d.device_id IN (SELECT device_id FROM devices
                     WHERE REPLACE(search, ?, '') <> search)",
                [q.into()],
            );
        }
        within(&mut all, scope);
        all
    }
}

impl Control {
    /// A page of devices, and the number of matches on all pages.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the cursor is from a list in another order.
    pub async fn devices(
        &self,
        filter: &DeviceFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Device>, i64), Error> {
        let conditions = filter.conditions(scope);
        let mut page = Statement::select(COLUMNS);
        page.append(&conditions);
        let column = filter.sort.column();
        if let Some((value, id)) = &filter.after {
            let value = filter.sort.parse(value).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "the cursor is from a list in another order")
            })?;
            // A comparison of rows can use the index of the order. The same written with OR can't.
            page.push("AND (", []);
            page.push(column, []);
            page.push(", d.device_id)", []);
            page.push(if filter.descending { "< (?, ?)" } else { "> (?, ?)" }, [value, id.into()]);
        }
        page.push("ORDER BY", []);
        page.push(column, []);
        page.push(if filter.descending { "DESC, d.device_id DESC" } else { ", d.device_id" }, []);
        page.push("LIMIT ?", [filter.limit.into()]);
        let rows: Vec<DeviceRow> = self.select(page).await?;
        let found = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let total = match filter.after {
            // A first page that isn't full has all of them.
            None if found < filter.limit => found,
            _ => self.count_rows(&conditions).await?,
        };
        Ok((rows.into_iter().map(Device::from).collect(), total))
    }
}

#[cfg(test)]
mod tests;
