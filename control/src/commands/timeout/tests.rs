use super::*;

#[test]
fn each_device_is_covered_by_exactly_one_partition() {
    for device in ["ACV-AABBCCDDEEFF", "ACV-000000000001", "d"] {
        let covering = (0..4).filter(|partition| {
            let at = DateTime::UNIX_EPOCH;
            ReadUntil { at, partition: *partition, partitions: 4 }.covers(device)
        });
        assert_eq!(covering.count(), 1, "{device}");
    }
}
