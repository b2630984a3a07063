//! Decodes the JSON object of one reading into a scratch row, or finds out why it can't be used.

use std::borrow::Cow;

use acuvim_wire::{
    Reason,
    decimal::{self, Parsed},
    reading::{self, READINGS, Target},
    telemetry::{Aliases, Limits},
    text as txt,
    time::{self, Micros, YEAR_2020},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of one reading. Reused for the next one, so that its buffers are allocated only once.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub ts: Micros,
    pub source: Option<&'static str>,
    pub connection: Option<&'static str>,
    pub seq: Option<i64>,
    pub boot: Option<i64>,
    pub readings: Vec<Option<i128>>,
    pub load_type: Option<String>,
    /// All other fields as a JSON object without its closing brace: `{"a":1,"b":2`; empty if there are none.
    pub extra: String,
    /// The number of known readings.
    pub known: usize,
    /// The number of fields so far.
    fields: usize,
    has_ts: bool,
    uptime_ms: bool,
}

/// Why an item is a dead letter: the reason, and the wrong field if there is one.
pub type Fault = (Reason, Option<String>);

/// Why an item can't be used.
#[derive(Debug)]
pub(super) enum ItemError {
    /// A JSON syntax error at this byte.
    Syntax(usize),
    /// Valid JSON with a wrong field or time.
    Fault(Fault),
}

/// What the items of one record are checked against.
pub(super) struct Context<'a> {
    pub device_id: &'a str,
    pub received_at: Micros,
    pub limits: &'a Limits,
    pub aliases: &'a Aliases,
    /// The time of items without one, if it has become known since.
    pub resolved_ts: Option<Micros>,
}

/// Decodes one JSON object into `row`.
pub(super) fn decode(item: &str, cx: &Context<'_>, row: &mut Row) -> Result<(), ItemError> {
    row.clear();
    walk(item, &mut |key, value| row.top_level(key, value, cx))?;
    row.check_time(cx).map_err(ItemError::Fault)
}

impl Row {
    fn clear(&mut self) {
        self.readings.clear();
        self.readings.resize(READINGS.len(), None);
        self.extra.clear();
        self.load_type = None;
        (self.source, self.connection, self.seq, self.boot) = (None, None, None, None);
        (self.ts, self.known, self.fields, self.has_ts, self.uptime_ms) = (0, 0, 0, false, false);
    }

    fn top_level(&mut self, key: &str, value: &str, cx: &Context<'_>) -> Result<(), Fault> {
        if let Some(word) = txt::bare(value) {
            return self.bare(key, word, cx);
        }
        match key {
            "ts" => self.take_ts(value),
            "seq" => {
                self.seq = counter(key, value)?;
                Ok(())
            }
            "boot" => {
                self.boot = counter(key, value)?;
                Ok(())
            }
            "uptime_ms" => {
                self.uptime_ms = counter(key, value)?.is_some();
                self.keep(key, value, cx.limits)
            }
            "source" => {
                self.take_word(key, value, cx, &["live", "sd", "import"], |row, w| row.source = w)
            }
            "connection" => {
                self.take_word(key, value, cx, &["wifi", "gsm"], |row, w| row.connection = w)
            }
            "device_id" => match text(value) {
                Some(id) if txt::plain(&id) == Some(cx.device_id) => Ok(()),
                Some(id) => Err((Reason::IdMismatch, Some(id.chars().take(64).collect()))),
                None => Err(wrong_type(key)),
            },
            "data" if value.starts_with('{') => {
                match walk(value, &mut |key, value| self.reading(key, value, cx)) {
                    Err(ItemError::Fault(fault)) => Err(fault),
                    Err(ItemError::Syntax(_)) => Err((Reason::NotJson, Some(key.to_owned()))),
                    Ok(()) => Ok(()),
                }
            }
            "data" => Err(wrong_type(key)),
            _ => self.reading(key, value, cx),
        }
    }

