//! The lake's upkeep: merges small files and removes what nobody needs any more, beside the stream
//! and never in its way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::Lake;
use tokio_util::sync::CancellationToken;

use crate::ProcessorOptions;

/// How often what nobody needs is removed.
const CLEANING: Duration = Duration::from_secs(3600);

/// Looks for work now and then, and does all there is.
pub(crate) async fn run(options: Arc<ProcessorOptions>, lake: Arc<Lake>, stop: CancellationToken) {
    let work = async {
        let mut cleaned = Instant::now();
        loop {
            tokio::time::sleep(options.compaction_interval).await;
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
                match lake.clean(options.keep_files).await {
                    Ok(removed) => tracing::info!(?removed, "cleaned the lake"),
                    Err(error) => tracing::warn!(%error, "cleaning failed; it is tried again"),
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
