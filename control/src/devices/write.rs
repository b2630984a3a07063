//! Writes to the rows of devices that several parts of control make.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{db::Tx, error::Error};

#[derive(sqlx::FromRow)]
struct SearchFields {
    name: Option<String>,
    mac_address: Option<String>,
    imei: Option<String>,
    iccid: Option<String>,
    meter_serial: Option<String>,
}

impl Tx {
    /// Creates a device unless it is known. Returns whether it was created.
    pub(crate) async fn add_device(
        &mut self,
        device_id: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let made = self
            .execute(
                "INSERT INTO devices (device_id, site, search, capabilities, registered, enabled,
                     created_at, updated_at)
                 VALUES ($1, $1, LOWER($1), $2, $3, $4, $5, $5) ON CONFLICT (device_id) DO NOTHING",
                vec![device_id.into(), json!([]).into(), false.into(), true.into(), at.into()],
            )
            .await?;
        if made == 1 {
            self.leave_site(device_id).await?;
        }
        Ok(made == 1)
    }

    /// Renames the site that has the name of a device after another device at that site. A site is named
    /// after its first device, so after that one is deleted, a new device of the same id would otherwise
    /// belong to the site.
    pub(crate) async fn leave_site(&mut self, device_id: &str) -> Result<(), Error> {
        self.execute(
            "UPDATE devices SET site = (SELECT MIN(o.device_id) FROM devices o
                 WHERE o.site = $1 AND o.device_id <> $1)
             WHERE site = $1 AND device_id <> $1",
            vec![device_id.into()],
        )
        .await
        .map(|_| ())
    }

    pub(crate) async fn set_tags(&mut self, device_id: &str, tags: &[String]) -> Result<(), Error> {
        self.execute("DELETE FROM device_tags WHERE device_id = $1", vec![device_id.into()])
            .await?;
        for tag in tags {
            self.execute(
                "INSERT INTO device_tags (tag, device_id) VALUES ($1, $2)
                 ON CONFLICT (tag, device_id) DO NOTHING",
                vec![tag.into(), device_id.into()],
            )
            .await?;
        }
        self.execute(
            "UPDATE devices SET tags = $1 WHERE device_id = $2",
            vec![json!(tags).into(), device_id.into()],
        )
        .await
        .map(|_| ())
    }

    /// Updates the column that the text search of the fleet list reads.
    pub(crate) async fn update_search(&mut self, device_id: &str) -> Result<(), Error> {
        let found: Option<SearchFields> = self
            .fetch_optional(
                "SELECT name, mac_address, imei, iccid, meter_serial FROM devices
                 WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        let Some(found) = found else { return Ok(()) };
        let texts = [
            Some(device_id.to_owned()),
            found.name,
            found.mac_address,
            found.imei,
            found.iccid,
            found.meter_serial,
        ];
        // Lower-cased here, because SQLite's LOWER() knows only ASCII letters.
        let search = texts.into_iter().flatten().collect::<Vec<_>>().join(" ").to_lowercase();
        self.execute(
            "UPDATE devices SET search = $1 WHERE device_id = $2",
            vec![search.into(), device_id.into()],
        )
        .await
        .map(|_| ())
    }
}
