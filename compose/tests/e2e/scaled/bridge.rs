//! The bridge with a real Mosquitto, everything else embedded: messages that the broker keeps while we are
//! offline, older protocols, TLS, shared subscriptions.

use std::{net::SocketAddr, process::Command, time::Instant};

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::load::expect_outages;
use crate::{
    harness::{PATIENCE, Server, T0, connect, reading},
    services::Services,
};

fn mosquitto(services: &Services) -> SocketAddr {
    tokio::task::block_in_place(|| services.mosquitto()).parse().expect("an address")
}

async fn publish(broker: SocketAddr, device: &str, from: i64, count: i64) {
    let connection = Connection::open(&connect(broker, device)).await.expect("Mosquitto");
    for n in from..from + count {
        let topic = format!("acuvim/{device}/telemetry");
        connection.publish(&topic, reading(T0 + n * 1000), false).await.expect("ack");
    }
    connection.close().await;
}

const COUNT: &str = "SELECT count(*) FROM telemetry";

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_we_are_away_waits_at_the_broker() {
    let services = Services::new();
    let broker = mosquitto(&services);
    let dir = tempfile::tempdir().expect("dir");
    let url = format!("mqtt.url=mqtt://{broker}");
    let server = Server::start(dir.path(), &[&url]).await;
    connected(&server).await;
    publish(broker, "d1", 0, 10).await;
    server.wait_for(COUNT, 10).await;
    server.stop().await;
    publish(broker, "d1", 10, 500).await;
    let server = Server::start(dir.path(), &[&url]).await;
    server.wait_for(COUNT, 510).await;
    server.kill();
    publish(broker, "d1", 510, 500).await;
    let server = Server::start(dir.path(), &[&url]).await;
    server.wait_for(COUNT, 1010).await;
    server.stop().await;
}

/// Waits until the bridge has its subscriptions.
async fn connected(server: &Server) {
    let begun = Instant::now();
    loop {
        let answer = server.client.get(format!("{}/readyz", server.http)).send().await;
        if answer.expect("an answer").status() == 200 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the bridge does not connect");
        crate::harness::pause(begun).await;
    }
}

/// A broker that knows 3.1.1 only: Mosquitto behind a proxy that closes on a CONNECT of MQTT 5.
async fn old_broker(behind: SocketAddr) -> SocketAddr {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let at = proxy.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 64];
                let read = client.read(&mut head).await.unwrap_or(0);
                // The byte after "MQTT" is the protocol level.
                let name = head.windows(4).position(|w| w == b"MQTT");
                if name.is_none_or(|at| head[at + 4] == 5) {
                    return;
                }
                let Ok(mut broker) = TcpStream::connect(behind).await else { return };
                if broker.write_all(&head[..read]).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                }
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_3_1_1_alone_is_spoken_to_in_that() {
    let services = Services::new();
    let broker = mosquitto(&services);
    let old = old_broker(broker).await;
    let dir = tempfile::tempdir().expect("dir");
    let url = format!("mqtt.url=mqtt://{old}");
    let mut server = Server::start(dir.path(), &[&url]).await;
    expect_outages(&mut server);
    connected(&server).await;
    publish(broker, "d1", 0, 300).await;
    server.wait_for(COUNT, 300).await;
    server.kill();
    publish(broker, "d1", 300, 300).await;
    let server = Server::start(dir.path(), &[&url, "mqtt.version=3.1.1"]).await;
    server.wait_for(COUNT, 600).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_logins_are_checked_and_a_refused_one_is_named() {
    let services = Services::new();
    let folder = services.dir();
    let path = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b", &path("passwords"), "acuvim", "right"])
        .status()
        .expect("mosquitto_passwd");
    assert!(made.success());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let tls = free.local_addr().expect("address").port();
    drop(free);
    let (cert, key, passwords) = (path("cert.pem"), path("key.pem"), path("passwords"));
    std::fs::write(
        path("mosquitto.extra"),
        format!(
            "password_file {passwords}\nlistener {tls} 127.0.0.1\nallow_anonymous false\n\
             certfile {cert}\nkeyfile {key}\n"
        ),
    )
    .expect("write");
    let broker = mosquitto(&services);
    let url = format!("mqtt.url=mqtts://localhost:{tls}");
    let trusted = format!("mqtt.ca_file={cert}");
    let login = ["mqtt.username=acuvim", "mqtt.password=right"];
    for (settings, says) in [
        (vec![url.as_str(), login[0], login[1]], "certificate"),
        (vec![&url, &trusted, login[0], "mqtt.password=wrong"], "NotAuthorized"),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let mut server = Server::start(dir.path(), &settings).await;
        expect_outages(&mut server);
        let begun = Instant::now();
        loop {
            let answer = server.client.get(format!("{}/readyz", server.http)).send().await;
            let answer: Value = answer.expect("an answer").json().await.expect("json");
            let reason = answer["not_ready"][0]["reason"].as_str().unwrap_or_default();
            if answer["not_ready"][0]["component"] == "mqtt" && reason.contains(says) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{says}: {answer}");
            crate::harness::pause(begun).await;
        }
        server.stop().await;
    }
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &[&url, &trusted, login[0], login[1]]).await;
    expect_outages(&mut server);
    connected(&server).await;
    let options = ConnectOptions {
        login: Some(("acuvim".to_owned(), "right".to_owned())),
        ..connect(broker, "d1")
    };
    let device = Connection::open(&options).await.expect("Mosquitto");
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("ack");
    server.wait_for(COUNT, 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_of_one_group_share_telemetry_and_one_client_id_has_one_bridge() {
    let services = Services::new();
    let broker = mosquitto(&services);
    let url = format!("mqtt.url=mqtt://{broker}");
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let group = "mqtt.share_group=acuvim";
    let first = Server::start(one.path(), &[&url, group, "mqtt.client_id=bridge-1"]).await;
    let second = Server::start(two.path(), &[&url, group, "mqtt.client_id=bridge-2"]).await;
    connected(&first).await;
    connected(&second).await;
    publish(broker, "d1", 0, 200).await;
    let begun = Instant::now();
    let (a, b) = loop {
        let (a, b) = (first.number(COUNT).await, second.number(COUNT).await);
        if a + b >= 200 {
            break (a, b);
        }
        assert!(begun.elapsed() < PATIENCE, "{a} and {b}");
        crate::harness::pause(begun).await;
    };
    assert_eq!(a + b, 200, "each message comes to one of them");
    assert!(a > 0 && b > 0, "{a} and {b}: shared");
    first.stop().await;
    second.stop().await;
}
