//! `kill -9` during appends, and a torn end.
//!
//! The process that is killed is this test binary itself, started again with an environment
//! variable that names the log's folder: it appends for ever and prints what was acknowledged.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use acuvim_log::{EmbeddedLog, EmbeddedOptions, Log, LogTopic};

use crate::conformance::{NO_WAIT, entry};

const FOLDER: &str = "ACUVIM_LOG_CRASH_FOLDER";

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn appends_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let options = EmbeddedOptions { segment_bytes: 200_000, ..EmbeddedOptions::at(folder) };
    let log = Arc::new(EmbeddedLog::open(options).await.expect("open"));
    let writers: Vec<_> = (0..8_u32)
        .map(|w| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for i in 0_u64.. {
                    let value = format!("{w}/{i}/{}", "x".repeat((i % 700) as usize));
                    let batch = vec![(w % 4, entry("d", value))];
                    let at = log.append(LogTopic::Uplink, batch).await.expect("append")[0];
                    let line = format!("acked {w} {i} {} {}\n", at.partition, at.offset);
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("stdout");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
}

/// Lets the other process append until it has said as many times that it did, then kills it.
fn append_and_kill(folder: &Path, acks: usize) -> Vec<[i64; 4]> {
    let mut child = Command::new(std::env::current_exe().expect("exe"))
        .args(["--exact", "crash::appends_until_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut acked = Vec::new();
    for line in lines {
        let Ok(line) = line else { break };
        let Some(said) = line.split("acked ").nth(1) else { continue };
        let numbers: Vec<i64> = said.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let Ok(numbers) = numbers.try_into() {
            acked.push(numbers);
        }
        if acked.len() == acks {
            child.kill().expect("kill");
        }
    }
    child.wait().expect("wait");
    acked
}

async fn held(log: &EmbeddedLog) -> BTreeMap<(i64, i64), String> {
    let mut held = BTreeMap::new();
    for partition in 0..4_u32 {
        let mut next = 0;
        loop {
            let batch = log.read(LogTopic::Uplink, partition, next, NO_WAIT).await.expect("read");
            if batch.entries.is_empty() {
                break;
            }
            for (offset, entry) in batch.entries {
                assert_eq!(offset, next, "no gap");
                next += 1;
                let text = String::from_utf8(entry.value.to_vec()).expect("text");
                held.insert((i64::from(partition), offset), text);
            }
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_in_order_once_after_kill_9() {
    let root = tempfile::tempdir().expect("dir");
    let mut acked = Vec::new();
    for round in 0..6 {
        let folder = root.path().to_owned();
        // Every process starts its own count, so a value is told apart by its round.
        let said = tokio::task::spawn_blocking(move || append_and_kill(&folder, 50 + 170 * round));
        acked.push(said.await.expect("task"));
    }
    let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
    let held = held(&log).await;
    for [writer, i, partition, offset] in acked.iter().flatten() {
        let value = held.get(&(*partition, *offset)).expect("acknowledged and gone");
        assert!(value.starts_with(&format!("{writer}/{i}/")), "{value}");
    }
    for round in &acked {
        let mut last = BTreeMap::new();
        let mut sorted = round.clone();
        sorted.sort_by_key(|[_, _, p, o]| (*p, *o));
        for [writer, i, ..] in sorted {
            let before = last.insert(writer, i);
            assert!(before.is_none_or(|b| b < i), "writer {writer} in order, once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_dropped() {
    let root = tempfile::tempdir().expect("dir");
    let folder = root.path().to_owned();
    let acked = tokio::task::spawn_blocking(move || append_and_kill(&folder, 40)).await.expect("t");
    let journal = std::fs::read_dir(root.path())
        .expect("dir")
        .filter_map(|f| Some(f.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
        .max()
        .expect("a journal");
    // The last batch that was written, cut in half: what a power cut leaves of an append under way.
    let bytes = std::fs::read(&journal).expect("read");
    let end = bytes.iter().rposition(|b| *b != 0).expect("data") + 1;
    let file = std::fs::OpenOptions::new().write(true).open(&journal).expect("open");
    file.set_len((end - 20) as u64).expect("cut");
    drop(file);
    let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("opens");
    let held = held(&log).await;
    assert!(held.len() + 8 >= acked.len(), "only the last group is gone");
    let at = log.append(LogTopic::Uplink, vec![(0, entry("d", "on"))]).await.expect("goes on");
    assert!(at[0].offset >= 0);
}
