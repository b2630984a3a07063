//! Follows the commits of other processes, so that rows which the tables have by now leave the
//! tail.

use std::{sync::Arc, time::Duration};

use acuvim_lakehouse::Lake;
use tokio_util::sync::CancellationToken;

use crate::state::StateSender;

/// How often new versions are looked for: one small read each time.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long to wait while the store is away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Runs until `give_up`, or until `stop` comes between two reads. Partitions that read on to the
/// log's end after `stop` may need the room that is freed here.
pub(crate) async fn run(
    lake: Arc<Lake>,
    state: StateSender,
    stop: CancellationToken,
    give_up: CancellationToken,
) {
    let work = async {
        loop {
            let pause = match lake.catch_up().await {
                Ok(()) => {
                    state.follow(None);
                    INTERVAL
                }
                Err(error) => {
                    // Not the end of the stream: the tail only keeps rows that the tables have too,
                    // and a view counts them once.
                    state.follow(Some(error.to_string()));
                    RETRY_AFTER
                }
            };
            // A read that has begun is finished, if the store answers.
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    };
    give_up.run_until_cancelled(work).await;
}
