use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

/// Others wait for the partitions of a process that ends.
#[test]
fn a_claim_is_given_up_once_when_it_is_dropped() {
    let (_owned, watch) = watch::channel(BTreeSet::from([1, 2]));
    let (_trouble, trouble) = watch::channel(None);
    let left = Arc::new(AtomicUsize::new(0));
    let leaving = Arc::clone(&left);
    let leave = move || {
        leaving.fetch_add(1, Ordering::Relaxed);
    };
    let claim = Claim::new(watch, trouble, Box::new(leave));
    let owned = claim.owned();
    assert_eq!((left.load(Ordering::Relaxed), owned.borrow().len()), (0, 2));
    drop(claim);
    assert_eq!(left.load(Ordering::Relaxed), 1);
}

/// A closed channel would tell the processor that its partitions are gone.
#[test]
fn a_fixed_claim_neither_changes_nor_ends_while_it_is_held() {
    let claim = Claim::of([3, 1, 3]);
    let (owned, trouble) = (claim.owned(), claim.trouble());
    assert_eq!(owned.borrow().iter().copied().collect::<Vec<_>>(), [1, 3]);
    assert!(!owned.has_changed().expect("open") && !trouble.has_changed().expect("open"));
    assert!(format!("{claim:?}").contains("{1, 3}"), "{claim:?}");
    drop(claim);
    assert!(owned.has_changed().is_err(), "it has ended");
}
