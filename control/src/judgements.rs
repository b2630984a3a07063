//! The states of rules on devices, and what is to be repaired: stored with the offsets.

use acuvim_schemas::Micros;
use chrono::{DateTime, Utc};

use crate::{Control, Error, RepairChange, db::Tx};

pub(crate) async fn store_judgements(
    tx: &mut Tx,
    judgements: &[(String, Option<String>)],
) -> Result<(), Error> {
    for (device_id, states) in judgements {
        match states {
            Some(states) => {
                tx.execute(
                    "INSERT INTO judgements (device_id, states) VALUES ($1, $2)
                     ON CONFLICT (device_id) DO UPDATE SET states = excluded.states",
                    vec![device_id.into(), states.into()],
                )
                .await?
            }
            None => {
                tx.execute("DELETE FROM judgements WHERE device_id = $1", vec![device_id.into()])
                    .await?
            }
        };
    }
    Ok(())
}

pub(crate) async fn store_repairs(
    tx: &mut Tx,
    repairs: &[RepairChange],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for repair in repairs {
        match repair {
            RepairChange::Schedule(device_id, from) => {
                tx.execute(
                    "INSERT INTO repairs (device_id, from_ts, scheduled_at) VALUES ($1, $2, $3)
                     ON CONFLICT (device_id) DO UPDATE SET from_ts =
                         CASE WHEN excluded.from_ts < repairs.from_ts THEN excluded.from_ts
                              ELSE repairs.from_ts END",
                    vec![device_id.into(), (*from).into(), now.into()],
                )
                .await?
            }
            RepairChange::Done(device_id) => {
                tx.execute("DELETE FROM repairs WHERE device_id = $1", vec![device_id.into()])
                    .await?
            }
        };
    }
    Ok(())
}

impl Control {
    /// The states of rules on all devices that have any, as JSON.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn judgements(&self) -> Result<Vec<(String, String)>, Error> {
        self.fetch_all("SELECT device_id, states FROM judgements", vec![]).await
    }

    /// The devices that are to be repaired, and from which moment on.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn repairs(&self) -> Result<Vec<(String, Micros)>, Error> {
        self.fetch_all("SELECT device_id, from_ts FROM repairs", vec![]).await
    }
}
