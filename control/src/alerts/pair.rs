//! Alerts that devices raise and clear themselves, paired by their own time: the result is the same
//! in whatever order they arrive. Pure.

use acuvim_schemas::Micros;

/// What a device said of one kind of alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceSaid {
    /// When, by its clock.
    pub ts: Micros,
    /// Whether it ends; a raise and a clear of one moment: it began and ended.
    pub cleared: bool,
}

/// An alert of a device, from its first raise to its clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceEpisode {
    /// Its first raise.
    pub started: Micros,
    /// Its clear; none while it is open.
    pub ended: Option<Micros>,
}

/// The episodes of one kind of alert on one device. A raise while one is open is the same one; a
/// clear without one is nothing.
pub(super) fn pair(said: &[DeviceSaid]) -> Vec<DeviceEpisode> {
    let mut said = said.to_vec();
    said.sort_unstable();
    let mut episodes: Vec<DeviceEpisode> = Vec::new();
    for one in said {
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
        let raise = |ts| DeviceSaid { ts, cleared: false };
        let clear = |ts| DeviceSaid { ts, cleared: true };
        let said = [clear(5), raise(10), raise(12), clear(20), raise(30)];
        assert_eq!(
            pair(&said),
            [
                DeviceEpisode { started: 10, ended: Some(20) },
                DeviceEpisode { started: 30, ended: None }
            ]
        );
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            said in proptest::collection::vec((0..20_i64, any::<bool>()), 0..20),
        ) {
            let said: Vec<_> =
                said.into_iter().map(|(ts, cleared)| DeviceSaid { ts, cleared }).collect();
            let mut other = said.clone();
            other.reverse();
            prop_assert_eq!(pair(&said), pair(&other));
        }
    }
}
