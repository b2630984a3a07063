//! The optional fields of registrations and heartbeats. Padding is trimmed, empty fields are unknown,
//! and invalid ones are moved to `odd_fields`, so that one bad field does not cost the whole message.

use serde_json::{Map, Value};

use crate::{decimal, text::plain};

/// The integer value of an unknown field, in any form that a float represents exactly.
#[must_use]
pub fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| i64::try_from(decimal::whole(&number.to_string())?).ok())
}

/// The field under which invalid fields are kept.
pub const ODD: &str = "odd_fields";

/// The most capabilities that are kept.
// More are no capabilities but a fault, and would be stored and listed with the device.
const CAPABILITIES: usize = 32;

/// The most characters that are kept of an invalid field.
const KEPT: usize = 128;

/// The form of a field.
pub(super) enum Form {
    /// A whole number up to this value.
    Whole(i128),
    /// A text that the function accepts; none if it is invalid.
    Word(fn(&str) -> Option<Word>),
    /// A list of short texts.
    Words,
}

/// What a valid text says.
pub(super) enum Word {
    Known(String),
    /// A placeholder for an unknown value.
    Unknown,
}

const U32: i128 = 0xffff_ffff;
// The columns are signed in Delta, SQLite and PostgreSQL.
const U63: i128 = 0x7fff_ffff_ffff_ffff;

/// The optional fields of a heartbeat.
pub(super) const HEARTBEAT: &[(&str, Form)] = &[
    ("heartbeat_interval_s", Form::Whole(U32)),
    ("uptime_ms", Form::Whole(U63)),
    ("boot", Form::Whole(U63)),
    ("firmware_version", Form::Word(short)),
    ("hardware", Form::Word(short)),
    ("meter_serial", Form::Word(serial)),
];

/// The optional fields of a registration.
pub(super) const REGISTRATION: &[(&str, Form)] = &[
    ("mac_address", Form::Word(mac)),
    ("imei", Form::Word(imei)),
    ("iccid", Form::Word(iccid)),
    ("hardware", Form::Word(short)),
    ("firmware_version", Form::Word(short)),
    ("meter_serial", Form::Word(serial)),
    ("capabilities", Form::Words),
    ("boot", Form::Whole(U63)),
    ("max_packet_bytes", Form::Whole(U32)),
    ("protocol", Form::Whole(U32)),
];

/// Normalises the fields. `exact` returns the digits of a number as they were written.
pub(super) fn mend(
    fields: &mut Map<String, Value>,
    forms: &[(&str, Form)],
    exact: impl Fn(&str) -> Option<String>,
) {
    let mut odd = Map::new();
    for (name, form) in forms {
        let Some(given) = fields.remove(*name).filter(|given| !given.is_null()) else { continue };
        let digits = given.is_number().then(|| exact(name).unwrap_or_else(|| given.to_string()));
        match form.read(&given, digits) {
            Some(Value::Null) => {}
            Some(read) => {
                fields.insert((*name).to_owned(), read);
            }
            None => {
                let kept: String = shown(&given).chars().take(KEPT).collect();
                odd.insert((*name).to_owned(), kept.into());
            }
        }
    }
    if !odd.is_empty() {
        match fields.get_mut(ODD).and_then(Value::as_object_mut) {
            Some(known) => known.extend(odd),
            None => {
                fields.insert(ODD.to_owned(), Value::Object(odd));
            }
        }
    }
}

fn shown(given: &Value) -> String {
    given.as_str().map_or_else(|| given.to_string(), str::to_owned)
}

impl Form {
    /// The normalised field, null if unknown; none if invalid.
    fn read(&self, given: &Value, digits: Option<String>) -> Option<Value> {
        match self {
            Self::Whole(most) => {
                let whole = decimal::whole(&digits?).filter(|n| (0..=*most).contains(n))?;
                Some(Value::from(u64::try_from(whole).ok()?))
            }
            Self::Word(read) => {
                let word = match digits {
                    // The digits as written: a float would lose some of an ICCID.
                    Some(digits) => decimal::whole(&digits).map_or(digits, |n| n.to_string()),
                    None => given.as_str()?.to_owned(),
                };
                match plain(&word).map(read) {
                    None | Some(Some(Word::Unknown)) => Some(Value::Null),
                    Some(Some(Word::Known(word))) => Some(Value::from(word)),
                    Some(None) => None,
                }
            }
            Self::Words => {
                let list = given.as_array()?;
                let words = list.iter().filter_map(Value::as_str).filter_map(plain);
                let words = words.filter(|word| is_short(word)).take(CAPABILITIES);
                let words: Vec<Value> = words.map(Value::from).collect();
                (list.is_empty() || !words.is_empty()).then_some(Value::Array(words))
            }
        }
    }
}

/// Whether a text fits a column that is displayed, searched and sorted.
pub(super) fn is_short(text: &str) -> bool {
    text.chars().count() <= 64 && !text.chars().any(char::is_control)
}

fn short(word: &str) -> Option<Word> {
    is_short(word).then(|| Word::Known(word.to_owned()))
}

/// The serial number of a meter. A placeholder means that it could not be read, and not another meter.
fn serial(word: &str) -> Option<Word> {
    match is_serial(word) {
        true => short(word),
        false => Some(Word::Unknown),
    }
}

/// The serial number in a text without its padding; none if it is a placeholder.
#[must_use]
pub fn serial_of(text: &str) -> Option<&str> {
    plain(text).filter(|word| is_serial(word))
}

/// Whether a text identifies a meter: it is not the content of registers that could not be read, such
/// as zeros.
fn is_serial(word: &str) -> bool {
    let says = |c: char| c.is_alphanumeric() && c != '0';
    word.chars().any(says) && word != "-1"
}

/// `AA:BB:CC:DD:EE:FF` from twelve hex digits, separated by colons, hyphens or nothing.
fn mac(word: &str) -> Option<Word> {
    let hex: String = word.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    if hex.len() != 12 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let pairs: Vec<&str> = (0..6).filter_map(|i| hex.get(2 * i..2 * i + 2)).collect();
    Some(Word::Known(pairs.join(":").to_uppercase()))
}

/// An IMEI: 14 digits and a check digit, or 16 digits with the software version (3GPP TS 23.003).
fn imei(word: &str) -> Option<Word> {
    let digits = of_modem(word)?;
    let fits = (14..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then_some(Word::Known(digits))
}

/// An ICCID: 18 to 20 digits, on old cards 22 (ITU-T E.118). Some operators use hex digits, and some
/// modems append an F.
fn iccid(word: &str) -> Option<Word> {
    let digits = of_modem(word)?;
    let fits = (18..=22).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| Word::Known(digits.to_uppercase()))
}

/// The first line of a modem's answer, without quotes and separators.
fn of_modem(word: &str) -> Option<String> {
    let line = word.lines().find_map(plain)?;
    Some(line.chars().filter(|c| !matches!(c, ' ' | '-' | '"')).collect())
}

#[cfg(test)]
mod tests;
