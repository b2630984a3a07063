//! The settings that the pages name exist, and a value beside one is its default.

use std::collections::BTreeMap;

use super::pages;
use crate::harness::root;

/// Units of values on pages and at the end of settings' names: times in milliseconds, sizes in KiB.
const UNITS: [(&str, f64); 17] = [
    ("ms", 1.0),
    ("s", 1000.0),
    ("seconds", 1000.0),
    ("min", 60_000.0),
    ("minutes", 60_000.0),
    ("h", 3_600_000.0),
    ("hour", 3_600_000.0),
    ("hours", 3_600_000.0),
    ("day", 86_400_000.0),
    ("days", 86_400_000.0),
    ("week", 604_800_000.0),
    ("KiB", 1.0),
    ("kb", 1.0),
    ("MiB", 1024.0),
    ("MB", 1024.0),
    ("mb", 1024.0),
    ("GiB", 1_048_576.0),
];

#[test]
fn every_setting_on_a_page_exists_and_a_value_beside_it_is_its_default() {
    let defaults = defaults();
    let (mut faults, mut values) = (Vec::new(), 0);
    for (name, text) in pages() {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for mention in mentions(&text) {
            let sections = defaults.keys().filter_map(|key| key.split('.').next());
            let section = mention.key.split('.').next().unwrap_or_default();
            if mention.key.ends_with(".rs") || !sections.into_iter().any(|known| known == section) {
                continue;
            }
            match (defaults.get(&mention.key), mention.value) {
                (None, _) => faults.push(format!("{name}: there is no setting {}", mention.key)),
                (Some(default), Some(value)) => {
                    values += 1;
                    if !same(&mention.key, default, &value) {
                        let key = mention.key;
                        faults.push(format!("{name}: {key} is {default}, and not {value}"));
                    }
                }
                (Some(_), None) => {}
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(values > 20, "only {values} values were read");
}

/// Every setting of `default.toml`; an empty default for those that have none.
fn defaults() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("compose/default.toml")).expect("default.toml");
    let (mut all, mut section) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once(" = ") {
            match name.strip_prefix('#') {
                Some(name) if name.contains(' ') => {}
                Some(name) => drop(all.insert(format!("{section}.{name}"), String::new())),
                None => drop(all.insert(format!("{section}.{name}"), value.to_owned())),
            }
        }
    }
    all
}

struct Mention {
    key: String,
    /// The number, and perhaps its unit, that is said of it.
    value: Option<String>,
}

/// The settings in backticks, with a value in one of three forms: `key` (10 s), (`key`, 10 s), and
/// 10 s (`key`).
fn mentions(text: &str) -> Vec<Mention> {
    let parts: Vec<&str> = text.split('`').collect();
    let mut found = Vec::new();
    for (n, word) in parts.iter().enumerate().skip(1).step_by(2) {
        let is_key = word.split_once('.').is_some_and(|(section, key)| {
            let named = |t: &str| {
                !t.is_empty()
                    && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            };
            named(section) && named(key)
        });
        if !is_key {
            continue;
        }
        let (before, after) = (parts[n - 1], parts.get(n + 1).copied().unwrap_or_default());
        let value = None
            .or_else(|| value_at(after.strip_prefix(" (")?, &[')', ',', ';']))
            .or_else(|| {
                before.ends_with('(').then_some(())?;
                value_at(after.strip_prefix(", ")?, &[')', ';'])
            })
            .or_else(|| {
                let words: Vec<&str> = before.strip_suffix(" (")?.rsplitn(3, ' ').collect();
                let unit = UNITS.iter().any(|(unit, _)| words.first() == Some(unit));
                let number = words.get(usize::from(unit))?;
                let value =
                    if unit { format!("{number} {}", words[0]) } else { (*number).to_owned() };
                number.starts_with(|c: char| c.is_ascii_digit()).then_some(value)
            });
        found.push(Mention { key: (*word).to_owned(), value });
    }
    found
}

/// A number and perhaps a unit, up to one of the ends.
fn value_at(text: &str, ends: &[char]) -> Option<String> {
    // A comma within a number ends nothing.
    let end = text.char_indices().find(|(at, c)| {
        ends.contains(c) && !text[at + 1..].starts_with(|next: char| next.is_ascii_digit())
    });
    let value = &text[..end?.0];
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let known = unit.is_empty() || UNITS.iter().any(|(name, _)| *name == unit);
    (known && number.starts_with(|c: char| c.is_ascii_digit())).then(|| value.to_owned())
}

/// Whether a value on a page is the default of a setting, each with its unit.
fn same(key: &str, default: &str, value: &str) -> bool {
    if default.trim_matches('"') == value {
        return true;
    }
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let factor =
        |unit: &str| UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let own = factor(key.rsplit('_').next().unwrap_or_default()).unwrap_or(1.0);
    // A value without a unit has the setting's.
    let said = if unit.is_empty() { own } else { factor(unit).unwrap_or(1.0) };
    match (number.replace(',', "").parse::<f64>(), default.parse::<f64>()) {
        (Ok(number), Ok(default)) => (number * said - default * own).abs() < 1e-6,
        _ => false,
    }
}

#[test]
fn values_are_read_in_every_form() {
    let text = "`lake.flush_interval_ms` (10 s), or 100,000 (`lake.flush_rows`); (`sql.exports`, 4) \
                and `lake.file_mb` says; ends `telemetry.retention_days` (365).";
    let found: Vec<_> = mentions(text).into_iter().map(|m| (m.key, m.value)).collect();
    let value = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            ("lake.flush_interval_ms".to_owned(), value("10 s")),
            ("lake.flush_rows".to_owned(), value("100,000")),
            ("sql.exports".to_owned(), value("4")),
            ("lake.file_mb".to_owned(), None),
            ("telemetry.retention_days".to_owned(), value("365")),
        ]
    );
    assert!(same("lake.flush_interval_ms", "10000", "10 s"));
    assert!(same("lake.file_mb", "256", "256 MiB") && !same("lake.file_mb", "256", "64"));
    assert!(same("log.retention_hours", "168", "7 days"));
}
