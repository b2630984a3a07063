//! The state of the stages for `/readyz`, and the wait for components at the start.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use acuvim_ingest::{BridgeState, IntakeState};
use acuvim_processor::StateWatch;
use acuvim_query::{Component, Status};
use tokio::sync::watch;

/// Delay between two attempts to open a component; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The states of the stages that run in this process.
#[derive(Clone, Default)]
pub struct Stages(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// The component that the start is waiting for.
    awaited: Option<Component>,
    intake: Option<watch::Receiver<IntakeState>>,
    bridge: Option<watch::Receiver<BridgeState>>,
    stream: Option<StateWatch>,
    serving: bool,
}

impl Stages {
    fn change(&self, change: impl FnOnce(&mut Watched)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn intake(&self, state: watch::Receiver<IntakeState>) {
        self.change(|watched| watched.intake = Some(state));
    }

    pub fn bridge(&self, state: watch::Receiver<BridgeState>) {
        self.change(|watched| watched.bridge = Some(state));
    }

    pub fn stream(&self, state: StateWatch) {
        self.change(|watched| watched.stream = Some(state));
    }

    /// Called when everything has started.
    pub fn serving(&self) {
        self.change(|watched| watched.serving = true);
    }

    /// Tries to open a component until it is available. An error that waiting can't cure is returned
    /// at once: `is_temporary` tells the two apart.
    pub async fn wait<T, E: std::fmt::Display>(
        &self,
        component: &'static str,
        is_temporary: impl Fn(&E) -> bool,
        mut open: impl AsyncFnMut() -> Result<T, E>,
    ) -> anyhow::Result<T> {
        let mut pause = FIRST_PAUSE;
        let mut reported = false;
        loop {
            let error = match open().await {
                Ok(opened) => {
                    self.change(|watched| watched.awaited = None);
                    if reported {
                        tracing::info!(component, "is there");
                    }
                    return Ok(opened);
                }
                Err(error) if is_temporary(&error) => error.to_string(),
                Err(error) => anyhow::bail!("{error}"),
            };
            if !std::mem::replace(&mut reported, true) {
                tracing::warn!(component, reason = %error, "is away; the start waits for it");
            }
            let awaited = Component { component: component.to_owned(), reason: error };
            self.change(|watched| watched.awaited = Some(awaited));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The components that are not ready at this moment.
    pub fn status(&self) -> Status {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.serving {
            let starting =
                || Component { component: "process".into(), reason: "it is starting".into() };
            let awaited = watched.awaited.clone().unwrap_or_else(starting);
            return Status { not_ready: vec![awaited], not_hot: None };
        }
        let stream = watched.stream.as_ref().map(|s| s.borrow().clone()).unwrap_or_default();
        let withholding = watched.intake.as_ref().and_then(|state| match &*state.borrow() {
            IntakeState::Taking => None,
            IntakeState::Withholding(reason) => Some(reason.clone()),
        });
        let broker = watched.bridge.as_ref().and_then(|state| match &*state.borrow() {
            BridgeState::Connected => None,
            BridgeState::Away(reason) => Some(reason.clone()),
        });
        let problems = [
            ("mqtt", broker),
            ("log", withholding.or(stream.log_trouble.clone()).or(stream.claim_trouble.clone())),
            ("lake", stream.lake_trouble.clone().or(stream.follow_trouble.clone())),
            ("control", stream.control_trouble.clone()),
            ("outbox", stream.outbox_trouble.clone()),
        ];
        let not_ready = problems
            .into_iter()
            .filter_map(|(component, reason)| {
                Some(Component { component: component.to_owned(), reason: reason? })
            })
            .collect();
        Status { not_ready, not_hot: stream.not_hot() }
    }
}
