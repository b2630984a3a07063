//! `acuvim devices`: creates devices on a running server.

use std::io::Write as _;

use anyhow::Context as _;

use super::client::Client;
use crate::cli::{DevicesCommand, ImportArgs};

/// Runs one of the subcommands.
pub async fn run(command: DevicesCommand) -> anyhow::Result<()> {
    match command {
        DevicesCommand::Import(args) => import(args).await,
    }
}

/// Prints the answer with the secrets to stdout, which is usually redirected to a file, and a summary
/// to stderr.
async fn import(args: ImportArgs) -> anyhow::Result<()> {
    let file = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let server = Client::new(&args.server).await?;
    let request = server.post("/api/devices/import").header("Content-Type", "text/csv").body(file);
    let answer = server.send(request).await?.text().await?;
    std::io::stdout().write_all(answer.as_bytes())?;
    let lines = answer.lines().skip(1);
    let (created, failed): (Vec<_>, Vec<_>) = lines.partition(|line| line.ends_with(",created"));
    writeln!(std::io::stderr(), "{} devices made, {} not", created.len(), failed.len())?;
    Ok(())
}
