//! The states of the rules on one device.

use std::sync::Arc;

use acuvim_model::event::Mark;
use uuid::Uuid;

use crate::{cadence::Recent, episode::State};

/// A device under evaluation.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// The states by rule, without quiet ones.
    pub states: Vec<(Uuid, StoredState)>,
    /// Which rules apply to it, at a revision of the rules.
    pub applying: Option<(i64, Arc<[bool]>)>,
    /// Its last readings, as far as they were evaluated here.
    pub recent: Recent,
}

/// A state in compact form. In a large fleet most states that are not quiet are pending, which need a third
/// of the memory of others.
#[derive(Debug)]
pub(super) enum StoredState {
    Pending(Mark),
    Other(Box<State>),
}

impl From<State> for StoredState {
    fn from(state: State) -> Self {
        match state {
            State::Pending(since) => Self::Pending(since),
            State::Quiet | State::Open { .. } | State::Rested(_) | State::PendingAgain { .. } => {
                Self::Other(Box::new(state))
            }
        }
    }
}

impl StoredState {
    pub fn state(&self) -> State {
        match self {
            Self::Pending(since) => State::Pending(*since),
            Self::Other(state) => **state,
        }
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        match self {
            Self::Pending(_) => 0,
            Self::Other(_) => size_of::<State>(),
        }
    }
}

/// The growth of the list of states. Doubling it would waste memory on every device of a large fleet.
const GROWTH: usize = 4;

impl Device {
    pub fn state(&self, rule: Uuid) -> State {
        self.states.iter().find(|(id, _)| *id == rule).map_or(State::Quiet, |(_, s)| s.state())
    }

    pub fn set(&mut self, rule: Uuid, state: State) {
        let at = self.states.iter().position(|(id, _)| *id == rule);
        match (at, state.is_quiet()) {
            (Some(at), true) => {
                // The order of the states means nothing.
                self.states.swap_remove(at);
            }
            (Some(at), false) => {
                if let Some(stored) = self.states.get_mut(at) {
                    stored.1 = state.into();
                }
            }
            (None, true) => {}
            (None, false) => {
                if self.states.len() == self.states.capacity() {
                    self.states.reserve_exact(GROWTH);
                }
                self.states.push((rule, state.into()));
            }
        }
    }
}
