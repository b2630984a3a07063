//! Checks of request bodies. Each problem names the field and its allowed values.

mod hosts;
mod notification;

use acuvim_model::{DeviceEdit, DeviceScope, GroupBody, RuleBody, Scope, SilenceBody};
use acuvim_query_sql::history;
use acuvim_rules::MOST_FLAPS;
use acuvim_wire::device::is_device_id;

use chrono::{DateTime, TimeDelta, Utc};

use crate::problem::ApiError;

pub use hosts::{HostCheck, HostRefusal};
pub(crate) use notification::notification;

/// Characters of a name, a description, a long text and a tag, and tags of a device.
const NAME: usize = 100;
const DESCRIPTION: usize = 1000;
const LONG: usize = 10_000;
const TAG: usize = 64;
const TAGS: usize = 32;

/// Devices and groups that a scope may name.
const SCOPE: usize = 1000;

fn text(field: &str, text: &str, from: usize, to: usize) -> Result<(), ApiError> {
    let fits = (from..=to).contains(&text.chars().count());
    if fits && text.trim() == text && !text.chars().any(|c| c.is_control() && c != '\n') {
        return Ok(());
    }
    Err(ApiError::field(field, format!("{from} to {to} characters, no space at its ends")))
}

fn number(field: &str, value: f64, from: f64, to: f64) -> Result<(), ApiError> {
    if (from..=to).contains(&value) {
        return Ok(());
    }
    Err(ApiError::field(field, format!("a number from {from} to {to}")))
}

/// The nominal values of a site and its meter.
#[derive(Clone, Copy)]
struct Nominal<'a> {
    volts: Option<f64>,
    hertz: Option<f64>,
    max_power_kw: Option<f64>,
    counter_end: Option<f64>,
    zone: Option<&'a str>,
}

fn nominal(values: Nominal<'_>) -> Result<(), ApiError> {
    let numbers = [
        ("nominal_voltage_v", values.volts, 10.0, 1_000_000.0),
        ("nominal_frequency_hz", values.hertz, 40.0, 70.0),
        ("max_power_kw", values.max_power_kw, 0.001, 1e9),
        ("counter_end", values.counter_end, 1000.0, 1e12),
    ];
    for (field, value, from, to) in numbers {
        value.map_or(Ok(()), |value| number(field, value, from, to))?;
    }
    values.zone.map_or(Ok(()), |zone| time_zone("time_zone", zone).map(|_| ()))
}

/// A time zone by its name.
pub(crate) fn time_zone(field: &str, name: &str) -> Result<chrono_tz::Tz, ApiError> {
    Ok(history::time_zone(field, name)?)
}

/// A device's id, which is a part of its MQTT topics.
pub(crate) fn device_id(field: &str, id: &str) -> Result<(), ApiError> {
    if is_device_id(id) {
        return Ok(());
    }
    Err(ApiError::field(field, "1 to 32 characters of A-Z a-z 0-9 _ -"))
}

/// The fields of a device that people set.
pub(crate) fn device_edit(edit: &DeviceEdit) -> Result<(), ApiError> {
    if let Some(Some(name)) = &edit.name {
        text("name", name, 1, NAME)?;
    }
    if let Some(Some(description)) = &edit.description {
        text("description", description, 0, DESCRIPTION)?;
    }
    if let Some(Some(tags)) = &edit.tags {
        if tags.len() > TAGS {
            return Err(ApiError::field("tags", format!("at most {TAGS}")));
        }
        tags.iter().try_for_each(|tag| text("tags", tag, 1, TAG))?;
    }
    nominal(Nominal {
        volts: edit.nominal_voltage_v.flatten(),
        hertz: edit.nominal_frequency_hz.flatten(),
        max_power_kw: edit.max_power_kw.flatten(),
        counter_end: edit.counter_end.flatten(),
        zone: edit.time_zone.as_ref().and_then(Option::as_deref),
    })
}

/// A group's name, description and nominal values.
pub(crate) fn group(body: &GroupBody) -> Result<(), ApiError> {
    text("name", &body.name, 1, NAME)?;
    if let Some(description) = &body.description {
        text("description", description, 0, DESCRIPTION)?;
    }
    nominal(Nominal {
        volts: body.nominal_voltage_v,
        hertz: body.nominal_frequency_hz,
        max_power_kw: body.max_power_kw,
        counter_end: body.counter_end,
        zone: body.time_zone.as_deref(),
    })
}

