//! The state that everything about live connections shares.

use std::sync::Arc;

use acuvim_control::Control;
use acuvim_lakehouse::Lake;
use acuvim_log::Log;
use uuid::Uuid;

use crate::{
    connection::{Closing, Connection},
    hub::Hub,
    limits::LiveLimits,
};

/// The parts of [`Live`].
pub struct LiveParts {
    /// Users, keys and their scopes.
    pub control: Control,
    /// Arrivals of readings, and the latest of each device.
    pub lake: Arc<Lake>,
    /// The log, whose topic `acuvim.events` is read from its end.
    pub log: Arc<dyn Log>,
    /// How clients are treated.
    pub limits: LiveLimits,
}

/// Live connections. Clones share everything.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    control: Control,
    lake: Arc<Lake>,
    log: Arc<dyn Log>,
    hub: Arc<Hub>,
}

impl std::fmt::Debug for LiveParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveParts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("hub", &self.0.hub).finish_non_exhaustive()
    }
}

impl Live {
    /// Connections are taken once [`crate::run`] has begun to read the log.
    #[must_use]
    pub fn new(parts: LiveParts) -> Self {
        let LiveParts { control, lake, log, limits } = parts;
        let hub = Arc::new(Hub::new(limits));
        Self(Arc::new(Inner { control, lake, log, hub }))
    }

    /// The connections of this process.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// How clients are treated.
    #[must_use]
    pub fn limits(&self) -> &LiveLimits {
        &self.0.hub.limits
    }

    pub(crate) fn control(&self) -> &Control {
        &self.0.control
    }

    pub(crate) fn lake(&self) -> &Lake {
        &self.0.lake
    }

    pub(crate) fn log(&self) -> &dyn Log {
        self.0.log.as_ref()
    }

    /// Closes the connections of a login that has ended.
    pub fn end_login(&self, family: Uuid) {
        let theirs =
            |c: &Arc<Connection>| c.subscriber().login.is_some_and(|login| login.family == family);
        for connection in self.hub().connections().into_iter().filter(theirs) {
            connection.close(Closing::for_good("the session has ended: log in again"));
        }
    }
}
