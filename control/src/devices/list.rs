//! The fleet list: filters, sorting, pages; by indexes, so that it stays fast with many devices.

use acuvim_schemas::api::{Device, DeviceStatus, Scope};
use chrono::Datelike as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{COLUMNS, DeviceRow};
use crate::{Control, Error, ErrorKind, scope::within, text::Statement, value::Value};

/// What a list is sorted by; devices that are equal in it, by their id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceSort {
    /// The id.
    #[default]
    DeviceId,
    /// The name.
    Name,
    /// The status.
    Status,
    /// The firmware.
    FirmwareVersion,
    /// Since when it is known.
    CreatedAt,
    /// The newest heartbeat.
    LastHeartbeat,
    /// The newest reading.
    LastTelemetry,
}

impl DeviceSort {
    /// Every order there is, by its name in the API.
    pub const ALL: [(&'static str, Self); 7] = [
        ("device_id", Self::DeviceId),
        ("name", Self::Name),
        ("status", Self::Status),
        ("firmware_version", Self::FirmwareVersion),
        ("created_at", Self::CreatedAt),
        ("last_heartbeat", Self::LastHeartbeat),
        ("last_telemetry", Self::LastTelemetry),
    ];

    /// The expression, as an index has it.
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

    /// The value of a device, for a cursor.
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

    /// A cursor's value, to compare with; none if it is not of this order.
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
    /// Only of this status.
    pub status: Option<DeviceStatus>,
    /// Only of this group.
    pub group_id: Option<Uuid>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only with this firmware.
    pub firmware_version: Option<String>,
    /// Part of id, name, MAC, IMEI, ICCID or meter serial, in any case.
    pub q: Option<String>,
    /// In this order.
    pub sort: DeviceSort,
    /// In the opposite of it.
    pub descending: bool,
    /// Only from behind this: the sort's value and the id, as `next` gave them.
    pub after: Option<(Json, String)>,
    /// At most so many.
    pub limit: i64,
}

impl DeviceFilter {
    /// Where the page behind a device begins.
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
        // Much quicker than LIKE, and the same on both engines.
        let q = self.q.as_deref().unwrap_or_default().to_lowercase().replace('\0', "");
        if !q.is_empty() {
            // By itself, so that the index is read and not every row.
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
    /// A page of devices, and how many match on all pages.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the cursor is of another order.
    pub async fn devices(
        &self,
        filter: &DeviceFilter,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Device>, i64), Error> {
        let conditions = filter.conditions(scope);
        let mut count = Statement::new("SELECT COUNT(*)");
        count.append(&conditions);
        let mut page = Statement::new("SELECT");
        page.push(COLUMNS, []);
        page.append(&conditions);
        let column = filter.sort.column();
        if let Some((value, id)) = &filter.after {
            let value = filter.sort.parse(value).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "the cursor is of a list in another order")
            })?;
            page.push("AND (", []);
            page.push(column, []);
            page.push(", d.device_id)", []);
            page.push(if filter.descending { "< (?, ?)" } else { "> (?, ?)" }, [value, id.into()]);
        }
        page.push("ORDER BY", []);
        page.push(column, []);
        page.push(if filter.descending { "DESC, d.device_id DESC" } else { ", d.device_id" }, []);
        page.push("LIMIT ?", [filter.limit.into()]);
        let (text, values) = page.into_parts();
        let rows: Vec<DeviceRow> = self.fetch_all(text, values).await?;
        let found = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let total = match filter.after {
            // All of them are on this page.
            None if found < filter.limit => found,
            _ => {
                let (text, values) = count.into_parts();
                let total: Option<(i64,)> = self.fetch_optional(text, values).await?;
                total.map_or(0, |t| t.0)
            }
        };
        Ok((rows.into_iter().map(Device::from).collect(), total))
    }

    /// The ids of all devices, so that a stream can tell a new one.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_ids(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self.fetch_all("SELECT device_id FROM devices", vec![]).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}