    /// A word instead of a value, such as printf's nan: the field is null, and the word is kept in `extra`.
    fn bare(&mut self, key: &str, word: &str, cx: &Context<'_>) -> Result<(), Fault> {
        match key {
            "ts" if !is_not_a_value(word) => {
                let fault = time::BadTime::Unreadable(word.to_owned());
                Err((Reason::BadTs, Some(format!("ts: {fault}"))))
            }
            "device_id" | "data" => Err(wrong_type(key)),
            "ts" | "seq" | "boot" | "uptime_ms" | "source" | "connection" => {
                self.note(key, word, cx)
            }
            _ => self.count_field(cx).and_then(|()| self.bare_reading(key, word, cx)),
        }
    }

    fn bare_reading(&mut self, key: &str, word: &str, cx: &Context<'_>) -> Result<(), Fault> {
        let is_ours = reading::target(key).is_some() || cx.aliases.contains_key(key);
        self.known += usize::from(is_ours);
        self.note(key, word, cx)
    }

    fn note(&mut self, key: &str, word: &str, cx: &Context<'_>) -> Result<(), Fault> {
        self.keep(key, &serde_json::Value::from(word).to_string(), cx.limits)
    }

    fn count_field(&mut self, cx: &Context<'_>) -> Result<(), Fault> {
        self.fields += 1;
        match self.fields > cx.limits.max_fields {
            true => Err((Reason::TooManyFields, None)),
            false => Ok(()),
        }
    }

    fn reading(&mut self, key: &str, value: &str, cx: &Context<'_>) -> Result<(), Fault> {
        self.count_field(cx)?;
        if let Some(word) = txt::bare(value) {
            return self.bare_reading(key, word, cx);
        }
        match reading::target(key) {
            Some(Target::Number(column)) => self.number(column, key, value, None, cx),
            Some(Target::LoadType) => self.take_load_type(key, value),
            None => match cx.aliases.get(key) {
                Some(alias) => self.number(alias.column, key, value, Some(alias.factor), cx),
                None => self.keep(key, value, cx.limits),
            },
        }
    }

    fn number(
        &mut self,
        column: usize,
        key: &str,
        value: &str,
        factor: Option<f64>,
        cx: &Context<'_>,
    ) -> Result<(), Fault> {
        let Some(reading) = READINGS.get(column) else { return self.keep(key, value, cx.limits) };
        self.known += 1;
        if value == "null" {
            return Ok(());
        }
        if value.starts_with('"') {
            // Some firmware writes a missing value as text. Any other text is an error.
            return if text(value).is_some_and(|t| is_not_a_value(&t)) {
                self.keep(key, value, cx.limits)
            } else {
                Err(wrong_type(key))
            };
        }
        let parsed = match factor {
            None => decimal::parse(value, reading.precision, reading.scale),
            Some(factor) => match value.parse::<f64>() {
                Ok(v) => decimal::from_f64(v * factor, reading.precision, reading.scale),
                Err(_) => Parsed::NotANumber,
            },
        };
        match parsed {
            Parsed::Value(unscaled) => {
                if let Some(cell) = self.readings.get_mut(column) {
                    *cell = Some(unscaled);
                }
                Ok(())
            }
            Parsed::TooLarge => self.keep(key, value, cx.limits),
            Parsed::NotANumber => Err(wrong_type(key)),
        }
    }

    fn take_ts(&mut self, value: &str) -> Result<(), Fault> {
        if value == "null" {
            return Ok(());
        }
        let ts = match text(value) {
            Some(text) => time::parse_written(&text, None),
            None => match value.parse() {
                Ok(number) => time::from_unix_number(number).ok_or(time::BadTime::Beyond),
                Err(_) => return Err(wrong_type("ts")),
            },
        };
        // Also of a bad time: it is reported as such, and not as a missing one.
        self.has_ts = true;
        self.ts = ts.map_err(|fault| (Reason::BadTs, Some(format!("ts: {fault}"))))?;
        Ok(())
    }

