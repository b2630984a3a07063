//! Power cuts: a start that finds the newest files of the lake damaged writes them again from the log; and
//! the order in which files reach the disk, which prevents such damage.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, Server, T0, pause, reading};

/// No compaction, so that files stay as they were committed.
const SETTINGS: &[&str] = &["lake.flush_interval_ms=100", "lake.compaction_interval_ms=3600000"];

const READINGS: i64 = 40;

/// The commits of `telemetry`, the newest first.
fn commits(dir: &Path) -> Vec<PathBuf> {
    let log = std::fs::read_dir(dir.join("lake/telemetry/_delta_log")).expect("commits");
    let paths = log.map(|entry| entry.expect("an entry").path());
    let mut commits: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    commits.sort();
    commits.reverse();
    commits
}

/// The newest data file named by a commit.
fn newest_file(dir: &Path) -> PathBuf {
    let added = |commit: &PathBuf| {
        let text = std::fs::read_to_string(commit).expect("a commit");
        let mut actions = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an action"));
        actions.find_map(|action| action["add"]["path"].as_str().map(str::to_owned))
    };
    let path = commits(dir).iter().find_map(added).expect("a file");
    dir.join("lake/telemetry").join(path)
}

fn cut_off(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).expect("open");
    file.set_len(length).expect("cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_power_cut_has_damaged_comes_again_from_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), SETTINGS).await;
    let device = server.device("d1").await;
    for n in 0..READINGS {
        device.publish("acuvim/d1/telemetry", reading(T0 + n * 1000), false).await.expect("ack");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.wait_for("SELECT count(*) FROM telemetry", READINGS).await;
    server.stop().await;
    for (commit, length) in [(false, 0), (true, 0), (false, 500), (true, 50)] {
        let path = match commit {
            true => commits(dir.path())[0].clone(),
            false => newest_file(dir.path()),
        };
        cut_off(&path, length);
        let mut server = Server::start(dir.path(), SETTINGS).await;
        server.expect("the lake is damaged");
        server.expect("the lake was set back");
        server.wait_for("SELECT count(*) FROM telemetry", READINGS).await;
        server.wait_for("SELECT count(DISTINCT ts) FROM telemetry", READINGS).await;
        server.stop().await;
    }
}

/// The lines of an strace output, in the order in which the calls began.
fn position(lines: &[String], from: usize, words: &[&str]) -> usize {
    let has = |line: &String| words.iter().all(|word| line.contains(word));
    let found = lines.iter().skip(from).position(has);
    from + found.unwrap_or_else(|| panic!("no {words:?} behind line {from}: {lines:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_on_the_disk_before_a_commit_names_them() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), SETTINGS).await;
    let trace = dir.path().join("trace");
    let calls = "trace=fsync,?rename,?renameat,?renameat2,?link,linkat";
    let tracer = Command::new("strace")
        .args(["-f", "-y", "-s", "400", "-e", calls, "-o"])
        .arg(&trace)
        .args(["-p", &server.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn();
    let mut tracer = tracer.expect("strace, which `./dev setup` installs");
    let told = tracer.stderr.take().expect("what it says");
    let (say, said) = tokio::sync::oneshot::channel();
    // Read to the end: strace would exit if it could not write.
    std::thread::spawn(move || {
        let mut lines = BufReader::new(told).lines().map_while(Result::ok);
        let _ = say.send(lines.next());
        lines.for_each(drop);
    });
    let attached = said.await.ok().flatten().unwrap_or_default();
    assert!(attached.contains(" attached"), "strace can't look at a process here: {attached}");
    let device = server.device("d1").await;
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("ack");
    let begun = Instant::now();
    // First the file, then the commit, then the folder of the commits.
    let committed = |lines: &[String]| {
        let steps = [
            ["fsync(", "lake/telemetry/date="],
            ["link", "lake/telemetry/_delta_log/"],
            ["fsync(", "lake/telemetry/_delta_log>"],
        ];
        let mut lines = lines.iter();
        steps.iter().all(|words| lines.any(|line| words.iter().all(|word| line.contains(word))))
    };
    let lines = loop {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if committed(&lines) {
            break lines;
        }
        assert!(begun.elapsed() < PATIENCE, "no commit: {lines:#?}");
        pause(begun).await;
    };
    let pid = tracer.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().expect("kill");
    tracer.wait().expect("its end");
    server.stop().await;
    let bytes = position(&lines, 0, &["fsync(", "lake/telemetry/date=", ".parquet#"]);
    let named = position(&lines, bytes, &["rename", "lake/telemetry/date=", ".parquet\""]);
    let folder = position(&lines, named, &["fsync(", "lake/telemetry/date=2026-05-01>"]);
    let parent = position(&lines, named, &["fsync(", "lake/telemetry>"]);
    let commit = position(&lines, bytes, &["fsync(", "lake/telemetry/_delta_log/", ".json#"]);
    assert!(folder < commit && parent < commit, "the file and its folder come first: {lines:#?}");
    let linked = position(&lines, commit, &["link", "lake/telemetry/_delta_log/", ".json\""]);
    position(&lines, linked, &["fsync(", "lake/telemetry/_delta_log>"]);
}
