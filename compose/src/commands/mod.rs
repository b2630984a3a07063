//! The commands other than `serve`, one file each. They print their results to stdout.

pub mod check;
mod client;
pub mod config;
pub mod demo;
pub mod devices;
pub mod firmware;
pub mod import;
pub mod repartition;
pub mod simulate;
pub mod sql;

use std::io::Write as _;

/// Prints a line. An error means that the reader of stdout is gone, which ends the command.
fn print_line(line: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}
