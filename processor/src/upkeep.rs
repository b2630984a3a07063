//! The lake's upkeep: merges small files and removes what nobody needs any more, beside the stream
//! and never in its way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Parts, ProcessorOptions};

/// How often what nobody needs is removed.
const CLEANING: Duration = Duration::from_secs(3600);

/// The lease of the one process that does it, and how long it is held without being renewed.
const LEASE: &str = "upkeep";
const LEASE_SECONDS: i64 = 60;

/// Looks for work now and then, and does all there is.
pub(crate) async fn run(options: Arc<ProcessorOptions>, parts: Parts, stop: CancellationToken) {
    let work = async {
        let lake = &parts.lake;
        let holder = uuid::Uuid::new_v4().to_string();
        let mut cleaned = Instant::now();
        loop {
            tokio::time::sleep(options.compaction_interval).await;
            if options.shared && !holds(&parts, &holder).await {
                continue;
            }
            loop {
                match lake.compact(options.compaction).await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "compaction failed; it is tried again");
                        break;
                    }
                }
            }
            if cleaned.elapsed() >= CLEANING {
                cleaned = Instant::now();
                let before = Utc::now() - options.keep_history;
                match parts.control.prune(before).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "control let go of old commands and audit"),
                    Err(error) => tracing::warn!(%error, "pruning failed; it is tried again"),
                }
                match lake.clean(options.keep_files).await {
                    Ok(removed) => tracing::info!(?removed, "cleaned the lake"),
                    Err(error) => tracing::warn!(%error, "cleaning failed; it is tried again"),
                }
            }
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

/// Whether the work is this process's. Two that both think so do no harm: the second commit of a
/// merge of the same files is refused.
async fn holds(parts: &Parts, holder: &str) -> bool {
    let length = TimeDelta::seconds(LEASE_SECONDS);
    let held = parts.control.hold_lease(LEASE, holder, Utc::now(), length).await;
    matches!(held, Ok(Some(_)))
}
