use super::*;
use proptest::prelude::*;

#[test]
fn a_clear_ends_the_newest_before_it() {
    let raise = |ts| AlertSignal { ts, cleared: false };
    let clear = |ts| AlertSignal { ts, cleared: true };
    let signals = [clear(5), raise(10), raise(12), clear(20), raise(30)];
    assert_eq!(
        pair(&signals),
        [
            DeviceEpisode { started: 10, ended: Some(20) },
            DeviceEpisode { started: 30, ended: None }
        ]
    );
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        signals in proptest::collection::vec((0..20_i64, any::<bool>()), 0..20),
    ) {
        let signals: Vec<_> =
            signals.into_iter().map(|(ts, cleared)| AlertSignal { ts, cleared }).collect();
        let mut other = signals.clone();
        other.reverse();
        prop_assert_eq!(pair(&signals), pair(&other));
    }
}
