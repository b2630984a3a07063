//! Group commit: which appends share a sync, and who gets which answer.

use tokio::sync::Semaphore;

use super::*;
use crate::testing::{UPLINK, entry, options};

type Answer = oneshot::Receiver<Result<Vec<Position>, Error>>;

fn request(entries: Vec<(u32, Entry)>) -> (Request, Answer) {
    let permits = Arc::new(Semaphore::new(1));
    let permit = permits.try_acquire_many_owned(0).expect("a permit");
    let (reply, answer) = oneshot::channel();
    (Request { topic: UPLINK, entries, reply, _permit: permit }, answer)
}

#[test]
fn a_group_takes_what_waits_up_to_its_bytes() {
    let (sender, mut queue) = mpsc::channel(16);
    let megabytes = |n: usize| request(vec![(0, entry(vec![0_u8; n << 20]))]).0;
    for _ in 0..3 {
        sender.try_send(megabytes(3)).expect("room");
    }
    let group = gather(megabytes(3), &mut queue);
    assert_eq!(group.len(), 3, "the third one passes 8 MiB");
    assert_eq!(gather(megabytes(9), &mut queue).len(), 1, "it is a group of its own");
    let rest = queue.try_recv().expect("the last one still waits");
    assert_eq!(gather(rest, &mut queue).len(), 1);
}

/// Two callers in one sync must not get the same offset.
#[test]
fn callers_of_one_group_get_offsets_of_their_own_in_the_order_of_the_queue() {
    let root = tempfile::tempdir().expect("dir");
    let two = crate::embedded::EmbeddedOptions { partitions: 2, ..options(root.path()) };
    let shared = Shared::open(two).expect("a log");
    let entries = |partitions: &[u32]| {
        request(partitions.iter().map(|p| (*p, entry("v"))).collect::<Vec<_>>()).0
    };
    let at = |partition, offset| Position { partition, offset };
    let group = [entries(&[0, 1, 0]), entries(&[]), entries(&[0, 1])];
    let positions = write(&shared, &group).expect("written");
    assert_eq!(positions, [vec![at(0, 0), at(1, 0), at(0, 1)], vec![], vec![at(0, 2), at(1, 1)]]);
    let positions = write(&shared, &[entries(&[1, 0])]).expect("written");
    assert_eq!(positions, [[at(1, 2), at(0, 3)]], "the next group goes on behind");
}

#[test]
fn every_caller_of_a_failed_group_is_told() {
    let (one, mut of_one) = request(Vec::new());
    let (two, mut of_two) = request(Vec::new());
    let (gone, receiver) = request(Vec::new());
    drop(receiver);
    answer(vec![one, gone, two], Err(Error::unavailable("no disk")));
    for told in [&mut of_one, &mut of_two] {
        let error = told.try_recv().expect("an answer").expect_err("failed");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unavailable, "no disk".into()));
    }
}
