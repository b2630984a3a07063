//! Connections that have not logged in yet: limited in total, and by address, because such a client has shown
//! no credentials that it could lose.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use acuvim_wire::address::network;

/// The connections that have not logged in yet. One address may have half of all.
#[derive(Debug)]
pub(super) struct PendingLogins {
    max: usize,
    by_network: Mutex<HashMap<IpAddr, usize>>,
}

/// The slot of one such connection, freed when dropped.
#[derive(Debug)]
pub(super) struct PendingLogin {
    all: Arc<PendingLogins>,
    network: IpAddr,
}

impl PendingLogins {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, by_network: Mutex::default() })
    }

    /// A slot for a connection from this address; none if too many are taken.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<PendingLogin> {
        let network = network(from);
        let mut counts = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = counts.values().sum();
        let here = counts.get(&network).copied().unwrap_or_default();
        // Rounded up, or a limit of one would let nobody in.
        if total >= self.max || here >= self.max.div_ceil(2) {
            return None;
        }
        counts.insert(network, here + 1);
        Some(PendingLogin { all: Arc::clone(self), network })
    }
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        let mut counts = self.all.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counts.remove(&self.network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Connections come and go in any order: no slot is lost, and none is given twice.
        #[test]
        fn slots_are_neither_lost_nor_given_twice(
            max in 0_usize..8, steps in prop::collection::vec((any::<bool>(), 0_u8..4), 0..80),
        ) {
            let pending = PendingLogins::new(max);
            let mut held: Vec<(u8, PendingLogin)> = Vec::new();
            for (comes, n) in steps {
                let here = held.iter().filter(|(of, _)| *of == n).count();
                if comes {
                    let slot = pending.enter(IpAddr::from([192, 0, 2, n]));
                    let free = held.len() < max && here < max.div_ceil(2);
                    prop_assert_eq!(slot.is_some(), free);
                    held.extend(slot.map(|slot| (n, slot)));
                } else if let Some(at) = held.iter().position(|(of, _)| *of == n) {
                    held.remove(at);
                }
            }
            drop(held);
            prop_assert!(pending.by_network.lock().expect("unpoisoned").is_empty());
        }
    }

    #[test]
    fn one_address_has_half_of_the_slots() {
        let pending = PendingLogins::new(10);
        let enter = |text: &str| pending.enter(text.parse().expect("an address"));
        let mut held: Vec<_> = (0..10).filter_map(|_| enter("192.0.2.1")).collect();
        assert_eq!(held.len(), 5);
        held.extend((0..10_u8).filter_map(|n| enter(&format!("2001:db8::{n:x}"))));
        assert_eq!(held.len(), 10, "a network of IPv6 counts as one address");
        assert!(enter("192.0.2.2").is_none(), "all are taken");
        held.truncate(9);
        assert!(enter("192.0.2.2").is_some());
        held.clear();
        assert!(pending.by_network.lock().expect("unpoisoned").is_empty());
    }

    /// With one slot, half of it must still let somebody in.
    #[test]
    fn a_limit_of_one_is_one() {
        let pending = PendingLogins::new(1);
        let from: IpAddr = "192.0.2.1".parse().expect("an address");
        let held = pending.enter(from);
        assert!(held.is_some() && pending.enter(from).is_none());
        drop(held);
        assert!(pending.enter(from).is_some());
        assert!(PendingLogins::new(0).enter(from).is_none());
    }
}
