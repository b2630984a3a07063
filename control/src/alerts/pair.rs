//! Pairs the raises and clears that a device sends into episodes, by the device's own time, so that the
//! result does not depend on the order of their arrival. Pure.

use acuvim_wire::Micros;

/// A raise or clear that a device sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlertSignal {
    /// Its time, by the clock of the device.
    pub ts: Micros,
    /// Whether it is a clear. False sorts first: of a raise and a clear with the same time, the raise
    /// comes first, and they are an episode without length.
    pub cleared: bool,
}

/// An episode, from its first raise to its clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceEpisode {
    /// The time of its first raise.
    pub started: Micros,
    /// The time of its clear, or `None` while it is open.
    pub ended: Option<Micros>,
}

/// The episodes of one type of alert on one device. A raise during an episode belongs to it, and a clear
/// outside of one is ignored.
pub(super) fn pair(signals: &[AlertSignal]) -> Vec<DeviceEpisode> {
    let mut signals = signals.to_vec();
    signals.sort_unstable();
    let mut episodes: Vec<DeviceEpisode> = Vec::new();
    for one in signals {
        let open = episodes.last_mut().filter(|e| e.ended.is_none());
        match (open, one.cleared) {
            (Some(open), true) => open.ended = Some(one.ts),
            (None, false) => episodes.push(DeviceEpisode { started: one.ts, ended: None }),
            _ => {}
        }
    }
    episodes
}

#[cfg(test)]
mod tests {
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
}
