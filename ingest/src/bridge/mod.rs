//! The bridge: messages from any MQTT broker go into the log, and are acknowledged to that broker only
//! once the log has them, in the order of their receipt.
//!
//! Our session at the broker outlives this process: messages wait there while we are away. Every
//! reconnect starts with new objects throughout, so that a late acknowledgement can never reach a
//! connection on which its packet id means another message.

mod backoff;
mod batches;
mod options;
mod outbound;
mod runner;
mod state;
mod wire;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use options::{BridgeOptions, MqttVersion};
pub use state::BridgeState;

use crate::{downlink::Downlink, intake::Intake, pulse};
use outbound::Outbound;
use runner::Runner;
use state::StateReport;

/// The running bridge.
#[derive(Debug)]
pub struct Bridge {
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    state: watch::Receiver<BridgeState>,
}

impl Bridge {
    /// Starts the bridge. A broker that is away is tried again until it is there.
    #[must_use]
    pub fn start(options: BridgeOptions, intake: Arc<Intake>, downlink: &Downlink) -> Self {
        let stop = CancellationToken::new();
        let (report, state) = StateReport::new(options.host.clone());
        let outbound = Outbound::start(downlink, &stop);
        let is_connected = state.clone();
        let pulse = pulse::run(Arc::clone(&downlink.log), options.pulse, move || {
            // Without the broker we hear no device, and must not say that we listen.
            *is_connected.borrow() == BridgeState::Connected
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(pulse));
        let runner = Runner::new(options, intake, outbound, report, stop.clone());
        Self { task: tokio::spawn(runner.run()), stop, state }
    }

    /// Whether the broker is connected.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BridgeState> {
        self.state.clone()
    }

    /// Whether the bridge has ended by itself, which is a bug.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops taking messages. Returns when those taken are acknowledged, or the time is over: the
    /// broker sends the others again.
    pub async fn stop(mut self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the bridge was still busy when it was stopped");
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
