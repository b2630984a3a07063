use std::time::Duration;

use serde_json::json;

use super::*;
use crate::jobs::notifications::message::tests::notice;

#[test]
fn attempts_become_rarer_and_end() {
    let options = NotifyOptions::default();
    let mut one = notice(json!({}), 1, 1);
    let (mut now, mut waits) = (one.created_at, Vec::new());
    let last = loop {
        let after = outcome(&one, Attempt::Retry("503".into()), &options, now);
        assert_eq!(after.answer, "503");
        if after.state == DeliveryState::Dead {
            break after.at;
        }
        waits.push((after.at - now).num_seconds());
        (now, one.attempts) = (after.at, one.attempts + 1);
    };
    assert_eq!(waits.get(..5), Some(&[5, 10, 20, 40, 80][..]));
    assert!(waits.iter().all(|wait| *wait <= 3600) && waits.len() > 20, "{waits:?}");
    assert!(last - one.created_at <= TimeDelta::days(1));
    let failed = outcome(&one, Attempt::Failed("no".into()), &options, now);
    assert_eq!(failed.state, DeliveryState::Dead);
    let accepted = outcome(&one, Attempt::Accepted("200".into()), &options, now);
    assert_eq!(accepted.state, DeliveryState::Delivered);
}

#[test]
fn a_message_is_given_up_when_its_next_attempt_would_be_too_late() {
    let options = NotifyOptions::default();
    let one = notice(json!({}), 1, 1);
    let end = one.created_at + TimeDelta::days(1);
    let retried = |now| outcome(&one, Attempt::Retry("503".into()), &options, now);
    let last = retried(end - TimeDelta::seconds(5));
    assert_eq!((last.state, last.at), (DeliveryState::Waiting, end));
    let now = end - TimeDelta::milliseconds(4_999);
    let dead = retried(now);
    assert_eq!((dead.state, dead.at), (DeliveryState::Dead, now), "it ended now, not later");
    assert_eq!(dead.answer, "503");
}

#[test]
fn a_number_of_attempts_that_makes_no_sense_gives_a_wait_all_the_same() {
    let options = NotifyOptions { give_up: Duration::from_secs(10 * 86_400), ..Default::default() };
    let mut one = notice(json!({}), 1, 1);
    let mut wait = |attempts: i64| {
        one.attempts = attempts;
        let after = outcome(&one, Attempt::Retry(String::new()), &options, one.created_at);
        (after.at - one.created_at).num_seconds()
    };
    assert_eq!([wait(-1), wait(0), wait(1), wait(2)], [5, 5, 5, 10]);
    assert_eq!([wait(10), wait(11), wait(i64::MAX)], [2560, 3600, 3600], "an hour at most");
}
