use super::*;

#[test]
fn a_replay_is_stored_a_duplicate_or_a_dead_letter_again() {
    let replay = |offset: i64, decoded: bool, has_row: bool| Replayed {
        letter: Identity { epoch: 0, partition: 0, offset: 1, item: 0 },
        offset,
        decoded,
        has_row,
    };
    let replayed = [
        replay(9, true, true),
        replay(10, true, true),
        replay(11, true, true),
        replay(12, true, true),
        replay(13, true, false),
        replay(14, false, true),
    ];
    // Offset 9 is in the lake already; 12 has the time of another reading.
    let (stored, conflicts) = (HashSet::from([10]), HashSet::from([12]));
    let outcomes = outcomes(&replayed, &stored, &conflicts, 10);
    let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome.as_str()).collect();
    let expected = ["stored", "stored", "duplicate", "dead_letter", "stored", "dead_letter"];
    assert_eq!(outcomes, expected);
}
