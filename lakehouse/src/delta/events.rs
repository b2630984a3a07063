//! Events from the outbox into the event tables, each once however often it is delivered.

use acuvim_model::event::Event;
use acuvim_tables::{Table, event::rows};

use super::{tables::Tables, writer::write_sorted};
use crate::error::Error;

/// Commits events, each with its number in the outbox, to their tables.
///
/// Idempotent: a commit records the last number in it as a transaction, and a repeated delivery skips
/// the numbers up to there.
pub(crate) async fn deliver(tables: &Tables, events: &[(i64, Event)]) -> Result<(), Error> {
    let Some(last) = events.iter().map(|(seq, _)| *seq).max() else { return Ok(()) };
    // Each table has its own number: a failure between the two leaves the first one ahead, and the
    // next delivery completes the second.
    for kind in Table::EVENTS {
        let table = tables.get(kind)?;
        let app_id = format!("outbox:{}", kind.name());
        let delivered = table.transaction(&app_id).await?.unwrap_or(i64::MIN);
        let new: Vec<Event> = events
            .iter()
            .filter(|(seq, event)| *seq > delivered && event.kind() == kind.name())
            .map(|(_, event)| event.clone())
            .collect();
        if new.is_empty() {
            continue;
        }
        let adds = write_sorted(table, &[rows(kind, &new)?]).await?;
        // `last` may belong to an event of the other table. Numbers are given in order and
        // delivered in order, so none below it is still to come.
        table.append_once(adds, app_id, last).await?;
        metrics::counter!("acuvim_rows_stored_total", "table" => kind.name())
            .increment(new.len() as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
