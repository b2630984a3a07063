//! `default.toml`, the one source of the settings' defaults and descriptions.

use toml::Table;

/// The file, as part of the binary.
pub const TEXT: &str = include_str!("../../default.toml");

/// The name of the setting in a line; `None` for comments, section headers and empty lines. A line
/// that begins with `#` and a name has no default, and its value is an example.
pub fn setting(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")?;
    let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some(name)
}

/// The name of the section that a line begins.
pub fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// The file with the given values in place of the defaults. Its comments stay.
pub fn with_values(values: &Table) -> String {
    let (mut out, mut current) = (String::new(), None);
    for line in TEXT.lines() {
        if let Some(name) = section(line) {
            current = values.get(name).and_then(toml::Value::as_table);
        }
        let value = setting(line).and_then(|name| {
            let value = current?.get(name)?;
            Some(format!("{name} = {value}"))
        });
        out.push_str(value.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}
