//! Limits of rates, by address and by user.

use super::*;
use std::net::Ipv6Addr;

#[test]
fn a_burst_is_let_through_and_then_the_rate_holds_for_each_by_itself() {
    let rates = Rates::new(2, 1);
    let one = "192.0.2.1".parse().expect("an address");
    let passed = (0..50).filter(|_| rates.address(one).is_ok()).count();
    assert!((10..13).contains(&passed), "{passed}");
    assert!(rates.address("192.0.2.2".parse().expect("an address")).is_ok());
    assert!(rates.user(Uuid::nil()).is_ok());
    let of_one_network = (0..50_u16)
        .filter(|n| rates.address(Ipv6Addr::new(1, 1, 1, 1, 0, 0, 0, *n).into()).is_ok())
        .count();
    assert!((10..13).contains(&of_one_network), "{of_one_network}");
    let any = Rates::new(0, 0);
    assert!((0..1000).all(|_| any.address(one).is_ok()));
}

#[test]
fn one_users_requests_are_not_anothers() {
    let rates = Rates::new(0, 1);
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let passed = (0..50).filter(|_| rates.user(one).is_ok()).count();
    assert!((5..8).contains(&passed), "{passed}");
    assert!(rates.user(other).is_ok());
    let wait = rates.user(one).expect_err("its burst is used up");
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
}

#[test]
fn a_refusal_says_when_to_come_again_and_never_at_once() {
    for (wait, seconds) in [(0, 1), (999, 1), (1000, 2), (59_999, 60)] {
        let error = retry_after(Duration::from_millis(wait), "too many requests");
        assert_eq!(error.problem.status, 429);
        assert_eq!(error.retry_after, Some(seconds));
        assert!(error.problem.detail.ends_with(&format!("wait {seconds} s")));
    }
}

#[test]
fn quiet_addresses_are_forgotten() {
    let rates = Rates::new(1000, 0);
    for n in 0..SWEEP {
        let _ = rates.address(IpAddr::from((0x0A00_0000 + n).to_be_bytes()));
    }
    let held = |rates: &Rates| rates.addresses.as_ref().map_or(0, RateLimiter::len);
    let before = held(&rates);
    assert!(before > 1000, "{before}");
    let _ = rates.address(IpAddr::from([192, 0, 2, 1]));
    assert!(held(&rates) < before, "{} of {before}", held(&rates));
}
