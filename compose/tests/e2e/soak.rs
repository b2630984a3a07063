//! Ordinary work for long: memory, open files and threads do not grow. A minute by default; `./dev
//! nightly` sets ACUVIM_SOAK_SECONDS to two hours.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Server, T0, connect, reading, resident_mb};

/// Devices, and the pause of each between its readings: half of the load that two cores can carry.
const DEVICES: usize = 20;
const PAUSE: Duration = Duration::from_millis(40);

/// How often the process is measured.
const LOOKS: u32 = 60;

fn length() -> Duration {
    let set = std::env::var("ACUVIM_SOAK_SECONDS").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(set.unwrap_or(45))
}

/// The resources of a process.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_mb: u64,
    files: u64,
    threads: u64,
}

fn held(pid: u32) -> Held {
    let count = |of: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/{of}")).expect("procfs");
        u64::try_from(entries.count()).expect("few")
    };
    Held { resident_mb: resident_mb(pid), files: count("fd"), threads: count("task") }
}

/// Sends readings until the end; of every ten one is late and one is a repetition. The answer is
/// how many readings of different times were sent.
async fn device(broker: SocketAddr, number: usize, until: Instant) -> i64 {
    let id = format!("dev-{number}");
    let topic = format!("acuvim/{id}/telemetry");
    let device = acuvim_simulator::mqtt::Connection::open(&connect(broker, &id)).await;
    let device = device.expect("a connection");
    let mut n = 0_i64;
    while Instant::now() < until {
        let ts = match n % 10 {
            5 => T0 - 86_400_000 - n * 1000,
            9 => T0 + (n - 2) * 1000,
            _ => T0 + n * 1000,
        };
        device.publish(&topic, reading(ts), false).await.expect("ack");
        n += 1;
        tokio::time::sleep(PAUSE).await;
    }
    device.close().await;
    n - n / 10
}

/// Sends requests like dashboards and users until the end.
async fn people(server: &Server, until: Instant) {
    let hour = "SELECT device_id, count(*), avg(voltage_l1_v) FROM telemetry GROUP BY 1 ORDER BY 1";
    while Instant::now() < until {
        server.ask(json!({"query": hour})).await;
        for path in [
            "/api/telemetry/latest",
            "/api/dashboard/stats",
            "/api/devices?limit=20",
            "/api/devices/dev-1/telemetry/history?interval=15m&agg=avg,max",
            "/api/devices/dev-2/telemetry/export",
        ] {
            let answer = server.get(path).await;
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.bytes().await.expect("a body");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn looks(pid: u32, until: Instant) -> Vec<Held> {
    let pause = length() / LOOKS;
    let mut looks = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(pause).await;
        looks.push(held(pid));
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_files_and_threads_stay_what_they_were() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["lake.rollup_interval_seconds=5", "lake.compaction_interval_ms=5000"];
    let server = Server::start(dir.path(), &set).await;
    let until = Instant::now() + length();
    let devices: JoinSet<i64> =
        (0..DEVICES).map(|number| device(server.mqtt, number, until)).collect();
    let (sent, (), looks) =
        tokio::join!(devices.join_all(), people(&server, until), looks(server.pid(), until));
    let third = looks.len() / 3;
    let most = |part: &[Held], of: fn(&Held) -> u64| part.iter().map(of).max().expect("looks");
    let (middle, end) = (&looks[third..2 * third], &looks[2 * third..]);
    let figures = [
        ("resident MB", (|h: &Held| h.resident_mb) as fn(&Held) -> u64, 40),
        ("open files", |h: &Held| h.files, 40),
        ("threads", |h: &Held| h.threads, 16),
    ];
    for (name, of, more) in figures {
        let (before, after) = (most(middle, of), most(end, of));
        println!("{name}: at most {before} in the second third, {after} in the last");
        // Within a minute caches still fill; over hours a tenth is the tolerance.
        let allowed = if length() < Duration::from_secs(600) { before } else { before / 10 };
        assert!(
            after <= before + allowed + more,
            "{name} grow from {before} to {after}: {looks:?}"
        );
    }
    let sent: i64 = sent.iter().sum();
    println!("{sent} readings in {:?}", length());
    server.wait_for("SELECT count(*) FROM telemetry", sent).await;
    server.stop().await;
}
