//! Texts as devices write them: padding that C strings, modems and editors leave around them, printf's
//! words for numbers that are not valid JSON, and the position of a JSON syntax error.

use serde_json::value::RawValue;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes that are shown at the position of an error.
const SHOWN: usize = 8;

/// The longest word that is taken for a malformed number.
// printf writes at most a few dozen characters; longer ones are text that lacks its quotes.
const LONGEST_WORD: usize = 64;

/// The marker at the start of a quoted word: no text of a device begins with a NUL.
const MARK: &str = "\\u0000";

/// Whether a byte around a text is padding: the NUL of a C string, white space, a modem's Ctrl-Z.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | b' ' | 0x1a)
}

/// The bytes without padding or a byte order mark before them.
#[must_use]
pub fn trimmed_start(mut bytes: &[u8]) -> &[u8] {
    loop {
        bytes = match bytes {
            [first, rest @ ..] if is_blank(*first) => rest,
            _ => match bytes.strip_prefix(BOM) {
                Some(rest) => rest,
                None => return bytes,
            },
        };
    }
}

/// The bytes without padding or byte order marks around them.
#[must_use]
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let mut bytes = trimmed_start(bytes);
    loop {
        bytes = match bytes {
            [rest @ .., last] if is_blank(*last) => rest,
            _ => match bytes.strip_suffix(BOM) {
                Some(rest) => rest,
                None => return bytes,
            },
        };
    }
}

/// A text of a register or a modem without its padding; none if nothing is left.
#[must_use]
pub fn plain(text: &str) -> Option<&str> {
    let pad = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    Some(text.trim_matches(pad)).filter(|text| !text.is_empty())
}

/// A position in bytes for people, such as `byte 17: 00 (\x00)`.
#[must_use]
pub fn place(bytes: &[u8], at: usize) -> String {
    let behind = bytes.get(at..).unwrap_or_default();
    if behind.is_empty() {
        return format!("byte {at}: it ends there");
    }
    let shown = behind.get(..SHOWN).unwrap_or(behind);
    let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("byte {at}: {} ({})", hex.join(" "), shown.escape_ascii())
}

/// The position of a syntax error in the text, in bytes.
#[must_use]
pub fn offset(text: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let before: usize =
        text.split_inclusive('\n').take(error.line().max(1) - 1).map(str::len).sum();
    before + error.column().max(1) - 1
}

/// A text whose invalid words have been quoted, so that it may be JSON now.
#[derive(Debug)]
pub struct Mended {
    /// The text with quoted words.
    pub text: String,
    /// The end of each quoted word, and by how many bytes the text has grown up to there.
    longer: Vec<(usize, usize)>,
}

impl Mended {
    /// The position in the original text.
    #[must_use]
    pub fn origin(&self, at: usize) -> usize {
        let by = self.longer.iter().take_while(|(end, _)| *end <= at).last();
        at.saturating_sub(by.map_or(0, |(_, longer)| *longer))
    }
}

/// Quotes values that printf writes and JSON does not allow (nan, inf, ovf, 230., .5), with a marker by
/// which [`bare`] recognises them. None if there are none.
#[must_use]
pub fn mended(text: &str) -> Option<Mended> {
    let mut out = String::with_capacity(text.len() + 64);
    let (mut longer, mut open, mut before, mut rest) = (Vec::new(), Vec::new(), ' ', text);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest)?,
            c if is_of_word(c) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (piece, after) = rest.split_at(length);
        let is_value = before == ':' || (open.last() == Some(&'[') && matches!(before, '[' | ','));
        if is_of_word(first) && is_value && !is_json(piece) {
            out.push_str(&format!("\"{MARK}{piece}\""));
            longer.push((out.len(), out.len() - (text.len() - after.len())));
        } else {
            out.push_str(piece);
        }
        match first {
            '{' | '[' => open.push(first),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
        before = if first.is_ascii_whitespace() { before } else { first };
        rest = after;
    }
    (!longer.is_empty()).then_some(Mended { text: out, longer })
}

/// The word in a raw JSON value that [`mended`] has quoted.
#[must_use]
pub fn bare(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_prefix(MARK)?.strip_suffix('"')
}

/// The raw JSON value without the markers of [`mended`].
#[must_use]
pub fn unmarked(value: &str) -> std::borrow::Cow<'_, str> {
    match value.contains(MARK) {
        true => value.replace(&format!("\"{MARK}"), "\"").into(),
        false => value.into(),
    }
}

/// The text as it was before [`mended`] quoted its words.
#[must_use]
pub fn unmended(text: &str) -> String {
    let open = format!("\"{MARK}");
    let mut parts = text.split(open.as_str());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('"') {
            Some((word, behind)) if !word.is_empty() && word.chars().all(is_of_word) => {
                out.push_str(word);
                out.push_str(behind);
            }
            _ => {
                out.push_str(&open);
                out.push_str(part);
            }
        }
    }
    out
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '#' | '*' | '(' | ')' | '_' | '?')
}

fn is_json(word: &str) -> bool {
    word.len() > LONGEST_WORD || serde_json::from_str::<&RawValue>(word).is_ok()
}

/// Length of the JSON string at the start of the text, quotes included; none if it does not end.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
