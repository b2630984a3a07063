//! Whether the broker is connected: for `/readyz`, the log and the metrics.

use tokio::sync::watch;

/// Whether the broker is connected, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeState {
    /// It is, and messages come in.
    Connected,
    /// It is not, for this reason.
    Away(String),
}

/// Where the bridge reports its state.
#[derive(Debug)]
pub(super) struct StateReport {
    host: String,
    state: watch::Sender<BridgeState>,
}

impl StateReport {
    pub fn new(host: String) -> (Self, watch::Receiver<BridgeState>) {
        let (state, watch) = watch::channel(BridgeState::Away("not connected yet".into()));
        (Self { host, state }, watch)
    }

    /// Reports a state. Only changes are logged, because a broker that stays away is tried again and again.
    pub fn set(&self, now: BridgeState) {
        self.state.send_if_modified(|state| {
            let changed = std::mem::discriminant(state) != std::mem::discriminant(&now);
            match &now {
                BridgeState::Connected if changed => {
                    tracing::info!(broker = %self.host, "the bridge is connected");
                }
                BridgeState::Away(reason) if changed => {
                    tracing::warn!(broker = %self.host, %reason, "the broker is away");
                }
                _ => {}
            }
            let connected = if now == BridgeState::Connected { 1.0 } else { 0.0 };
            metrics::gauge!("acuvim_bridge_connected").set(connected);
            let differs = *state != now;
            *state = now;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_state_or_reason_is_seen_and_a_repetition_is_not() {
        let (report, mut state) = StateReport::new("broker".into());
        let away = |reason: &str| BridgeState::Away(reason.into());
        for (now, seen) in [
            (away("refused"), true),
            (away("refused"), false),
            (away("no route"), true),
            (BridgeState::Connected, true),
            (BridgeState::Connected, false),
        ] {
            report.set(now.clone());
            assert_eq!(state.has_changed().expect("open"), seen, "{now:?}");
            assert_eq!(*state.borrow_and_update(), now);
        }
    }
}
