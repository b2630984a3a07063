//! A position in the stream of events, which a client's next connection goes on from.
//!
//! Per partition of `acuvim.events` it has the next offset and the highest number of the outbox that was
//! seen: the outbox may deliver an event again, under the same number.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The version of the encoding, its first byte.
const LAYOUT: u8 = 1;

/// The largest number of partitions that a log has.
const MOST_PARTITIONS: u64 = 1024;

/// A position in all partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// The log's epoch.
    pub epoch: i32,
    /// The position in each partition.
    pub partitions: Vec<PartitionPosition>,
}

/// A position in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The next offset.
    pub next: i64,
    /// The highest number of the outbox that was seen; 0: none.
    pub seq: i64,
}

impl StreamPosition {
    /// As text for a header or a URL.
    pub fn encode(&self) -> String {
        let newest = self.partitions.iter().map(|partition| partition.seq).max().unwrap_or(0);
        let mut out = vec![LAYOUT];
        put(&mut out, u64::try_from(self.epoch).unwrap_or(0));
        put(&mut out, self.partitions.len() as u64);
        put(&mut out, u64::try_from(newest).unwrap_or(0));
        for partition in &self.partitions {
            put(&mut out, u64::try_from(partition.next).unwrap_or(0));
            // A difference: the partitions' numbers are close together, and a small number takes few bytes.
            put(&mut out, u64::try_from(newest - partition.seq).unwrap_or(0));
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// This position, moved forward in the partitions where `seen` is ahead; none if there are none.
    pub fn ahead(&self, seen: &[PartitionPosition]) -> Option<Self> {
        if !self.partitions.iter().zip(seen).any(|(at, seen)| seen.next > at.next) {
            return None;
        }
        let mut ahead = self.clone();
        for (at, seen) in ahead.partitions.iter_mut().zip(seen) {
            if seen.next > at.next {
                *at = *seen;
            }
        }
        Some(ahead)
    }

    /// The position that a text names; none if it names none.
    pub fn decode(text: &str) -> Option<Self> {
        // The most partitions take less than 25,000 characters: a longer text is cut, and so is refused.
        let bytes = URL_SAFE_NO_PAD.decode(text.get(..text.len().min(32_000))?).ok()?;
        let (layout, mut rest) = bytes.split_first()?;
        (*layout == LAYOUT).then_some(())?;
        let epoch = i32::try_from(take(&mut rest)?).ok()?;
        let count = take(&mut rest).filter(|count| *count <= MOST_PARTITIONS)?;
        let newest = take(&mut rest)?;
        let mut partitions = Vec::with_capacity(usize::try_from(count).ok()?);
        for _ in 0..count {
            let next = i64::try_from(take(&mut rest)?).ok()?;
            let seq = i64::try_from(newest.checked_sub(take(&mut rest)?)?).ok()?;
            partitions.push(PartitionPosition { next, seq });
        }
        rest.is_empty().then_some(Self { epoch, partitions })
    }
}

/// Unsigned LEB128: seven bits a byte, the lowest first, the eighth bit set while more follow.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_reads_back_as_it_was(
            epoch in 0_i32..100,
            partitions in proptest::collection::vec((0_i64..1 << 50, 0_i64..1 << 52), 0..70),
        ) {
            let partitions = partitions.into_iter().map(|(next, seq)| PartitionPosition { next, seq }).collect();
            let position = StreamPosition { epoch, partitions };
            prop_assert_eq!(StreamPosition::decode(&position.encode()), Some(position));
        }

        #[test]
        fn any_text_is_a_position_or_none(text in "[A-Za-z0-9_-]{0,60}") {
            if let Some(position) = StreamPosition::decode(&text) {
                prop_assert!(position.partitions.len() <= 60);
            }
        }
    }

    #[test]
    fn a_place_that_was_seen_ahead_stays_seen() {
        let partition = |next: i64| PartitionPosition { next, seq: 100 + next };
        let at = |partitions: [i64; 3]| StreamPosition {
            epoch: 1,
            partitions: partitions.map(partition).to_vec(),
        };
        let here = at([5, 9, 7]);
        assert_eq!(here.ahead(&at([8, 2, 7]).partitions), Some(at([8, 9, 7])));
        assert_eq!(here.ahead(&at([5, 2, 7]).partitions), None);
        assert_eq!(here.ahead(&[]), None);
    }

    #[test]
    fn four_partitions_are_a_short_text() {
        let partition = |n: i64| PartitionPosition {
            next: 1_000_000 + n,
            seq: 1_790_000_000_000_000 - 5_000_000 * n,
        };
        let position = StreamPosition { epoch: 0, partitions: (0..4).map(partition).collect() };
        assert!(position.encode().len() <= 56, "{}", position.encode().len());
    }

    fn encoded(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_text_of_another_kind_or_length_is_no_position() {
        let position = StreamPosition {
            epoch: 3,
            partitions: vec![PartitionPosition { next: 300, seq: 70_000 }; 2],
        };
        let good = URL_SAFE_NO_PAD.decode(position.encode()).expect("base64");
        assert_eq!(StreamPosition::decode(&encoded(&good)), Some(position));
        for cut in 0..good.len() {
            assert_eq!(StreamPosition::decode(&encoded(&good[..cut])), None, "{cut} bytes of it");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(StreamPosition::decode(&encoded(&longer)), None);
        let mut other = good;
        other[0] = LAYOUT + 1;
        assert_eq!(StreamPosition::decode(&encoded(&other)), None, "of a later version");
        for bad in ["", "=", "AQ==", "é", "A Q", "\u{0}"] {
            assert_eq!(StreamPosition::decode(bad), None, "{bad}");
        }
        assert_eq!(StreamPosition::decode(&"é".repeat(20_000)), None, "cut within a letter");
    }

    #[test]
    fn numbers_that_no_log_has_are_refused() {
        let number = |value: u64| {
            let mut out = Vec::new();
            put(&mut out, value);
            out
        };
        let text = |epoch, count, newest, rest: &[u64]| {
            let all = [epoch, count, newest].into_iter().chain(rest.iter().copied());
            encoded(&[vec![LAYOUT], all.flat_map(number).collect()].concat())
        };
        let most = i64::MAX.unsigned_abs();
        let good = StreamPosition::decode(&text(0, 1, most, &[most, 0])).expect("the largest");
        assert_eq!(good.partitions, [PartitionPosition { next: i64::MAX, seq: i64::MAX }]);
        for bad in [
            text(u64::from(u32::MAX), 0, 0, &[]),
            text(0, 1, 0, &[most + 1, 0]),
            text(0, 1, most + 1, &[0, 0]),
            // An event older than the oldest.
            text(0, 1, 5, &[0, 6]),
            // Memory for a number of partitions is taken before they are read.
            text(0, MOST_PARTITIONS + 1, 0, &[]),
            text(0, u64::MAX, 0, &[]),
        ] {
            assert_eq!(StreamPosition::decode(&bad), None, "{bad}");
        }
        let endless = encoded(&[[LAYOUT; 1].as_slice(), &[0x80; 40]].concat());
        assert_eq!(StreamPosition::decode(&endless), None);
    }

    #[test]
    fn a_position_of_the_most_partitions_can_be_read() {
        let partition = |n: i64| PartitionPosition { next: i64::MAX - n, seq: i64::MAX };
        let partitions = (0..1024).map(partition).collect();
        let position = StreamPosition { epoch: i32::MAX, partitions };
        assert_eq!(StreamPosition::decode(&position.encode()), Some(position));
    }
}
