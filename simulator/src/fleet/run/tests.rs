//! One device of the fleet against a broker that acknowledges everything.

use acuvim_wire::payload::{Payload, parse};

use super::*;
use crate::testing::{Broker, Published, Session, published};

fn options(port: u16) -> FleetOptions {
    FleetOptions {
        host: "127.0.0.1".into(),
        port,
        topic_prefix: "acuvim".into(),
        devices: 1,
        interval: Duration::from_millis(5),
        seed: 1,
        duplicates: 1.0,
        bad: 1.0,
        sd_drains: true,
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "{what}");
}

/// Acknowledges everything, and sends a command to who subscribes. Returns what was published.
async fn serve(mut session: Session) -> Vec<Published> {
    let mut all = Vec::new();
    while let Some(packet) = session.packet().await {
        if let Some(message) = published(&packet) {
            session.acknowledge(&message).await;
            all.push(message);
        } else if let (0x82, body) = &packet {
            session.send(&[0x90, 3, body[0], body[1], 1]).await;
            session.publish("x/cmd", r#"{"request_id":"r1","command":"reboot"}"#).await;
        }
    }
    all
}

#[tokio::test]
async fn a_device_registers_says_that_it_is_online_and_sends_what_it_counts() {
    let broker = Broker::start().await;
    let (report, stop) = (Report::default(), CancellationToken::new());
    let fleet = tokio::spawn(run(options(broker.port()), report.clone(), stop.clone()));
    let (session, _) = broker.accept(0).await;
    let served = tokio::spawn(serve(session));
    until("readings, a card and answers", || {
        let totals = report.totals();
        totals.sd_readings > 0 && totals.answers == 2 && totals.heartbeats > 1
    })
    .await;
    stop.cancel();
    fleet.await.expect("it ends");
    let all = served.await.expect("served");
    let totals = report.totals();

    assert_eq!(all[0].topic, "devices/register");
    let id = Meter::new(1, 0).device_id;
    let topic = |kind: &str| format!("acuvim/{id}/{kind}");
    assert_eq!((&all[1].topic, all[1].retained), (&topic("status"), true));
    assert!(all[2..].iter().all(|message| !message.retained), "only the status is kept");
    let of = |kind: &str| all.iter().filter(|m| m.topic == topic(kind)).collect::<Vec<_>>();
    // The last message may have been on its way when the fleet was stopped.
    let about = |sent: usize, counted: u64| {
        let counted = usize::try_from(counted).expect("few");
        assert!(sent == counted || sent == counted + 1, "{sent} were sent, {counted} counted");
    };
    about(of("heartbeat").len(), totals.heartbeats);
    about(of("resp").len(), totals.answers);
    let cards = totals.sd_readings / 60;
    about(of("telemetry").len(), totals.readings + totals.repeated + totals.bad + cards);
    assert_eq!((totals.sd_readings, totals.broken), (60, 0));
    let readings = of("telemetry");
    assert_eq!(readings[0].payload, readings[1].payload, "the second one is the repetition");
    let card = readings.iter().find(|m| m.payload.contains("\"source\":\"sd\"")).expect("a card");
    assert_eq!(card.payload.lines().count(), 60);
}

#[tokio::test]
async fn a_fleet_without_a_broker_goes_on_trying_until_it_is_stopped() {
    let broker = Broker::start().await;
    let port = broker.port();
    drop(broker);
    let (report, stop) = (Report::default(), CancellationToken::new());
    let fleet = tokio::spawn(run(options(port), report.clone(), stop.clone()));
    until("a broken connection", || report.totals().broken > 0).await;
    assert!(!fleet.is_finished());
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), fleet).await;
    ended.expect("in time").expect("no panic");
    assert_eq!(Totals { broken: 0, ..report.totals() }, Totals::default());
}

/// Else every device of a demo would be shown with errors.
#[test]
fn the_server_understands_what_a_device_says_of_itself() {
    let id = Meter::new(7, 300).device_id;
    let text = registration(&id);
    let Ok(Payload::Registration(_)) = parse(Kind::Register, &id, text.as_bytes()) else {
        panic!("{text}");
    };
    let json: serde_json::Value = serde_json::from_str(&text).expect("json");
    let mac = json["mac_address"].as_str().expect("a MAC");
    assert_eq!((mac.len(), mac.replace(':', "")), (17, id.replace("ACV-", "")));
    let text = heartbeat(1_795_000_000_000, 12);
    let Ok(Payload::Heartbeat(beat)) = parse(Kind::Heartbeat, &id, text.as_bytes()) else {
        panic!("{text}");
    };
    assert_eq!((beat.heartbeat_interval_s, beat.uptime_ms), (Some(60), Some(120_000)));
}
