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
