//! Waits of those who guess, and of those who don't.

use super::*;

const BAD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const GOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn check<'a>(
    throttle: &'a Throttle,
    address: IpAddr,
    name: &str,
    now: Instant,
) -> Result<Checked<'a>, Duration> {
    let slot = throttle.slot(network(address))?;
    throttle.check(slot, name, now)
}

fn turn<'a>(throttle: &'a Throttle, address: IpAddr, name: &str, now: Instant) -> Turn<'a> {
    match check(throttle, address, name, now) {
        Ok(Checked::Turn(turn)) => turn,
        Ok(Checked::Behind(_)) => panic!("{name} is behind others"),
        Err(wait) => panic!("{name} waits for {wait:?}"),
    }
}

fn wait(throttle: &Throttle, address: IpAddr, name: &str, now: Instant) -> Option<Duration> {
    check(throttle, address, name, now).err()
}

#[test]
fn who_guesses_waits_and_nobody_else() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for _ in 0..OF_NAME.free {
        turn(&throttle, BAD, "admin", now).failed(now);
    }
    assert_eq!(wait(&throttle, BAD, "Admin", now), Some(FIRST));
    assert_eq!(wait(&throttle, GOOD, "admin", now), None, "another address");
    assert_eq!(wait(&throttle, BAD, "other", now), None, "another name");
    let mut later = now;
    for _ in 0..10 {
        later += OF_NAME.longest;
        turn(&throttle, BAD, "admin", later).failed(later);
    }
    let longest = Some(OF_NAME.longest);
    assert_eq!(wait(&throttle, BAD, "admin", later), longest, "and never for good");
    later += OF_NAME.longest;
    turn(&throttle, BAD, "admin", later).succeeded(later);
    for _ in 0..OF_NAME.free {
        turn(&throttle, BAD, "admin", later).failed(later);
    }
}

#[test]
fn of_many_at_once_no_more_are_checked_than_one_after_another() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let mut turns: Vec<_> = (0..OF_NAME.free).map(|_| turn(&throttle, BAD, "admin", now)).collect();
    let behind = check(&throttle, BAD, "admin", now);
    assert!(matches!(behind, Ok(Checked::Behind(_))), "it waits for what becomes of them");
    drop(behind);
    // An attempt that breaks off counts as neither right nor wrong.
    turns.pop();
    turns.push(turn(&throttle, BAD, "admin", now));
    turns.into_iter().for_each(|turn| turn.failed(now));
    assert_eq!(wait(&throttle, BAD, "admin", now), Some(FIRST));
    // Behind the wait it is one at a time.
    let one = turn(&throttle, BAD, "admin", now + FIRST);
    let other = check(&throttle, BAD, "admin", now + FIRST);
    assert!(matches!(other, Ok(Checked::Behind(_))));
    drop((one, other));
    assert!(throttle.known().at_once.is_empty());
}

#[tokio::test]
async fn a_right_password_that_is_shown_many_times_at_once_is_right_each_time() {
    let throttle = Throttle::default();
    let login = async || {
        let turn = throttle.admit(GOOD, "admin").await.expect("a turn");
        tokio::task::yield_now().await;
        turn.succeeded(Instant::now());
    };
    let logins = (0..AT_ONCE).map(|_| login());
    futures::future::join_all(logins).await;
    assert!(throttle.known().attempts.is_empty());
}

#[test]
fn an_address_that_tries_many_names_waits_too_and_takes_no_others_turn() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    turn(&throttle, v6(3), "known", now).succeeded(now);
    for n in 0..OF_ADDRESS.free {
        turn(&throttle, v6(1), &format!("name{n}"), now).failed(now);
    }
    assert_eq!(wait(&throttle, v6(2), "another", now), Some(FIRST), "one network is one");
    assert_eq!(wait(&throttle, v6(2), "known", now), None, "it was right there before");
    let turns: Vec<_> =
        (0..AT_ONCE).map(|n| turn(&throttle, GOOD, &format!("name{n}"), now)).collect();
    assert!(wait(&throttle, GOOD, "a", now).is_some());
    assert!(wait(&throttle, BAD, "a", now).is_none());
    drop(turns);
    assert!(wait(&throttle, GOOD, "a", now).is_none());
    assert!(throttle.known().at_once.is_empty());
}

#[test]
fn memory_is_bounded() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..u32::try_from(MOST / 2).expect("small") + 50 {
        let address = IpAddr::from(n.to_be_bytes());
        turn(&throttle, address, &"admin".repeat(100), now).failed(now);
    }
    let mut known = throttle.known();
    for n in 0..MOST + 50 {
        known.remember(&(GOOD, Some(n.to_string())), now);
    }
    assert!(known.attempts.len() <= MOST && known.right.len() <= MOST);
    let longest = known.attempts.keys().filter_map(|(_, name)| name.as_ref()).map(String::len);
    assert_eq!(longest.max(), Some(NAME));
}
