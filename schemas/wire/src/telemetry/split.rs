//! Splits a payload into its items: a single message, the elements of `batch`, or the lines of an SD
//! file. It works on bytes and not on parsed JSON, so that a fault in one item does not affect the
//! others.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::text::{trimmed, trimmed_start};

/// The items of a payload, borrowed from it.
#[derive(Debug)]
pub enum Items<'a> {
    /// One object, or text that was meant to be one.
    One(&'a [u8]),
    /// The elements of `{"batch":[...]}`.
    Batch(Vec<&'a [u8]>),
    /// The lines of JSON Lines that are not blank.
    Lines(Vec<&'a [u8]>),
}

impl<'a> Items<'a> {
    /// All items, in order.
    #[must_use]
    pub fn list(&self) -> &[&'a [u8]] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Batch(list) | Self::Lines(list) => list,
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
}

/// Finds the items of a payload without checking them; none if the payload has no form of telemetry. The
/// search through a batch that is not JSON as a whole ends with one item more than `most`, which is enough
/// to see that there are too many.
#[must_use]
pub fn split(payload: &[u8], most: usize) -> Option<Items<'_>> {
    let bytes = trimmed(payload);
    if !bytes.starts_with(b"{") {
        return lines(bytes);
    }
    // Most payloads are one valid object: they are scanned once, and nothing is copied.
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    match stream.next() {
        Some(Ok(first)) if stream.byte_offset() == bytes.len() => Some(one_or_batch(first.get())),
        _ => loose_batch(bytes, most).or_else(|| lines(bytes)).or(Some(Items::One(bytes))),
    }
}

/// The items of a payload, as [`split`] finds them; empty if it has no form of telemetry.
#[must_use]
pub fn items_of(payload: &[u8], most: usize) -> Vec<&[u8]> {
    split(payload, most).map(|items| items.list().to_vec()).unwrap_or_default()
}

/// The bytes of one item of a payload, as they are kept in a dead letter.
#[must_use]
pub fn item_of(payload: &Bytes, items: &[&[u8]], item: i32) -> Bytes {
    match usize::try_from(item).ok().and_then(|item| items.get(item)) {
        Some(item) if items.len() > 1 => Bytes::copy_from_slice(item),
        _ => payload.clone(),
    }
}

fn one_or_batch(object: &str) -> Items<'_> {
    // Searching for the word is cheap, and saves most messages a second JSON scan.
    if object.contains("\"batch\"")
        && let Ok(Envelope { batch: Some(items) }) = serde_json::from_str(object)
    {
        return Items::Batch(items.into_iter().map(|item| item.get().as_bytes()).collect());
    }
    Items::One(object.as_bytes())
}

/// Several lines are JSON Lines if at least one of them looks like an object. A broken pretty-printed
/// object is not split into its lines.
fn lines(bytes: &[u8]) -> Option<Items<'_>> {
    // Devices written in C may send several NUL-terminated lines.
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r' | 0)).map(trimmed);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    let whole = |line: &&[u8]| line.starts_with(b"{") && line.ends_with(b"}");
    (lines.len() > 1 && lines.iter().any(whole)).then_some(Items::Lines(lines))
}

/// The elements of a batch that is not JSON as a whole, because one or more of them are bad.
fn loose_batch(bytes: &[u8], most: usize) -> Option<Items<'_>> {
    let mut rest = batch_list(bytes)?;
    let mut items = Vec::new();
    while items.len() <= most {
        rest = trimmed_start(rest);
        rest = match rest {
            [b',', behind @ ..] => behind,
            [b']', behind @ ..] => return is_end(behind).then_some(Items::Batch(items)),
            // The payload was cut off: the elements so far are used.
            [] => break,
            _ => {
                let (item, behind) = rest.split_at(length(rest));
                items.push(trimmed(item));
                behind
            }
        };
    }
    (!items.is_empty()).then_some(Items::Batch(items))
}

/// What follows the `[` of a batch.
fn batch_list(bytes: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"\"batch\"";
    let at = bytes.windows(NAME.len()).position(|name| name == NAME)?;
    let (before, rest) = bytes.split_at_checked(at)?;
    // A deeper "batch" belongs to some other field.
    let is_first_level = before.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() == 1;
    let rest = trimmed_start(rest.strip_prefix(NAME)?);
    let rest = trimmed_start(rest.strip_prefix(b":")?);
    rest.strip_prefix(b"[").filter(|_| is_first_level)
}

/// Whether the batch ends here. Further lines would mean JSON Lines.
fn is_end(behind: &[u8]) -> bool {
    let behind = trimmed(behind);
    matches!(behind, [] | b"}") || (behind.starts_with(b",") && !behind.contains(&b'\n'))
}

/// How many objects within a bad element are checked for being the next good element: each check may
/// scan to the end.
const MAX_CANDIDATES: usize = 64;

/// The length of the element at the start.
fn length(rest: &[u8]) -> usize {
    if let Some((length, _)) = good(rest) {
        return length;
    }
    // A bad element ends where its brackets balance, unless an unclosed bracket swallows the good one
    // after it.
    let by_brackets = balanced(rest);
    let within = by_brackets.and_then(|end| rest.get(..end)).unwrap_or(rest);
    let objects = within.iter().enumerate().filter(|(_, byte)| **byte == b',').filter(|(at, _)| {
        let behind = trimmed_start(rest.get(at + 1..).unwrap_or_default());
        behind.starts_with(b"{")
    });
    let next = objects.take(MAX_CANDIDATES).find(|(at, _)| {
        let behind = trimmed_start(rest.get(at + 1..).unwrap_or_default());
        good(behind).is_some_and(|(_, item)| is_reading(item))
    });
    next.map(|(at, _)| at).or(by_brackets).unwrap_or(rest.len())
}

/// The JSON value at the start and its length, if another element or the end of the batch follows.
fn good(rest: &[u8]) -> Option<(usize, &str)> {
    let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
    let value = stream.next()?.ok()?;
    let length = stream.byte_offset();
    let behind = trimmed_start(rest.get(length..)?);
    matches!(behind.first(), None | Some(b',' | b']')).then_some((length, value.get()))
}

fn is_reading(item: &str) -> bool {
    item.contains("\"ts\"") || item.contains("\"uptime_ms\"")
}

/// Where the element at the start ends according to its brackets.
fn balanced(rest: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b',' | b']' if depth == 0 => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
