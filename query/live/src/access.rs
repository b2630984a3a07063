//! What subscribers see, and whether they may still be connected: a connection outlives the request that
//! it began with, and must not outlive the right that it began with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_control::Error;
use acuvim_model::Scope;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    connection::{Closing, Connection},
    outbound::{EventFilter, Visible},
    state::Live,
    subscriber::Login,
};

/// Subscriptions of one caller among which equal ones are found, to look up and hold their devices once.
const ALIKE: usize = 50;

/// The devices that a scope sees.
pub(crate) async fn visible(live: &Live, scope: Option<&Scope>) -> Result<Visible, Error> {
    let Some(scope) = scope else { return Ok(None) };
    let ids = live.control().scoped_device_ids(scope).await?;
    Ok(Some(Arc::new(ids.into_iter().map(Arc::from).collect())))
}

/// The devices of groups that were looked up so far.
pub(crate) type GroupMembers = HashMap<Uuid, Vec<Arc<str>>>;

/// The devices that a filter selects among those that the subscriber sees.
pub(crate) async fn covered(
    live: &Live,
    filter: &EventFilter,
    visible: &Visible,
    groups: &mut GroupMembers,
) -> Result<Visible, Error> {
    if filter.whole {
        return Ok(visible.clone());
    }
    let mut all: HashSet<Arc<str>> = filter.devices.clone();
    for group in &filter.groups {
        if !groups.contains_key(group) {
            // Of every scope: one round asks for a group once, and what a subscriber sees is cut out below.
            let ids = live.control().device_ids_of(Some(*group), None).await?;
            groups.insert(*group, ids.into_iter().map(Arc::from).collect());
        }
        all.extend(groups.get(group).into_iter().flatten().cloned());
    }
    if let Some(visible) = visible {
        all.retain(|id| visible.contains(id));
    }
    Ok(Some(Arc::new(all)))
}

/// Checks all connections again and again.
pub(crate) async fn run(live: &Live) {
    loop {
        tokio::time::sleep(live.limits().check_interval).await;
        refresh(live).await;
    }
}

/// A user or key, and a user's login: what is true of one of its connections is true of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    id: Uuid,
    login: Option<Login>,
}

impl Identity {
    fn of(connection: &Connection) -> Self {
        let subscriber = connection.subscriber();
        Self { id: subscriber.id, login: subscriber.login }
    }

    /// Its rights now; none if it may not connect any more.
    async fn rights(self, live: &Live) -> Result<Option<Rights>, Error> {
        let Self { id, login } = self;
        if let Some(Login { family, session_version }) = login {
            let user = live.control().session_user(id, family).await?;
            let user = user.filter(|u| u.session_version == session_version && u.account.enabled);
            return Ok(user.map(|user| Rights { scope: user.account.scope }));
        }
        let key = live.control().key(id, Utc::now()).await?;
        Ok(key.map(|key| Rights { scope: key.scope }))
    }
}

/// The access of a subscriber who may connect.
struct Rights {
    scope: Option<Scope>,
}

/// Closes connections that are not allowed any more, and updates what the others see.
pub(crate) async fn refresh(live: &Live) {
    let mut by_identity: HashMap<Identity, Vec<Arc<Connection>>> = HashMap::new();
    for connection in live.hub().connections() {
        // A thousand browser tabs of one user are one question to the database.
        by_identity.entry(Identity::of(&connection)).or_default().push(connection);
    }
    let mut check = Check { live, now: Utc::now(), groups: GroupMembers::new() };
    for (identity, connections) in by_identity {
        if let Err(error) = check.connections(identity, &connections).await {
            // While the database is away every connection keeps the rights that it had.
            tracing::debug!(%error, "live connections can't be checked");
        }
    }
}

/// Checks one connection.
pub(crate) async fn refresh_one(live: &Live, connection: &Arc<Connection>) {
    let mut check = Check { live, now: Utc::now(), groups: GroupMembers::new() };
    let (identity, all) = (Identity::of(connection), std::slice::from_ref(connection));
    if let Err(error) = check.connections(identity, all).await {
        tracing::debug!(%error, "a live connection can't be checked");
    }
}

/// One round of checks.
struct Check<'a> {
    live: &'a Live,
    now: DateTime<Utc>,
    groups: GroupMembers,
}

impl Check<'_> {
    /// Checks the connections of one identity.
    async fn connections(
        &mut self,
        identity: Identity,
        connections: &[Arc<Connection>],
    ) -> Result<(), Error> {
        let now = self.now;
        let expired = |c: &&Arc<Connection>| c.subscriber().expires_at.is_some_and(|at| at <= now);
        for connection in connections.iter().filter(expired) {
            connection.close(Closing::again("the token has expired: come again with a new one"));
        }
        let Some(Rights { scope }) = identity.rights(self.live).await? else {
            let reason =
                "the session has ended, or the user or key has changed or is gone: log in again";
            connections.iter().for_each(|c| c.close(Closing::for_good(reason)));
            return Ok(());
        };
        let visible = visible(self.live, scope.as_ref()).await?;
        let mut alike: Vec<(EventFilter, Visible)> = Vec::new();
        for connection in connections.iter().filter(|c| !expired(c)) {
            let covered = self.covered_by(connection, &visible, &mut alike).await?;
            connection.set_scope(scope.clone());
            connection.out().cover(&covered, visible.is_none());
        }
        Ok(())
    }

    /// What each subscription of a connection covers. Equal subscriptions share one set of devices.
    async fn covered_by(
        &mut self,
        connection: &Connection,
        visible: &Visible,
        alike: &mut Vec<(EventFilter, Visible)>,
    ) -> Result<HashMap<u64, Visible>, Error> {
        let filters: Vec<(u64, EventFilter)> =
            connection.out().filters().map(|(number, filter)| (number, filter.clone())).collect();
        let mut by_number = HashMap::new();
        for (number, filter) in filters {
            let same = |(other, _): &&(EventFilter, Visible)| {
                (filter.whole, &filter.devices, &filter.groups)
                    == (other.whole, &other.devices, &other.groups)
            };
            let covers = match alike.iter().find(same) {
                Some((_, covers)) => covers.clone(),
                None => covered(self.live, &filter, visible, &mut self.groups).await?,
            };
            if alike.len() < ALIKE {
                alike.push((filter, covers.clone()));
            }
            by_number.insert(number, covers);
        }
        Ok(by_number)
    }
}

#[cfg(test)]
mod tests;
