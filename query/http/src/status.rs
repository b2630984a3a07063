//! How the process is doing, as the composition root sees it.

use std::sync::Arc;

use acuvim_query_sql::TailCheck;

/// How the other stages are doing at this moment.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// What is not ready, and why.
    pub not_ready: Vec<Component>,
    /// Why the tail can't be queried; none if it can.
    pub not_hot: Option<String>,
}

/// A component that is not ready.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Component {
    /// Its name: log, lake, control, processor.
    pub component: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What operators may ask of every process, whatever its roles.
#[derive(Clone)]
pub struct System {
    /// How the stages are doing.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// The metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl System {
    /// Whether the tail can be queried.
    pub(crate) fn tail_check(&self) -> TailCheck {
        let status = Arc::clone(&self.status);
        TailCheck(Arc::new(move || status().not_hot))
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("status", &(self.status)()).finish_non_exhaustive()
    }
}
