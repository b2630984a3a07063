//! Repairs that an operator applies to dead letters before they are replayed.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde_json::value::RawValue;

use super::split::split;
use crate::{
    kind::Kind,
    text,
    time::{self, Micros, Offset},
};

/// A repair of payloads. Whatever it does not mention stays as it is, to the digit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repair {
    /// Remove every NUL, also those between other bytes.
    pub strip_nuls: bool,
    /// The offset from UTC of times that have none.
    pub offset: Option<Offset>,
    /// Added to every time.
    pub shift: Micros,
}

impl Repair {
    /// The repaired payload. Items that can't be parsed stay as they are, and become dead letters again.
    #[must_use]
    pub fn apply(&self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let bytes: Vec<u8> = match self.strip_nuls {
            true => payload.iter().copied().filter(|byte| *byte != 0).collect(),
            false => payload.to_vec(),
        };
        if self.offset.is_none() && self.shift == 0 {
            return bytes;
        }
        let items = match kind {
            // All items: the limit on their number is checked by the decoder.
            Kind::Telemetry => split(&bytes, usize::MAX - 1).map(|items| items.list().to_vec()),
            _ => None,
        };
        // What has no form of telemetry is repaired as one item, so that it stays one dead letter.
        let items = items.unwrap_or_else(|| vec![text::trimmed(&bytes)]);
        let mended = items.iter().map(|item| self.item(item).unwrap_or_else(|| line(item)));
        mended.collect::<Vec<_>>().join(&b'\n')
    }

    /// One object with its time repaired.
    fn item(&self, item: &[u8]) -> Option<Vec<u8>> {
        let written = std::str::from_utf8(item).ok()?;
        let mended = text::mended(written);
        let is_json = serde_json::from_str::<&RawValue>(written).is_ok();
        let written = if is_json { written } else { mended.as_ref()?.text.as_str() };
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(written).ok()?;
        let micros = self.time(fields.get("ts")?.get())?.checked_add(self.shift)?;
        let shown = time::to_datetime(micros)?.to_rfc3339_opts(SecondsFormat::Micros, true);
        let ts = RawValue::from_string(format!("\"{shown}\"")).ok()?;
        fields.insert("ts".to_owned(), &ts);
        let repaired = serde_json::to_string(&fields).ok()?;
        // The words that the device wrote in place of numbers come back as they were: only telemetry knows
        // the marker.
        Some(if is_json { repaired } else { text::unmended(&repaired) }.into_bytes())
    }

    fn time(&self, raw: &str) -> Option<Micros> {
        match serde_json::from_str::<String>(raw) {
            Ok(text) => time::parse_written(&text, self.offset).ok(),
            Err(_) => time::from_unix_number(raw.parse().ok()?),
        }
    }
}

/// An unchanged item, on one line because items are joined as JSON Lines.
fn line(item: &[u8]) -> Vec<u8> {
    item.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests;
