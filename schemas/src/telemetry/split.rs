//! One payload into its items: a message, the elements of `batch`, or the lines of an SD file.

use serde::Deserialize;
use serde_json::value::RawValue;

/// What a payload holds, borrowed from it.
#[derive(Debug)]
pub(super) enum Items<'a> {
    /// One JSON object, as it stands.
    One(&'a str),
    /// The elements of `{"batch":[...]}`.
    Batch(Vec<&'a str>),
    /// JSON Lines: the lines that are not blank.
    Lines(Vec<&'a str>),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
}

/// Finds the items of a payload without judging them; none when it is no form of telemetry.
pub(super) fn split(payload: &str) -> Option<Items<'_>> {
    let text = payload.trim();
    if !text.starts_with('{') {
        return lines(text);
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    match stream.next() {
        Some(Ok(first)) if stream.byte_offset() == text.len() => Some(one_or_batch(first.get())),
        _ => lines(text),
    }
}

fn one_or_batch(object: &str) -> Items<'_> {
    // The word is looked for first, so that a plain message is scanned by the decoder alone.
    if object.contains("\"batch\"")
        && let Ok(Envelope { batch: Some(items) }) = serde_json::from_str(object)
    {
        return Items::Batch(items.into_iter().map(RawValue::get).collect());
    }
    Items::One(object)
}

/// Several lines are JSON Lines if one of them stands as an object by itself: a broken
/// pretty-printed object stays one message.
fn lines(text: &str) -> Option<Items<'_>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let whole = |line: &&str| line.starts_with('{') && line.ends_with('}');
    (lines.len() > 1 && lines.iter().any(whole)).then_some(Items::Lines(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payload: &str) -> (&'static str, usize) {
        match split(payload) {
            None => ("none", 0),
            Some(Items::One(_)) => ("one", 1),
            Some(Items::Batch(items)) => ("batch", items.len()),
            Some(Items::Lines(lines)) => ("lines", lines.len()),
        }
    }

    #[test]
    fn the_three_forms() {
        assert_eq!(shape(" {\"ts\":1} \n"), ("one", 1));
        assert_eq!(shape("{\n \"ts\": 1\n}"), ("one", 1));
        assert_eq!(shape("{\"batch\":[{},3,\"x\"]}"), ("batch", 3));
        assert_eq!(shape("{\"note\":\"batch\",\"batch\":7}"), ("one", 1));
        assert_eq!(shape("{\"ts\":1}\n{\"ts\":2}\r\n\n"), ("lines", 2));
        assert_eq!(shape("{\"ts\":1}\n{broken\n{\"ts\":2}"), ("lines", 3));
        assert_eq!(shape("garbage\n{\"ts\":2}"), ("lines", 2));
    }

    #[test]
    fn what_is_none_of_them() {
        for bad in ["", "   ", "7", "[]", "{\"ts\":1", "{\n \"ts\": 1,\n", "plain", "{} {}"] {
            assert_eq!(shape(bad), ("none", 0), "{bad}");
        }
    }
}