/// A note on an alert, which may be empty.
pub(crate) fn note(note: Option<&str>) -> Result<(), ApiError> {
    note.map_or(Ok(()), |note| text("note", note, 0, DESCRIPTION))
}

/// A short text, such as the name of a hardware.
pub(crate) fn short_text(field: &str, value: &str) -> Result<(), ApiError> {
    text(field, value, 1, NAME)
}

/// A long text, such as release notes.
pub(crate) fn long_text(field: &str, value: &str) -> Result<(), ApiError> {
    let fits = value.chars().count() <= LONG
        && !value.chars().any(|c| c.is_control() && c != '\n' && c != '\r' && c != '\t');
    if fits { Ok(()) } else { Err(ApiError::field(field, format!("at most {LONG} characters"))) }
}

/// The devices that a rule or silence concerns.
fn device_scope(scope: &DeviceScope) -> Result<(), ApiError> {
    let most = scope.device_ids.len().max(scope.group_ids.len()).max(scope.tags.len());
    if most > SCOPE {
        return Err(ApiError::field("scope", format!("at most {SCOPE} devices, groups and tags")));
    }
    scope.device_ids.iter().try_for_each(|id| device_id("scope.device_ids", id))?;
    scope.tags.iter().try_for_each(|tag| text("scope.tags", tag, 1, TAG))
}

fn alert_type(field: &str, name: &str) -> Result<(), ApiError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(ApiError::field(field, "1 to 64 characters of a-z 0-9 _"))
}

/// A rule, but for its predicates.
pub(crate) fn rule(rule: &RuleBody) -> Result<(), ApiError> {
    text("name", &rule.name, 1, NAME)?;
    alert_type("alert_type", &rule.alert_type)?;
    for (field, seconds) in
        [("for_seconds", rule.for_seconds), ("clear_for_seconds", rule.clear_for_seconds)]
    {
        number(field, f64::from(seconds), 0.0, 86_400.0)?;
    }
    if let Some(gap) = rule.gap_seconds {
        number("gap_seconds", f64::from(gap), 1.0, 345_600.0)?;
    }
    if rule.flap_count == 1 || usize::try_from(rule.flap_count).is_ok_and(|n| n > MOST_FLAPS) {
        return Err(ApiError::field("flap_count", format!("0, or 2 to {MOST_FLAPS}")));
    }
    number("flap_seconds", f64::from(rule.flap_seconds), 1.0, 86_400.0)?;
    device_scope(&rule.scope)
}

/// A silence. `now` is when its request came.
pub(crate) fn silence(silence: &SilenceBody, now: DateTime<Utc>) -> Result<(), ApiError> {
    text("reason", &silence.reason, 1, DESCRIPTION)?;
    if silence.until <= now || silence.until - now > TimeDelta::days(366) {
        return Err(ApiError::field("until", "in the future, by a year at most"));
    }
    if silence.alert_types.len() > TAGS {
        return Err(ApiError::field("alert_types", format!("at most {TAGS}")));
    }
    // Any text: devices send alerts of types that they name themselves.
    silence.alert_types.iter().try_for_each(|name| text("alert_types", name, 1, TAG))?;
    device_scope(&silence.scope)
}

/// The name of a new user. Case does not matter: it is stored in lower case.
pub(crate) fn username(name: &str) -> Result<(), ApiError> {
    let fits = (1..=64).contains(&name.len());
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    if fits && name.bytes().all(good) {
        return Ok(());
    }
    Err(ApiError::field("username", "1 to 64 characters of a-z 0-9 . _ - @"))
}

/// The devices that a user or key sees.
pub(crate) fn scope(scope: Option<&Scope>) -> Result<(), ApiError> {
    let Some(scope) = scope else { return Ok(()) };
    if scope.device_ids.len() > SCOPE || scope.group_ids.len() > SCOPE {
        return Err(ApiError::field("scope", format!("at most {SCOPE} devices and groups")));
    }
    scope.device_ids.iter().try_for_each(|id| device_id("scope.device_ids", id))
}

#[cfg(test)]
mod tests;
