//! Retention: days that are older than a table keeps are dropped whole, by their files.

use acuvim_schemas::{
    tables::Table,
    time::{Micros, day_text},
};
use deltalake::{
    kernel::{Transaction, transaction::CommitBuilder},
    protocol::DeltaOperation,
};
use std::sync::Arc;

use crate::{
    Error, Lake,
    snapshot::File,
    table::{LakeTable, properties},
};

/// What retention let go of. Its bytes are free once no version within reach has its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Days dropped.
    pub days: usize,
    /// Their files.
    pub files: usize,
    /// Their rows.
    pub rows: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Lake {
    /// Drops the days of a table before one, given in days since 1970-01-01; at a time that is kept
    /// with the commit. Readers of older versions see them until [`Lake::clean`] removes the files.
    ///
    /// # Errors
    /// When the store fails, or another writer was faster; nothing has changed then.
    pub async fn retain(&self, table: Table, before: i32, now: Micros) -> Result<Retained, Error> {
        self.table(table)?.drop_days(before, now).await
    }

    /// When days of a table were last dropped: what came before then may be gone by right.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retained_at(&self, table: Table) -> Result<Option<Micros>, Error> {
        self.table(table)?.transaction(&retention_id(table)).await
    }

    /// The newest day of a table, in days since 1970-01-01.
    #[must_use]
    pub fn newest_day(&self, table: Table) -> Option<i32> {
        self.snapshot(table).ok()?.files.iter().map(|f| f.date).max()
    }
}

fn retention_id(table: Table) -> String {
    format!("retention:{}", table.name())
}

/// A file whose day can't be read, which counts as the first there was, is nobody's to drop.
fn is_dropped(file: &File, before: i32) -> bool {
    file.date > 0 && file.date < before
}

impl LakeTable {
    async fn drop_days(&self, before: i32, now: Micros) -> Result<Retained, Error> {
        let _alone = self.rewriting.lock().await;
        let _turn = self.turn.lock().await;
        let base = self.current();
        let gone: Vec<_> = base.files.iter().filter(|f| is_dropped(f, before)).collect();
        if gone.is_empty() {
            return Ok(Retained::default());
        }
        let days: std::collections::HashSet<i32> = gone.iter().map(|f| f.date).collect();
        let retained = Retained {
            days: days.len(),
            files: gone.len(),
            rows: gone.iter().filter_map(|f| f.rows).sum(),
            bytes: gone.iter().map(|f| f.meta.size).sum(),
        };
        let removes = base.removes(gone.iter().copied(), true);
        // The same as a compaction's, so that of the two on the same files one fails.
        let turn = Transaction::new(self.rewrite_id(), base.version());
        let dropped = Transaction::new(retention_id(self.table), now);
        let predicate = Some(format!("date < '{}'", day_text(before)));
        let committed =
            CommitBuilder::from(properties().with_application_transactions(vec![turn, dropped]))
                .with_actions(removes)
                .build(
                    Some(&base.state),
                    Arc::clone(&self.log_store),
                    DeltaOperation::Delete { predicate },
                )
                .await;
        match committed {
            Ok(commit) => {
                self.settle(&base, commit.snapshot(), base.covered.clone()).await?;
                Ok(retained)
            }
            Err(error) => {
                self.refresh(&base).await?;
                Err(error.into())
            }
        }
    }
}
