//! `acuvim config`: the settings in force.

use super::say;
use crate::settings::Settings;

/// Prints the settings as a file that could be given to `--config`, each with its description.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    say(settings.to_commented_toml()?.trim_end())
}
