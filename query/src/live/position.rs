//! Where somebody is in the stream of events: what their next connection goes on from.
//!
//! Per partition of `acuvim.events` it names the next offset and the highest number of the outbox
//! that was seen: the outbox may deliver an event again, under its number.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The version of the encoding, its first byte.
const LAYOUT: u8 = 1;

/// The largest number of partitions that a log has.
const MOST_PARTITIONS: u64 = 1024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The log's epoch.
    pub epoch: i32,
    /// By partition.
    pub places: Vec<Place>,
}

/// A place in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The next offset.
    pub next: i64,
    /// The highest number of the outbox that was seen; 0: none.
    pub seq: i64,
}

impl Position {
    /// As text for a header or a URL.
    pub fn encode(&self) -> String {
        let newest = self.places.iter().map(|place| place.seq).max().unwrap_or(0);
        let mut out = vec![LAYOUT];
        put(&mut out, u64::try_from(self.epoch).unwrap_or(0));
        put(&mut out, self.places.len() as u64);
        put(&mut out, u64::try_from(newest).unwrap_or(0));
        for place in &self.places {
            put(&mut out, u64::try_from(place.next).unwrap_or(0));
            // What the partitions have seen last is close together.
            put(&mut out, u64::try_from(newest - place.seq).unwrap_or(0));
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// This position with the places that were seen ahead of it; none if there are none.
    pub fn ahead(&self, seen: &[Place]) -> Option<Self> {
        if !self.places.iter().zip(seen).any(|(at, seen)| seen.next > at.next) {
            return None;
        }
        let mut ahead = self.clone();
        for (at, seen) in ahead.places.iter_mut().zip(seen) {
            if seen.next > at.next {
                *at = *seen;
            }
        }
        Some(ahead)
    }

    /// The position that a text names; none if it names none.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.get(..text.len().min(32_000))?).ok()?;
        let (layout, mut rest) = bytes.split_first()?;
        (*layout == LAYOUT).then_some(())?;
        let epoch = i32::try_from(take(&mut rest)?).ok()?;
        let count = take(&mut rest).filter(|count| *count <= MOST_PARTITIONS)?;
        let newest = take(&mut rest)?;
        let mut places = Vec::with_capacity(usize::try_from(count).ok()?);
        for _ in 0..count {
            let next = i64::try_from(take(&mut rest)?).ok()?;
            let seq = i64::try_from(newest.checked_sub(take(&mut rest)?)?).ok()?;
            places.push(Place { next, seq });
        }
        rest.is_empty().then_some(Self { epoch, places })
    }
}

/// LEB128.
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
            places in proptest::collection::vec((0_i64..1 << 50, 0_i64..1 << 52), 0..70),
        ) {
            let places = places.into_iter().map(|(next, seq)| Place { next, seq }).collect();
            let position = Position { epoch, places };
            prop_assert_eq!(Position::decode(&position.encode()), Some(position));
        }

        #[test]
        fn any_text_is_a_position_or_none(text in "[A-Za-z0-9_-]{0,60}") {
            if let Some(position) = Position::decode(&text) {
                prop_assert!(position.places.len() <= 60);
            }
        }
    }

    #[test]
    fn a_place_that_was_seen_ahead_stays_seen() {
        let place = |next: i64| Place { next, seq: 100 + next };
        let at = |places: [i64; 3]| Position { epoch: 1, places: places.map(place).to_vec() };
        let here = at([5, 9, 7]);
        assert_eq!(here.ahead(&at([8, 2, 7]).places), Some(at([8, 9, 7])));
        assert_eq!(here.ahead(&at([5, 2, 7]).places), None);
        assert_eq!(here.ahead(&[]), None);
    }

    #[test]
    fn four_partitions_are_a_short_text() {
        let place =
            |n: i64| Place { next: 1_000_000 + n, seq: 1_790_000_000_000_000 - 5_000_000 * n };
        let position = Position { epoch: 0, places: (0..4).map(place).collect() };
        assert!(position.encode().len() <= 56, "{}", position.encode().len());
    }
}