    fn take_word(
        &mut self,
        key: &str,
        value: &str,
        cx: &Context<'_>,
        words: &[&'static str],
        set: impl Fn(&mut Self, Option<&'static str>),
    ) -> Result<(), Fault> {
        if value == "null" {
            return Ok(());
        }
        let given = text(value).ok_or_else(|| wrong_type(key))?;
        match words.iter().find(|w| **w == given) {
            Some(word) => {
                set(self, Some(word));
                Ok(())
            }
            None => self.keep(key, value, cx.limits),
        }
    }

    fn take_load_type(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        self.known += 1;
        if value != "null" {
            self.load_type = Some(text(value).ok_or_else(|| wrong_type(key))?.into_owned());
        }
        Ok(())
    }

    /// Appends a field to `extra`, unchanged.
    fn keep(&mut self, key: &str, value: &str, limits: &Limits) -> Result<(), Fault> {
        if depth(value) > limits.max_depth {
            return Err((Reason::TooDeep, Some(shorten(key))));
        }
        self.extra.push(if self.extra.is_empty() { '{' } else { ',' });
        self.extra.push_str(&serde_json::Value::from(key).to_string());
        self.extra.push(':');
        self.extra.push_str(&txt::unmarked(value));
        Ok(())
    }

    /// Up to five of the unknown keys.
    pub fn unknown_keys(&self) -> Vec<String> {
        let open = format!("{}}}", self.extra);
        let extra: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&open).unwrap_or_default();
        extra.keys().take(5).map(|key| shorten(key)).collect()
    }

    fn check_time(&mut self, cx: &Context<'_>) -> Result<(), Fault> {
        // A clock that was never set does not count, if boot and uptime can tell the time later.
        self.has_ts &= !(time::is_unset(self.ts) && self.boot.is_some() && self.uptime_ms);
        if let Some(ts) = cx.resolved_ts.filter(|_| !self.has_ts) {
            (self.has_ts, self.ts) = (true, ts);
        }
        if !self.has_ts {
            let clockless = self.boot.is_some() && self.uptime_ms;
            return Err((if clockless { Reason::ClockUnset } else { Reason::NoTs }, None));
        }
        if self.ts < YEAR_2020 {
            Err((Reason::TsBefore2020, Some(time::to_rfc3339(self.ts))))
        } else if self.ts > cx.received_at.saturating_add(cx.limits.max_future) {
            Err((Reason::TsInFuture, Some(time::to_rfc3339(self.ts))))
        } else if self.ts < cx.received_at.saturating_sub(cx.limits.max_age) {
            Err((Reason::Expired, Some(time::to_rfc3339(self.ts))))
        } else {
            Ok(())
        }
    }
}

fn wrong_type(key: &str) -> Fault {
    (Reason::WrongType, Some(shorten(key)))
}

fn shorten(key: &str) -> String {
    key.chars().take(64).collect()
}

pub(super) fn is_not_a_value(text: &str) -> bool {
    let word = text.trim_start_matches(['-', '+']);
    ["", "nan", "inf", "infinity", "ovf", "null"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// The integer of `seq`, `boot` or `uptime_ms`; none for null.
fn counter(key: &str, value: &str) -> Result<Option<i64>, Fault> {
    if value == "null" {
        return Ok(None);
    }
    let whole = decimal::whole(value).and_then(|whole| i64::try_from(whole).ok());
    whole.map(Some).ok_or_else(|| wrong_type(key))
}

/// The text of a JSON string; none for another type.
fn text(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(value).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The nesting depth of a valid JSON value.
fn depth(value: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in value.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Calls `each` with every key and raw value of a JSON object, until the first fault.
fn walk(
    object: &str,
    each: &mut dyn FnMut(&str, &str) -> Result<(), Fault>,
) -> Result<(), ItemError> {
    struct Fields<'f>(&'f mut dyn FnMut(&str, &str) -> Result<(), Fault>);

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

    impl<'de> Visitor<'de> for Fields<'_> {
        type Value = Result<(), Fault>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut checked = Ok(());
            while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
                if checked.is_ok() {
                    checked = (self.0)(&key, map.next_value::<&RawValue>()?.get());
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(checked)
        }
    }

    let mut json = serde_json::Deserializer::from_str(object);
    json.deserialize_map(Fields(each))
        .and_then(|checked| json.end().map(|()| checked))
        .map_err(|error| ItemError::Syntax(txt::offset(object, &error)))?
        .map_err(ItemError::Fault)
}
