//! The states of rules on devices, and the repairs that are to be done; both are stored with the offsets.

use acuvim_wire::Micros;
use chrono::{DateTime, Utc};

use crate::{
    db::{Control, Tx},
    error::Error,
};

/// A change of the repairs that are to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairChange {
    /// The episodes of a device are to be computed again from a moment on.
    Schedule(String, Micros),
    /// The repair of a device is done.
    Done(String),
}

pub(crate) async fn store_rule_states(
    tx: &mut Tx,
    all: &[(String, Option<String>)],
) -> Result<(), Error> {
    for (device_id, states) in all {
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
            // The earlier moment stays, because the repair from there is still to be done. With CASE, because
            // the function for it is LEAST() on PostgreSQL and MIN() on SQLite.
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
    /// The states of the rules on devices, as JSON. Devices on which all rules are quiet have none.
    pub async fn judgements(&self) -> Result<Vec<(String, String)>, Error> {
        self.fetch_all("SELECT device_id, states FROM judgements", vec![]).await
    }

    /// The devices that are to be repaired, each with the moment from which on.
    pub async fn repairs(&self) -> Result<Vec<(String, Micros)>, Error> {
        self.fetch_all("SELECT device_id, from_ts FROM repairs", vec![]).await
    }
}
