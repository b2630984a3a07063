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
mod tests;
