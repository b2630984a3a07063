//! `acuvim devices`: commissioning from the command line.

use std::io::Write as _;

use anyhow::Context as _;

use super::client::Client;
use crate::cli::{DevicesCommand, ImportArgs};

/// Does it.
pub async fn run(command: DevicesCommand) -> anyhow::Result<()> {
    match command {
        DevicesCommand::Import(args) => import(args).await,
    }
}

/// The secrets go to stdout, how it went to stderr: the one is kept, the other read.
async fn import(args: ImportArgs) -> anyhow::Result<()> {
    let file = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let server = Client::new(&args.server).await?;
    let request = server.post("/api/devices/import").header("Content-Type", "text/csv").body(file);
    let answer = server.send(request).await?.text().await?;
    std::io::stdout().write_all(answer.as_bytes())?;
    let lines = answer.lines().skip(1);
    let (made, not): (Vec<_>, Vec<_>) = lines.partition(|line| line.ends_with(",created"));
    writeln!(std::io::stderr(), "{} devices made, {} not", made.len(), not.len())?;
    Ok(())
}
