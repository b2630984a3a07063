//! The lake's upkeep: merges small files, beside the stream and never in its way.

use std::sync::Arc;

use acuvim_lakehouse::Lake;
use tokio_util::sync::CancellationToken;

use crate::ProcessorOptions;

/// Looks for work now and then, and does all there is.
pub(crate) async fn run(options: Arc<ProcessorOptions>, lake: Arc<Lake>, stop: CancellationToken) {
    let work = async {
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
        }
    };
    stop.run_until_cancelled(work).await;
}
