//! Decisions on rollouts, and the offers that follow from them.

use super::*;

#[test]
fn a_decision_moves_the_rollout_on_or_ends_it() {
    let now = DateTime::UNIX_EPOCH;
    let decide = |next| change(2, next, json!({}), now);
    let soaking = decide(Next::Soak).expect("a change");
    assert_eq!((soaking.stage, soaking.soak_since), (2, Some(now)));
    let next = decide(Next::NextStage).expect("a change");
    assert_eq!((next.stage, next.soak_since, next.state), (3, None, RolloutState::Running));
    let ends = [
        (Next::Pause("why".into()), RolloutState::Paused),
        (Next::Stop("why".into()), RolloutState::Stopped),
        (Next::Complete, RolloutState::Completed),
    ];
    for (next, state) in ends {
        let change = decide(next).expect("a change");
        assert_eq!((change.stage, change.state), (2, state));
    }
    assert!(decide(Next::GoOn).is_none() && decide(Next::AskGate).is_none());
}
