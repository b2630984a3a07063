use super::*;

#[test]
fn watchers_are_woken_by_changes_alone() {
    let state = StateSender::new([0, 1]);
    let mut watch = state.watch();
    let mut woken = || {
        let changed = watch.has_changed().expect("a sender");
        watch.mark_unchanged();
        changed
    };
    state.caught_up(0);
    assert!(woken());
    state.caught_up(0);
    state.catching_up(1);
    state.tail_full(false);
    state.lake(None);
    assert!(!woken(), "nothing changed");
    state.lake(Some("no route".into()));
    assert!(woken());
    state.lake(Some("no answer".into()));
    assert!(!woken(), "it is the same outage");
    assert_eq!(state.watch().borrow().lake_trouble.as_deref(), Some("no answer"));
    state.lake(None);
    assert!(woken());
}

#[test]
fn the_first_reason_to_stop_for_good_stays() {
    let state = StateSender::new([]);
    assert!(!state.has_failed());
    state.fatal(Fatal::Overtaken(3));
    state.fatal(Fatal::Broken("because of that".into()));
    let fatal = state.watch().borrow().fatal.clone().expect("it stopped");
    assert!(matches!(*fatal, Fatal::Overtaken(3)), "{fatal:?}");
    assert!(state.has_failed());
}

#[test]
fn being_overtaken_is_expected_only_where_processes_share_the_log() {
    let shared = StateSender::new([0]);
    assert!(shared.begin_anew(4, true) && shared.begin_anew(2, true));
    assert!(!shared.has_failed());
    assert_eq!(shared.take_overtaken(), BTreeSet::from([2, 4]));
    assert!(shared.take_overtaken().is_empty(), "each is taken once");
    let alone = StateSender::new([0]);
    assert!(!alone.begin_anew(4, false));
    assert!(alone.has_failed() && alone.take_overtaken().is_empty());
    let text = alone.watch().borrow().fatal.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.starts_with("partition 4 is being written by another process"), "{text}");
}

#[test]
fn a_query_is_told_why_the_tail_can_not_be_used() {
    let why = |state: &StateSender| state.watch().borrow().not_hot();
    let state = StateSender::new([]);
    assert_eq!(why(&state), None);
    // What keeps rows from being flushed or changes from being stored does not concern queries.
    state.lake(Some("away".into()));
    state.control(Some("away".into()));
    state.outbox(Some("away".into()));
    assert_eq!(why(&state), None);
    state.tail_full(true);
    assert!(why(&state).is_some_and(|why| why.contains("tail is full")));
    state.dedup(Some("no route".into()));
    assert!(why(&state).is_some_and(|why| why.contains("no route")));
    state.catching_up(0);
    state.catching_up(7);
    assert!(why(&state).is_some_and(|why| why.contains("2 partitions")));
    state.fatal(Fatal::Lost("ten records".into()));
    assert!(why(&state).is_some_and(|why| why.contains("ten records")));
}

#[test]
fn a_task_that_ends_takes_its_troubles_with_it_and_no_others() {
    let state = StateSender::new([]);
    state.tail_full(true);
    for report in [StateSender::log, StateSender::control, StateSender::dedup, StateSender::lake] {
        report(&state, Some("away".into()));
    }
    state.clear_partition_troubles();
    let left = state.watch().borrow().clone();
    assert!(!left.tail_full);
    assert_eq!((left.log_trouble, left.control_trouble, left.dedup_trouble), (None, None, None));
    assert!(left.lake_trouble.is_some(), "the flusher reported it");
}

#[test]
fn an_outage_is_named_by_its_component() {
    let state = StateSender::new([]);
    assert!(state.troubles().is_empty());
    state.dedup(Some("no route".into()));
    state.outbox(Some("no broker".into()));
    // An alert about control could not be stored anyway.
    state.control(Some("no database".into()));
    let troubles = state.troubles();
    let wanted = [("outbox", "no broker"), ("stored times", "no route")];
    assert_eq!(troubles, wanted.map(|(name, reason)| (name, reason.to_owned())));
}
