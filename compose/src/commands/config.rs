//! `acuvim config`: the settings in force.

use super::print_line;
use crate::settings::Settings;

/// Prints the settings as a file that could be given to `--config`, each with its description.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    print_line(settings.to_commented_toml()?.trim_end())
}
