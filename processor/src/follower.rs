//! Keeps up with what other processes commit: the tail lets go of what the tables have.

use std::{sync::Arc, time::Duration};

use acuvim_lakehouse::Lake;
use tokio_util::sync::CancellationToken;

use crate::state::StateSender;

/// How often new versions are looked for: one small read each time.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long to wait while the store is away.
const AWAY: Duration = Duration::from_secs(2);

/// Looks until the end; workers that read on to the log's end may need its room until then.
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
                    state.follow(Some(error.to_string()));
                    AWAY
                }
            };
            // Not in the middle of a look, as long as that is answered.
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    };
    give_up.run_until_cancelled(work).await;
}
