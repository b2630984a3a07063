use super::*;

const TERMS: LeaseTerms = LeaseTerms {
    name: "test",
    length: TimeDelta::seconds(60),
    renew_after: TimeDelta::seconds(30),
};

impl Leased {
    /// The lease of a job that a test does itself.
    pub(in crate::jobs) fn lease(&self, terms: LeaseTerms) -> JobLease {
        let (control, holder) = (self.control.clone(), self.holder.clone());
        JobLease { control, holder, terms, held: None }
    }
}

fn lease_of(leased: &Leased) -> JobLease {
    leased.lease(TERMS)
}

#[tokio::test]
async fn one_process_holds_a_lease_until_its_job_is_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
    let stop = CancellationToken::new();
    let ours = Leased::new(control.clone(), "one", stop.clone());
    let theirs = Leased::new(control, "two", CancellationToken::new());
    let (sender, held) = tokio::sync::oneshot::channel();
    let job = tokio::spawn(ours.run(TERMS, |mut lease| async move {
        let _ = sender.send(lease.is_held().await);
        std::future::pending::<()>().await;
    }));
    assert!(held.await.expect("the job runs"));
    let mut other = lease_of(&theirs);
    assert!(!other.is_held().await, "the first process holds it");
    stop.cancel();
    job.await.expect("the job ends");
    assert!(other.is_held().await, "it was given up at the stop");
}

#[tokio::test]
async fn a_process_that_was_killed_goes_on_at_once_under_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
    let process = |name| Leased::new(control.clone(), name, CancellationToken::new());
    assert!(lease_of(&process("one")).is_held().await);
    assert!(!lease_of(&process("two")).is_held().await, "it is held for a minute");
    assert!(lease_of(&process("one")).is_held().await, "it is its own");
}

#[tokio::test]
async fn a_lease_keeps_its_epoch_while_one_process_holds_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
    let mut lease = lease_of(&Leased::new(control, "one", CancellationToken::new()));
    let first = lease.hold().await.expect("control answers").expect("it is free");
    assert_eq!(lease.hold().await.expect("control answers"), Some(first), "not yet due");
    lease.forget();
    let renewed = lease.hold().await.expect("control answers").expect("it is ours");
    assert_eq!(renewed.epoch, first.epoch);
    assert!(renewed.until >= first.until);
}

#[tokio::test]
async fn a_job_that_does_not_hold_its_lease_gives_up_nobody_elses() {
    let dir = tempfile::tempdir().expect("a folder");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
    let stop = CancellationToken::new();
    let ours = Leased::new(control.clone(), "one", CancellationToken::new());
    let theirs = Leased::new(control.clone(), "two", stop.clone());
    assert!(lease_of(&ours).is_held().await);
    stop.cancel();
    theirs.run(TERMS, |_| std::future::pending()).await;
    let third = Leased::new(control, "three", CancellationToken::new());
    assert!(!lease_of(&third).is_held().await, "the first process still holds it");
}

#[tokio::test]
async fn a_lease_that_is_renewed_each_time_never_expires_in_its_holders_hands() {
    let dir = tempfile::tempdir().expect("a folder");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
    let leased = Leased::new(control.clone(), "one", CancellationToken::new());
    let mut lease = leased.lease(LeaseTerms { renew_after: TimeDelta::zero(), ..TERMS });
    let first = lease.hold().await.expect("control answers").expect("it is free");
    // Another process takes it over in between, which a lease of a moment ago must not hide.
    control.drop_lease(TERMS.name, "one", Utc::now()).await.expect("dropped");
    assert!(lease_of(&Leased::new(control, "two", CancellationToken::new())).is_held().await);
    assert_eq!(lease.hold().await.expect("control answers"), None);
    assert!(first.until > Utc::now());
}
