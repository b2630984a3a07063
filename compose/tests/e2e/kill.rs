//! `kill -9` under load: every acknowledged reading is stored exactly once, every acknowledged bad
//! message is one dead letter, and nothing else is stored. The tests of the processor switch single
//! guards off and show what they are for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use acuvim_simulator::mqtt::Connection;
use acuvim_wire::device::partition_of;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, Server, T0, connect, reading};

const DEVICES: u32 = 6;

/// Partitions of the log by default.
const PARTITIONS: u32 = 4;

/// Prefix of the ids of devices that only show how far the stream has read.
const MARKER: &str = "marker-";

const SETTINGS: &[&str] = &[
    "lake.flush_interval_ms=120",
    "lake.compaction_interval_ms=100",
    "lake.compaction_fan_in=3",
    "mqtt.websocket_listen=127.0.0.1:0",
];

/// What the devices sent, how often, and whether it was acknowledged.
#[derive(Default)]
struct Sent {
    readings: BTreeMap<(String, i64), (usize, bool)>,
    bad: BTreeMap<String, bool>,
}

/// How often each reading and each bad payload is stored.
struct Stored {
    readings: HashMap<(String, i64), usize>,
    dead: HashMap<String, usize>,
}

/// The moments for a kill: after a log line with these words, or at any time.
const STAGES: [(&str, &[&str]); 6] = [
    ("any moment, appends among them", &[]),
    ("dead letters written, not committed", &["dead_letters", "flush written"]),
    ("between the tables' commits", &["dead_letters", "flush committed"]),
    ("readings written, not committed", &["\"telemetry\"", "flush written"]),
    ("just behind a flush", &["\"telemetry\"", "flush committed"]),
    ("in a compaction", &["compaction begun"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_every_moment_lose_nothing_and_double_nothing() {
    // `./dev nightly` sets more.
    let kills = std::env::var("ACUVIM_KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(24);
    let (sent, stored, hits) = run(kills).await;
    println!("kills by moment: {hits:?}; {} readings, {} bad", sent.readings.len(), sent.bad.len());
    assert!(STAGES.iter().all(|(stage, _)| hits.contains_key(stage)), "every moment was hit");
    assert_eq!(readings_faults(&sent, &stored), Vec::<String>::new());
    assert_eq!(dead_faults(&sent, &stored), Vec::<String>::new());
    assert!(sent.readings.len() > 500 && sent.bad.len() > 50, "the load ran");
}

/// Readings that are not stored exactly once.
fn readings_faults(sent: &Sent, stored: &Stored) -> Vec<String> {
    let mut faults = Vec::new();
    for (reading, (_, acknowledged)) in &sent.readings {
        let times = stored.readings.get(reading).copied().unwrap_or(0);
        if times > 1 || (*acknowledged && times == 0) {
            faults.push(format!("{reading:?} is there {times} times"));
        }
    }
    let strangers = stored.readings.keys().filter(|r| !sent.readings.contains_key(*r));
    faults.extend(strangers.map(|r| format!("{r:?} was never sent")));
    faults
}

/// Bad messages that are not stored exactly once.
fn dead_faults(sent: &Sent, stored: &Stored) -> Vec<String> {
    let mut faults = Vec::new();
    for (payload, acknowledged) in &sent.bad {
        let times = stored.dead.get(payload).copied().unwrap_or(0);
        if times > 1 || (*acknowledged && times == 0) {
            faults.push(format!("{payload} is there {times} times"));
        }
    }
    let strangers = stored.dead.keys().filter(|p| !sent.bad.contains_key(*p));
    faults.extend(strangers.map(|p| format!("{p} was never sent")));
    faults
}

async fn run(kills: u32) -> (Sent, Stored, BTreeMap<&'static str, u32>) {
    let dir = tempfile::tempdir().expect("dir");
    let sent = Arc::new(Mutex::new(Sent::default()));
    let (address, at) = watch::channel(None);
    let stop = CancellationToken::new();
    let devices: Vec<_> = (0..DEVICES)
        .map(|n| tokio::spawn(device(n, at.clone(), Arc::clone(&sent), stop.clone())))
        .collect();
    let mut hits = BTreeMap::new();
    for kill in 0..kills {
        let server = Server::start(dir.path(), SETTINGS).await;
        address.send_replace(Some(server.mqtt));
        let (stage, words) = STAGES[kill as usize % STAGES.len()];
        if moment(&server, kill, words).await {
            *hits.entry(stage).or_insert(0) += 1;
        }
        address.send_replace(None);
        server.kill();
    }
    let server = Server::start(dir.path(), SETTINGS).await;
    address.send_replace(Some(server.mqtt));
    // The devices have reconnected and go on.
    let acknowledged = || {
        let sent = sent.lock().expect("sent");
        sent.readings.values().filter(|(_, acknowledged)| *acknowledged).count()
    };
    let (before, begun) = (acknowledged(), Instant::now());
    while acknowledged() < before + DEVICES as usize {
        assert!(begun.elapsed() < PATIENCE, "no device sends");
        crate::harness::pause(begun).await;
    }
    stop.cancel();
    for device in devices {
        device.await.expect("device");
    }
    let stored = settled(&server).await;
    server.stop().await;
    check_again(dir.path(), SETTINGS, &stored).await;
    let sent = Arc::into_inner(sent).expect("the last").into_inner().expect("sent");
    (sent, stored, hits)
}

/// Waits for the moment of a kill; false if it did not come.
async fn moment(server: &Server, kill: u32, words: &[&str]) -> bool {
    let mut lines = server.stages();
    if words.is_empty() {
        // Spread over the time of a start and a flush, the same in every run.
        let pause = 20 + (u64::from(kill) * 7919) % 600;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        return true;
    }
    let wanted = async {
        loop {
            match lines.recv().await {
                Ok(line) if words.iter().all(|word| line.contains(word)) => return true,
                Ok(_) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or(false)
}

/// One device across all kills of the server: it sends good readings until they are acknowledged, bad
/// messages once.
async fn device(
    number: u32,
    mut at: watch::Receiver<Option<SocketAddr>>,
    sent: Arc<Mutex<Sent>>,
    stop: CancellationToken,
) {
    let id = format!("dev-{number}");
    let topic = format!("acuvim/{id}/telemetry");
    let mut connection: Option<Connection> = None;
    let mut n = 0_i64;
    while !stop.is_cancelled() {
        let Some(open) = &connection else {
            let address = *at.borrow_and_update();
            match address {
                Some(address) => connection = Connection::open(&connect(address, &id)).await.ok(),
                None => {
                    let _ = tokio::time::timeout(Duration::from_millis(100), at.changed()).await;
                }
            }
            continue;
        };
        let (payload, times, bad) = message(&id, n);
        note(&sent, &id, &times, bad.as_deref(), false);
        let acknowledged = open.publish(&topic, payload, false).await.is_ok();
        if acknowledged {
            note(&sent, &id, &times, bad.as_deref(), true);
        } else {
            connection = None;
        }
        if acknowledged || bad.is_some() {
            n += 1;
        }
    }
}

/// Message `n` of a device: a reading, a late one, a batch, a repetition, or nonsense.
fn message(id: &str, n: i64) -> (String, Vec<i64>, Option<String>) {
    let live = T0 + n * 1000;
    match n % 10 {
        3 => {
            let bad = format!("nonsense {id} {n}");
            (bad.clone(), vec![], Some(bad))
        }
        5 => {
            let late = T0 - 86_400_000 - n * 1000;
            (reading(late), vec![late], None)
        }
        7 => {
            let times = vec![live, live + 100, live + 200];
            let items: Vec<_> = times.iter().map(|t| reading(*t)).collect();
            (items.join("\n"), times, None)
        }
        9 => (reading(live - 1000), vec![live - 1000], None),
        _ => (reading(live), vec![live], None),
    }
}

fn note(sent: &Mutex<Sent>, id: &str, times: &[i64], bad: Option<&str>, acknowledged: bool) {
    let mut sent = sent.lock().expect("sent");
    for ts in times {
        let entry = sent.readings.entry((id.to_owned(), *ts)).or_default();
        if acknowledged {
            entry.1 = true;
        } else {
            entry.0 += 1;
        }
    }
    if let Some(bad) = bad {
        let entry = sent.bad.entry(bad.to_owned()).or_default();
        *entry |= acknowledged;
    }
}

/// What is stored once the stream has caught up. Comparing with the acknowledged messages is not enough,
/// since the log may have messages whose acknowledgement was lost. So a marker is sent through each
/// partition: once it is visible, everything before it is.
async fn settled(server: &Server) -> Stored {
    let mut markers = BTreeMap::new();
    for id in (0..).map(|n| format!("{MARKER}{n}")) {
        markers.entry(partition_of(id.as_bytes(), PARTITIONS)).or_insert(id);
        if markers.len() == PARTITIONS as usize {
            break;
        }
    }
    for id in markers.values() {
        let device = server.device(id).await;
        let topic = format!("acuvim/{id}/telemetry");
        device.publish(&topic, reading(T0), false).await.expect("ack");
    }
    let visible = format!("SELECT count(*) FROM telemetry WHERE device_id LIKE '{MARKER}%'");
    server.wait_for(&visible, PARTITIONS.into()).await;
    read(server).await
}

/// Everything that is stored, without the markers.
async fn read(server: &Server) -> Stored {
    let readings = format!(
        "SELECT device_id, CAST(ts AS BIGINT) / 1000, count(*) FROM telemetry \
         WHERE device_id NOT LIKE '{MARKER}%' GROUP BY 1, 2"
    );
    let readings = server.sql(&readings).await;
    let dead =
        server.sql("SELECT CAST(payload AS VARCHAR), count(*) FROM dead_letters GROUP BY 1").await;
    assert!(!readings.truncated && !dead.truncated);
    let text = |v: &serde_json::Value| v.as_str().expect("text").to_owned();
    let number = |v: &serde_json::Value| v.as_i64().expect("a number");
    let count = |v: &serde_json::Value| usize::try_from(number(v)).expect("a count");
    Stored {
        readings: readings
            .rows
            .iter()
            .map(|r| ((text(&r[0]), number(&r[1])), count(&r[2])))
            .collect(),
        dead: dead.rows.iter().map(|r| (text(&r[0]), count(&r[1]))).collect(),
    }
}

/// Checks that the next process returns the same rows.
async fn check_again(dir: &Path, settings: &[&str], stored: &Stored) {
    let server = Server::start(dir, settings).await;
    let again = read(&server).await;
    let keys = |s: &Stored| s.readings.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&again), keys(stored));
    assert_eq!(again.dead, stored.dead);
    server.stop().await;
}
