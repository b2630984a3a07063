//! Rows from the outbox into the event tables: each once, however often they are delivered.

use acuvim_schemas::{
    event::{Event, rows},
    tables::Table,
};

use crate::{Error, Lake, writer::write_sorted};

impl Lake {
    /// Commits events, each with its number in the outbox, to their tables. Those that a table has
    /// are passed over: its `txn` says up to which number that is.
    ///
    /// # Errors
    /// When the store fails; nothing is lost by delivering them again.
    pub async fn deliver(&self, events: &[(i64, Event)]) -> Result<(), Error> {
        let Some(last) = events.iter().map(|(seq, _)| *seq).max() else { return Ok(()) };
        for table in Table::EVENTS {
            let lake_table = self.table(table)?;
            let app_id = format!("outbox:{}", table.name());
            let has = lake_table.transaction(&app_id).await?.unwrap_or(i64::MIN);
            let new: Vec<Event> = events
                .iter()
                .filter(|(seq, event)| *seq > has && event.kind() == table.name())
                .map(|(_, event)| event.clone())
                .collect();
            if new.is_empty() {
                continue;
            }
            let adds = write_sorted(lake_table, &[rows(table, &new)?]).await?;
            lake_table.append_once(adds, app_id, last).await?;
            metrics::counter!("acuvim_rows_stored_total", "table" => table.name())
                .increment(new.len() as u64);
        }
        Ok(())
    }
}
