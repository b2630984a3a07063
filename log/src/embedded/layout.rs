//! How the embedded log lays out a batch of entries as one value of its store.

use acuvim_wire::entry::Entry;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version of the layout, its first byte.
const LAYOUT: u8 = 1;

/// Lays entries out as one value: version, count, then each entry's parts with their lengths.
pub(super) fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a Entry> + Clone) -> Vec<u8> {
    let size: usize = 5 + entries.clone().map(Entry::size).sum::<usize>();
    let mut out = BytesMut::with_capacity(size);
    out.put_u8(LAYOUT);
    out.put_u32_le(length(entries.len()));
    for entry in entries {
        put(&mut out, &entry.key);
        out.put_u16_le(u16::try_from(entry.headers.len()).unwrap_or(u16::MAX));
        for (name, value) in entry.headers.iter().take(usize::from(u16::MAX)) {
            put(&mut out, name);
            put(&mut out, value);
        }
        put(&mut out, &entry.value);
    }
    out.into()
}

/// How many entries a value holds; none if it is not of this layout.
pub(super) fn count(mut value: &[u8]) -> Option<u32> {
    (value.try_get_u8().ok()? == LAYOUT).then_some(())?;
    value.try_get_u32_le().ok()
}

/// The entries of a value, sharing its bytes; none if it is damaged.
pub(super) fn decode(mut value: Bytes) -> Option<Vec<Entry>> {
    let count = count(&value)?;
    value.advance(5);
    // A damaged count must not reserve memory for more entries than the value has bytes.
    let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(value.len()));
    for _ in 0..count {
        let key = take(&mut value)?;
        let headers = value.try_get_u16_le().ok()?;
        let headers = (0..headers)
            .map(|_| Some((take(&mut value)?, take(&mut value)?)))
            .collect::<Option<Vec<_>>>()?;
        entries.push(Entry { key, headers, value: take(&mut value)? });
    }
    value.is_empty().then_some(entries)
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(length(bytes.len()));
    out.put_slice(bytes);
}

fn take(value: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(value.try_get_u32_le().ok()?).ok()?;
    (length <= value.len()).then(|| value.split_to(length))
}

fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let headers = proptest::collection::vec((bytes(), bytes()), 0..5);
        (bytes(), bytes(), headers).prop_map(|(key, value, headers)| Entry { key, value, headers })
    }

    /// A value of another version must not be read as if it were of this one.
    #[test]
    fn only_this_version_of_the_layout_is_read() {
        let good = encode([Entry::default()].iter());
        assert_eq!(
            (count(&good), decode(good.clone().into())),
            (Some(1), Some(vec![Entry::default()]))
        );
        for version in [0, 2, 255] {
            let mut other = good.clone();
            other[0] = version;
            assert_eq!((count(&other), decode(other.into())), (None, None), "version {version}");
        }
        for short in 0..5 {
            assert_eq!(count(&good[..short]), None, "{short} bytes");
        }
    }

    #[test]
    fn a_count_or_a_length_beyond_the_value_is_damage() {
        let entry = Entry { key: "key".into(), value: "value".into(), headers: Vec::new() };
        let good = encode([entry].iter());
        // The count, the length of the key, the number of headers, the length of the value.
        for (at, byte) in
            [(1, 2), (1, 0), (4, 0xff), (5, 0xff), (8, 0xff), (12, 1), (14, 6), (14, 4)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(decode(bad.into()), None, "byte {at}");
        }
        let mut longer = good;
        longer.push(0);
        assert_eq!(decode(longer.into()), None, "something follows the last entry");
    }

    proptest! {
        #[test]
        fn entries_survive_the_layout(entries in proptest::collection::vec(entry(), 0..20)) {
            let value = encode(entries.iter());
            prop_assert_eq!(count(&value), Some(u32::try_from(entries.len()).unwrap()));
            prop_assert_eq!(decode(value.into()), Some(entries));
        }

        #[test]
        fn damaged_bytes_are_no_entries_and_no_panic(
            entries in proptest::collection::vec(entry(), 1..5), cut in 1_usize..50,
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut value = encode(entries.iter());
            value.truncate(value.len().saturating_sub(cut));
            prop_assert_eq!(decode(value.into()), None);
            let _ = decode(noise.into());
        }
    }
}
