//! Leases: several processes may have the same job, and one of them does it at a time.

use acuvim_control::{Control, Error, Lease};
use chrono::{TimeDelta, Utc};
use futures::future::{BoxFuture, FutureExt as _};
use tokio_util::sync::CancellationToken;

/// A lease in control, and how it is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseTerms {
    /// The name in control, which is the same in every version of this program.
    pub name: &'static str,
    /// How long the lease lasts after its last renewal.
    pub length: TimeDelta,
    /// The age from which on it is renewed when the job asks for it; zero renews it each time.
    pub renew_after: TimeDelta,
}

/// Runs jobs under leases that this process holds.
#[derive(Debug, Clone)]
pub(super) struct Leased {
    control: Control,
    holder: String,
    stop: CancellationToken,
}

impl Leased {
    /// Holds leases under this name until `stop`.
    pub fn new(control: Control, holder: &str, stop: CancellationToken) -> Self {
        Self { control, holder: holder.to_owned(), stop }
    }

    /// Runs a job until the stop signal, and then gives its lease up, so that another process can
    /// go on at once. The job itself asks for the lease before each piece of work, because only it
    /// knows what has to be dropped when the lease is lost.
    pub fn run<J>(
        &self,
        terms: LeaseTerms,
        job: impl FnOnce(JobLease) -> J,
    ) -> BoxFuture<'static, ()>
    where
        J: Future<Output = ()> + Send + 'static,
    {
        let Self { control, holder, stop } = self.clone();
        let job = Box::pin(job(JobLease {
            control: control.clone(),
            holder: holder.clone(),
            terms,
            held: None,
        }));
        async move {
            stop.run_until_cancelled(job).await;
            // An error needs no retry: the lease expires by itself.
            let _ = control.drop_lease(terms.name, &holder, Utc::now()).await;
        }
        .boxed()
    }
}

/// The lease of a job, from the job's side.
#[derive(Debug)]
pub(super) struct JobLease {
    control: Control,
    holder: String,
    terms: LeaseTerms,
    held: Option<Lease>,
}

impl JobLease {
    /// The lease, acquired or renewed if that is due; `None` while another process holds it.
    pub async fn hold(&mut self) -> Result<Option<Lease>, Error> {
        let now = Utc::now();
        let LeaseTerms { name, length, renew_after } = self.terms;
        // A clock that was set back makes a lease look young; zero renews it all the same.
        if renew_after > TimeDelta::zero()
            && let Some(lease) = self.held
            && lease.until - now > length - renew_after
        {
            return Ok(Some(lease));
        }
        self.held = self.control.hold_lease(name, &self.holder, now, length).await?;
        Ok(self.held)
    }

    /// Whether this process holds the lease; false as well if control can't be asked.
    pub async fn is_held(&mut self) -> bool {
        matches!(self.hold().await, Ok(Some(_)))
    }

    /// Forgets a lease that a write found to be another process's, so that it is asked for again.
    pub fn forget(&mut self) {
        self.held = None;
    }

    /// The name under which this process holds leases.
    pub fn holder(&self) -> &str {
        &self.holder
    }
}

#[cfg(test)]
mod tests;
