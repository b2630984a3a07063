//! Backtests that wait, end, and are forgotten. None runs here: another holds the turn.

use acuvim_model::DeviceScope;
use acuvim_rules::Planner;
use serde_json::json;

use super::*;
use crate::testing::Server;

const OWNER: Uuid = Uuid::from_u128(1);

fn backtests(server: &Server) -> Backtests {
    Backtests::new(BacktestParts {
        control: server.control.clone(),
        lake: Arc::clone(&server.lake),
        engine: server.lake.engine().clone(),
        threads: tokio::runtime::Handle::current(),
        tail_fault: Arc::new(|| None),
        max_ahead: acuvim_wire::telemetry::MAX_AHEAD,
        describe: |error| error.to_string(),
    })
}

fn new() -> NewBacktest {
    let body = json!({"name": "r", "alert_type": "high", "when": "voltage_l1_v > 250"});
    let body = serde_json::from_value(body).expect("a rule");
    let rule = Planner::new().expect("a planner").compile(&body).expect("a rule");
    let scope = DeviceScope::default();
    NewBacktest { owner: OWNER, rule, stored: None, scope, seen: None, from: 0, to: 1 }
}

fn start(backtests: &Backtests) -> Result<Uuid, TooManyBacktests> {
    backtests.start(new(), DateTime::UNIX_EPOCH).map(|backtest| backtest.id)
}

#[tokio::test]
async fn only_so_many_run_or_wait_and_one_that_is_cancelled_makes_room() {
    let server = Server::new().await;
    let backtests = backtests(&server);
    let _turn = backtests.0.turn.lock().await;
    let waiting: Vec<Uuid> = (0..WAITING).map(|_| start(&backtests).expect("room")).collect();
    assert_eq!(start(&backtests), Err(TooManyBacktests));
    assert!(backtests.cancel(waiting[3], OWNER));
    assert_eq!(backtests.get(waiting[3], OWNER).expect("kept").state, BacktestState::Cancelled);
    start(&backtests).expect("room again");
    assert_eq!(start(&backtests), Err(TooManyBacktests));
}

#[tokio::test]
async fn a_backtest_is_its_owners_alone() {
    let server = Server::new().await;
    let backtests = backtests(&server);
    let _turn = backtests.0.turn.lock().await;
    let id = start(&backtests).expect("room");
    let stranger = Uuid::from_u128(2);
    assert!(backtests.get(id, stranger).is_none());
    assert!(!backtests.cancel(id, stranger));
    assert_eq!(backtests.get(id, OWNER).expect("kept").state, BacktestState::Running);
    assert!(!backtests.cancel(Uuid::nil(), OWNER));
}

#[tokio::test]
async fn old_ones_that_have_ended_are_forgotten_and_none_that_waits() {
    let server = Server::new().await;
    let backtests = backtests(&server);
    let _turn = backtests.0.turn.lock().await;
    let first = start(&backtests).expect("room");
    let ended: Vec<Uuid> = (0..KEPT + 3)
        .map(|_| {
            let id = start(&backtests).expect("room");
            assert!(backtests.cancel(id, OWNER));
            id
        })
        .collect();
    assert_eq!(backtests.jobs().len(), KEPT);
    assert!(backtests.get(first, OWNER).is_some(), "it waits still");
    assert!(backtests.get(ended[0], OWNER).is_none());
    assert!(backtests.get(ended[KEPT + 2], OWNER).is_some());
}

#[tokio::test]
async fn what_was_cancelled_stays_so_whatever_its_run_says_later() {
    let server = Server::new().await;
    let backtests = backtests(&server);
    let _turn = backtests.0.turn.lock().await;
    let id = start(&backtests).expect("room");
    backtests.change(id, |shown| shown.progress = 0.5);
    backtests.cancel(id, OWNER);
    let end = |result| backtests.change(id, |shown| backtests.end(shown, result, Instant::now()));
    end(Ok(BacktestResult::default()));
    let shown = backtests.get(id, OWNER).expect("kept");
    assert_eq!((shown.state, shown.result, shown.progress), (BacktestState::Cancelled, None, 0.5));
    assert!(backtests.cancel(id, OWNER), "again is no fault");
}

#[tokio::test]
async fn the_end_of_a_run_is_its_result_or_why_there_is_none() {
    let server = Server::new().await;
    let backtests = backtests(&server);
    let _turn = backtests.0.turn.lock().await;
    let (good, bad) = (start(&backtests).expect("room"), start(&backtests).expect("room"));
    let end =
        |id, result| backtests.change(id, |shown| backtests.end(shown, result, Instant::now()));
    end(good, Ok(BacktestResult { readings: 7, ..BacktestResult::default() }));
    end(bad, Err(BacktestError::Refused("the rule flaps".to_owned())));
    let good = backtests.get(good, OWNER).expect("kept");
    assert_eq!((good.state, good.progress), (BacktestState::Done, 1.0));
    assert_eq!(good.result.map(|result| result.readings), Some(7));
    let bad = backtests.get(bad, OWNER).expect("kept");
    assert_eq!((bad.state, bad.error.as_deref()), (BacktestState::Failed, Some("the rule flaps")));
}
