//! `acuvim config`: the settings in force.

use super::say;
use crate::settings::Settings;

/// Prints them as the TOML that would make them so.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    say(toml::to_string(&settings.masked())?.trim_end())
}
