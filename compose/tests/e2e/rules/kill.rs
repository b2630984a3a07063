//! `kill -9` with open episodes and with `for` times under way: none is lost, doubled or restarted.

use serde_json::json;

use super::{Episode, Limits, QUICK, T0, alerts, episodes, expected, only_rule, volts};
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread")]
async fn episodes_and_their_waiting_times_survive_kills() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &QUICK).await;
    let rule = json!({
        "name": "r", "alert_type": "over", "when": "voltage_l1_v > 250",
        "clear_when": "voltage_l1_v < 245", "for_seconds": 30, "clear_for_seconds": 30
    });
    only_rule(&server, rule).await;
    // Each device is at another point of the same pattern when a kill comes.
    let story = |device: i64, step: i64| match (step + 3 * device) % 20 {
        0..=8 => 255.0,
        9..=10 => 247.0,
        _ => 230.0,
    };
    let devices = 10_i64;
    let steps = 60_i64;
    for step in 0..steps {
        let talk = server.device("all").await;
        for device in 0..devices {
            let ts = T0 + step * 10_000;
            let topic = format!("acuvim/d{device}/telemetry");
            talk.publish(&topic, volts(ts, story(device, step)), false).await.expect("ack");
        }
        if step % 6 == 5 {
            server.kill();
            server = Server::start(dir.path(), &QUICK).await;
        }
    }
    // The expected episodes, computed from the pattern alone.
    let limits =
        Limits { raise_above: 250.0, clear_below: 245.0, for_seconds: 30, clear_for_seconds: 30 };
    let of = |device| expected(device, (0..steps).map(move |step| story(device, step)), &limits);
    let mut wanted: Vec<Episode> = (0..devices).flat_map(of).collect();
    wanted.sort_unstable();
    let count = wanted.len();
    let found = alerts(&server, "type=over", |a| {
        let open = a.iter().filter(|a| a["resolved_at"].is_null()).count();
        a.len() == count && open == wanted.iter().filter(|w| w.ended.is_none()).count()
    })
    .await;
    assert_eq!(episodes(&found), wanted);
    let ended = wanted.iter().filter(|w| w.ended.is_some()).count();
    let events = |event: &str| {
        format!("SELECT count(*) FROM alert_events WHERE event = '{event}' AND alert_type = 'over'")
    };
    server.wait_for(&events("raised"), i64::try_from(count).expect("n")).await;
    server.wait_for(&events("cleared"), i64::try_from(ended).expect("n")).await;
    let balance = "SELECT sum(received) - sum(stored) - sum(heartbeats) - sum(noted)
        - sum(duplicates) - sum(dead_letters) - sum(same_ts) FROM ledger WHERE device_id IS NULL";
    assert_eq!(server.number(balance).await, 0);
    println!("{count} episodes of {devices} devices through {} kills", steps / 6);
    server.stop().await;
}
