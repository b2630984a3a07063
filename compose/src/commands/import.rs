//! `acuvim import`: sends a file of readings to a running server in parts, and resumes an import that was
//! interrupted.

mod parts;

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use acuvim_model::Imported;
use anyhow::Context as _;
use parts::{Part, Parts};

use super::client::{Busy, Client};
use crate::cli::HistoryArgs;

/// Time limit for a part whose server is unavailable or busy.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends the file. Fails if a row was refused; all others are stored then.
pub async fn run(args: HistoryArgs) -> anyhow::Result<()> {
    let mut parts = Parts::open(&args.file)?;
    let checkpoint = Checkpoint::of(&args)?;
    let done = if args.restart { Counts::default() } else { checkpoint.read() };
    if done.rows > 0 {
        show_line(&format!("going on behind row {}; --restart begins anew", done.rows))?;
    }
    parts.skip(done.rows)?;
    let server = Client::new(&args.server).await?;
    let mut progress = Progress::new(done, parts.size());
    let mut refusals = Vec::new();
    while let Some(part) = parts.next_part()? {
        let (first, rows) = (progress.done.rows, part.rows);
        let sent = send(&server, &args, part).await.with_context(|| {
            format!("behind row {first}; give the command again to go on there")
        })?;
        let at = |mut refusal: acuvim_model::ImportRefusal| {
            refusal.row += first;
            refusal
        };
        progress.done.stored += sent.stored;
        progress.done.duplicates += sent.duplicates;
        progress.done.refused += sent.refused;
        refusals.extend(
            sent.refusals.into_iter().map(at).take(20_usize.saturating_sub(refusals.len())),
        );
        progress.done.rows += rows;
        checkpoint.write(progress.done)?;
        progress.show(parts.read_bytes())?;
    }
    checkpoint.remove();
    progress.end()?;
    for refusal in refusals {
        show_line(&format!("row {}: {}", refusal.row, refusal.message))?;
    }
    match progress.done.refused {
        0 => Ok(()),
        refused => anyhow::bail!(
            "{refused} rows were refused, the first of them as shown; mend those and import them \
             again: all others are stored"
        ),
    }
}

/// The counts of an import so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    rows: u64,
    stored: u64,
    duplicates: u64,
    refused: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, stored, duplicates, refused } = self;
        write!(f, "{rows} rows, {stored} stored, {duplicates} duplicates, {refused} refused")
    }
}

/// Sends a part, again and again if the server is busy. Repetition is harmless: the server stores each
/// reading once.
async fn send(server: &Client, args: &HistoryArgs, part: Part) -> anyhow::Result<Imported> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        let mut query = vec![
            ("device_id", args.device_id_column.as_str()),
            ("ts", &args.ts_column),
            ("data", &args.data_column),
        ];
        query.extend(args.time_zone.as_deref().map(|zone| ("time_zone", zone)));
        let request = server
            .post("/api/import")
            .query(&query)
            .header("Content-Type", part.content_type)
            .body(part.body.clone());
        match server.send(request).await {
            Ok(answer) => return Ok(answer.json().await?),
            Err(error) if error.is::<Busy>() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(15));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The progress of an import, in a file beside the imported one.
struct Checkpoint {
    path: PathBuf,
    /// Size and time of the file, the server, and the options. Progress with other ones is not used.
    about: String,
}

impl Checkpoint {
    fn of(args: &HistoryArgs) -> anyhow::Result<Self> {
        let file = &args.file;
        let facts = std::fs::metadata(file).with_context(|| file.display().to_string())?;
        let modified = facts.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_micros();
        let mut path = file.as_os_str().to_owned();
        path.push(".imported");
        let HistoryArgs { device_id_column, ts_column, data_column, time_zone, server, .. } = args;
        let zone = time_zone.as_deref().unwrap_or("-");
        let about = format!(
            "{} {modified} {} {device_id_column} {ts_column} {data_column} {zone}",
            facts.len(),
            server.url
        );
        Ok(Self { path: path.into(), about })
    }

    fn read(&self) -> Counts {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let numbers = text.strip_prefix(&self.about).unwrap_or_default();
        // Earlier versions wrote the number of rows only.
        let mut numbers = numbers.split_whitespace().map(|n| n.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Counts { rows: next(), stored: next(), duplicates: next(), refused: next() }
    }

    /// Replaces the file in one step, since a truncated one would restart the import.
    fn write(&self, done: Counts) -> anyhow::Result<()> {
        let next = self.path.with_extension("imported.next");
        let Counts { rows, stored, duplicates, refused } = done;
        let text = format!("{} {rows} {stored} {duplicates} {refused}\n", self.about);
        std::fs::write(&next, text)
            .and_then(|()| std::fs::rename(&next, &self.path))
            .with_context(|| self.path.display().to_string())
    }

    fn remove(&self) {
        // If it can't be removed, it says that all rows are imported, which is true.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Progress on stderr: a line that is rewritten on a terminal, and a new line every ten seconds
/// elsewhere.
struct Progress {
    done: Counts,
    begun_at: u64,
    size: u64,
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn new(done: Counts, size: u64) -> Self {
        Self { done, begun_at: done.rows, size, begun: Instant::now(), shown: None }
    }

    fn show(&mut self, bytes: u64) -> anyhow::Result<()> {
        let terminal = std::io::stderr().is_terminal();
        let every = Duration::from_millis(if terminal { 200 } else { 10_000 });
        if self.shown.is_some_and(|shown| shown.elapsed() < every) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let share = (bytes as f64 / self.size.max(1) as f64).min(1.0);
        let filled = "#".repeat((share * 30.0) as usize);
        let line = format!("[{filled:<30}] {:3.0} %  {}", share * 100.0, self.text());
        let end = if terminal { "" } else { "\n" };
        let begin = if terminal { "\r" } else { "" };
        write!(std::io::stderr(), "{begin}{line}{end}")?;
        Ok(())
    }

    fn text(&self) -> String {
        let rows = self.done.rows - self.begun_at;
        let rate = rows as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        format!("{}, {rate:.0}/s", self.done)
    }

    fn end(&self) -> anyhow::Result<()> {
        let begin = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        writeln!(std::io::stderr(), "{begin}{}", self.text())?;
        Ok(())
    }
}

fn show_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_keeps_the_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let checkpoint =
            Checkpoint { path: dir.path().join("a.csv.imported"), about: "7 1 http://x".into() };
        assert_eq!(checkpoint.read(), Counts::default());
        let done = Counts { rows: 20, stored: 15, duplicates: 2, refused: 3 };
        checkpoint.write(done).expect("written");
        assert_eq!(checkpoint.read(), done);
        let other = Checkpoint { about: "8 1 http://x".into(), path: checkpoint.path.clone() };
        assert_eq!(other.read(), Counts::default());
        std::fs::write(&checkpoint.path, "7 1 http://x 20\n").expect("of an earlier version");
        assert_eq!(checkpoint.read(), Counts { rows: 20, ..Counts::default() });
        assert_eq!(done.to_string(), "20 rows, 15 stored, 2 duplicates, 3 refused");
    }
}
