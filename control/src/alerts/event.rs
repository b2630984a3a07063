//! The event about a step of an alert.

use acuvim_model::{
    Alert,
    event::{AlertEvent, AlertStep, Event},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::row::{AlertRow, COLUMNS};
use crate::{audit::By, db::Tx, error::Error, statement::Statement};

/// A step of an alert.
#[derive(Clone, Copy)]
pub(crate) struct AlertNote<'a> {
    step: AlertStep,
    /// When it happened.
    ts: DateTime<Utc>,
    /// When it became known.
    now: DateTime<Utc>,
    /// The person who did it.
    by: Option<&'a str>,
    note: Option<&'a str>,
}

impl<'a> AlertNote<'a> {
    pub const fn of(step: AlertStep, ts: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { step, ts, now, by: None, note: None }
    }

    /// A step that a person takes now.
    pub fn of_person(step: AlertStep, by: &'a By, note: Option<&'a str>) -> Self {
        Self { step, ts: by.at, now: by.at, by: Some(&by.name), note }
    }
}

/// Emits a step of an alert, with the alert as it is now.
pub(crate) async fn emit_alert(tx: &mut Tx, id: Uuid, note: AlertNote<'_>) -> Result<(), Error> {
    let mut one = Statement::select(COLUMNS);
    one.push("FROM alerts a WHERE a.id = ?", [id.into()]);
    let Some(row) = tx.select_one::<AlertRow>(one).await? else { return Ok(()) };
    let readings = row.marks().map(|marks| marks.readings()).unwrap_or_default();
    let event = AlertEvent {
        event_id: Uuid::now_v7(),
        step: note.step,
        ts: note.ts,
        recorded_at: note.now,
        by: note.by.map(str::to_owned),
        note: note.note.map(str::to_owned),
        readings,
        alert: Alert::from(row),
    };
    tx.emit(&Event::Alert(Box::new(event)), note.now).await
}
