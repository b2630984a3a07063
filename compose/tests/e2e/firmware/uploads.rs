//! Uploads that are refused, each with its reason, and leave nothing behind; and signatures.

use std::process::Command;

use acuvim_firmware_registry::Sample;
use acuvim_rollout::Chip;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{HARDWARE, form, release, upload};
use crate::harness::{PATIENCE, Server, binary};

fn stored(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir.join("firmware")).expect("a folder").count()
}

async fn total(server: &Server) -> Value {
    let list: Value = server.get("/api/firmware").await.json().await.expect("JSON");
    list["total"].clone()
}

/// An image, and the status and words with which it is refused.
struct BadImage(Vec<u8>, u16, &'static str);

/// Images that are wrong in one way each.
fn bad_images(good: &Sample, image: &[u8]) -> Vec<BadImage> {
    let with = |at: usize, byte: u8| {
        let mut other = image.to_vec();
        other[at] = byte;
        other
    };
    let large = Sample::application("1.2.0", 1_970_000).bytes();
    let bootloader = Sample {
        version: None,
        segments: vec![(0x3FFF_0030, 700), (0x4007_8000, 4000)],
        ..good.clone()
    };
    let other_chip = Sample { chip: Chip::Esp32S3, ..good.clone() };
    let overflow = {
        let mut other = image.to_vec();
        other[28..32].copy_from_slice(&0xFFFF_FFFC_u32.to_le_bytes());
        other
    };
    let last = image.len() - 1;
    vec![
        BadImage(Vec::new(), 400, "the file is empty"),
        BadImage(image[..20_000].to_vec(), 400, "the file is incomplete"),
        BadImage(image[..last].to_vec(), 400, "the file is incomplete"),
        BadImage(with(20_000, !image[20_000]), 400, "checksum"),
        BadImage(with(4, !image[4]), 400, "SHA-256 at its end"),
        BadImage(with(last, !image[last]), 400, "SHA-256 at its end"),
        BadImage(with(0, 0x7F), 400, "not an ESP32 image"),
        BadImage(with(1, 0), 400, "segments"),
        BadImage(with(12, 77), 400, "the chip id 77 is unknown"),
        BadImage(overflow, 400, "multiple of 4 under 16 MiB"),
        BadImage(bootloader.bytes(), 400, "bootloader"),
        BadImage(other_chip.bytes(), 400, "the image is for the ESP32-S3"),
        BadImage(large, 413, "larger than the slot"),
        BadImage(b"<html></html>".to_vec(), 400, "not an ESP32 image"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_by_name_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let good = Sample::application("1.2.0", 40_000);
    let image = good.bytes();
    for BadImage(file, status, says) in bad_images(&good, &image) {
        let parts: [(&str, Option<&str>, &[u8]); 3] = [
            ("version", None, b"1.2.0"),
            ("hardware", None, HARDWARE.as_bytes()),
            ("file", Some("a.bin"), &file),
        ];
        let (got, answer) = upload(&server, &parts).await;
        assert_eq!(got, status, "{says}: {answer}");
        assert!(answer["detail"].as_str().expect("a detail").contains(says), "{says}: {answer}");
    }
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("../../../etc/cron.d/x y.bin"), &image);
    for (parts, says) in [
        (vec![file], "version"),
        (vec![("version", None, &b"1.2.0"[..])], "file"),
        (vec![file, ("version", None, b"../1.2.0")], "semantic version"),
        (vec![file, ("version", None, b"v1.2.0")], "semantic version"),
        (vec![file, ("version", None, b"1.2")], "semantic version"),
        (
            vec![file, ("version", None, b"1.2.0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")],
            "semantic version",
        ),
        (vec![file, ("version", None, b"1.2.0"), ("version", None, b"1.2.1")], "twice"),
        (vec![file, ("version", None, b"1.2.0"), ("verison", None, b"1")], "known parts"),
        (vec![file, ("version", None, b"1.2.0"), ("mandatory", None, b"yes")], "true or false"),
        (vec![file, ("version", None, b"1.2.0"), ("checksum", None, b"00")], "changed on its way"),
        (vec![file, ("version", None, b"1.2.0"), ("signature", None, b"{}")], "signature"),
        (vec![file, ("version", None, b"1.2.0"), ("release_notes", None, b"\xFF\xFE")], "UTF-8"),
    ] {
        let (status, answer) = upload(&server, &parts).await;
        assert_eq!(status, 400, "{says}: {answer}");
        assert!(answer["detail"].as_str().expect("a detail").contains(says), "{says}: {answer}");
    }
    let json = server.post("/api/firmware", &json!({})).await;
    assert_eq!(json.status(), 415);
    cut_at_99_percent(&server, &image).await;
    assert_eq!((total(&server).await, stored(dir.path())), (json!(0), 0), "nothing is left");

    // A hostile file name is harmless, and another version in the image is only a warning.
    let parts: [(&str, Option<&str>, &[u8]); 2] = [file, ("version", None, b"1.2.1")];
    let (status, made) = upload(&server, &parts).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["filename"], "x_y.bin", "{made}");
    assert!(made["warnings"][0].as_str().expect("a warning").contains("`1.2.0`"), "{made}");
    assert_eq!(made["image"]["chip"], "ESP32");
    // The same bytes again return the same release; other bytes are a conflict.
    let (status, again) = upload(&server, &parts).await;
    assert_eq!((status, &again["id"]), (200, &made["id"]));
    let other = Sample { seed: 99, ..good.clone() }.bytes();
    let parts: [(&str, Option<&str>, &[u8]); 2] =
        [("file", None, &other), ("version", None, b"1.2.1")];
    assert_eq!(upload(&server, &parts).await.0, 409);
    assert_eq!((total(&server).await, stored(dir.path())), (json!(1), 1));
    server.stop().await;
}

/// Sends the form without its end, and disconnects.
async fn cut_at_99_percent(server: &Server, image: &[u8]) {
    let (content_type, body) = form(&[("version", None, b"1.2.0"), ("file", Some("a.bin"), image)]);
    let address = server.http.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let head = format!(
        "POST /api/firmware HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        server.token().await,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&body[..body.len() * 99 / 100]).await.expect("written");
    stream.shutdown().await.expect("shut down");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the server lets go of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_one_version_at_once_make_one_release() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    for round in 0..5 {
        let version = format!("2.0.{round}");
        let images =
            [1, 2].map(|seed| Sample { seed, ..Sample::application(&version, 100_000) }.bytes());
        let parts = |image: &'static [u8], version: &'static [u8]| {
            [("file", Some("a.bin"), image), ("version", None, version)]
        };
        let leak = |bytes: Vec<u8>| -> &'static [u8] { bytes.leak() };
        let version = leak(version.into_bytes());
        let [one, other] = images.map(leak);
        let (one, other) = (parts(one, version), parts(other, version));
        let (first, second) = tokio::join!(upload(&server, &one), upload(&server, &other));
        let mut statuses = [first.0, second.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{first:?} {second:?}");
    }
    assert_eq!((total(&server).await, stored(dir.path())), (json!(5), 5));
    server.stop().await;
}

fn acuvim(args: &[&str]) -> String {
    let output = Command::new(binary()).arg("firmware").args(args).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_signatures_required_only_what_was_signed_is_taken() {
    let dir = tempfile::tempdir().expect("dir");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let image = Sample::application("1.2.0", 40_000).bytes();
    std::fs::write(path("a.bin"), &image).expect("written");
    let (old, new) = (
        acuvim(&["keys", "--out", &path("old.pem")]),
        acuvim(&["keys", "--out", &path("new.pem")]),
    );
    acuvim(&["keys", "--out", &path("stranger.pem")]);
    let sign = |key: &str, version: &str, out: &str| {
        let args = ["sign", &path("a.bin"), "--version", version, "--hardware", HARDWARE];
        let files = ["--key", &path(key), "--out", &path(out)];
        let terms = ["--sequence", "12", "--expires-days", "30"];
        acuvim(&[&args[..], &terms, &files].concat());
        std::fs::read_to_string(path(out)).expect("a signature")
    };
    let by_old = sign("old.pem", "1.2.0", "old.sig");
    let by_new = sign("new.pem", "1.3.0", "new.sig");
    let by_stranger = sign("stranger.pem", "1.2.0", "stranger.sig");
    assert!(acuvim(&["inspect", &path("a.bin")]).contains("version   1.2.0"));
    assert!(
        acuvim(&["verify", &path("a.bin"), "--signature", &path("old.sig"), "--public-key", &old])
            .starts_with("good")
    );
    let args = ["firmware", "verify", &path("a.bin"), "--signature", &path("old.sig")];
    let refused = Command::new(binary()).args(args).args(["--public-key", &new]).output();
    assert!(!refused.expect("it runs").status.success());

    let keys = format!("firmware.public_keys={old},{new}");
    let data = dir.path().join("data");
    let set =
        ["firmware.require_signature=true", keys.as_str(), "firmware.allow_bare_device_id=true"];
    let server = Server::start(&data, &set).await;
    let send = async |version: &str, hardware: &str, signature: Option<&str>| {
        let mut parts: Vec<(&str, Option<&str>, &[u8])> = vec![
            ("file", Some("a.bin"), &image),
            ("version", None, version.as_bytes()),
            ("hardware", None, hardware.as_bytes()),
        ];
        parts.extend(signature.map(|s| ("signature", None, s.as_bytes())));
        let (status, answer) = upload(&server, &parts).await;
        (status, answer["detail"].as_str().unwrap_or_default().to_owned())
    };
    let tampered = by_old.replace("1.2.0", "1.2.9");
    for (version, hardware, signature, says) in [
        ("1.2.0", HARDWARE, None, "require_signature"),
        ("1.2.0", HARDWARE, Some(by_stranger.as_str()), "none of firmware.public_keys"),
        ("1.2.9", HARDWARE, Some(tampered.as_str()), "none of firmware.public_keys"),
        ("1.2.1", HARDWARE, Some(by_old.as_str()), "version"),
        ("1.2.0", "T-Call v2", Some(by_old.as_str()), "hardware"),
        ("1.2.0", HARDWARE, Some("nonsense"), "acuvim firmware sign"),
    ] {
        let (status, said) = send(version, hardware, signature).await;
        assert!(status == 400 && said.contains(says), "{says}: {status} {said}");
    }
    assert_eq!(total(&server).await, json!(0));
    assert_eq!(send("1.2.0", HARDWARE, Some(&by_old)).await.0, 201, "the key before");
    assert_eq!(send("1.3.0", HARDWARE, Some(&by_new)).await.0, 201, "and the one after a rotation");

    manifest_and_no_other_way(&server, &by_new).await;
    server.stop().await;
    let bad = Server::spawn(&data, &["firmware.require_signature=true"], &[]).ended();
    assert!(bad.contains("firmware.public_keys"), "{bad}");
}

/// The device gets the manifest exactly as it was signed, and no command can make it fetch an image that
/// was not checked.
async fn manifest_and_no_other_way(server: &Server, signature: &str) {
    let device = server.device("ota-1").await;
    let register =
        json!({ "device_id": "ota-1", "hardware": HARDWARE, "firmware_version": "1.1.0" });
    device.publish("devices/register", register.to_string(), false).await.expect("registered");
    crate::fleet::until(server, "/api/devices/ota-1", |d| d["hardware"] == HARDWARE).await;
    let url = format!("{}/api/firmware/check?device_id=ota-1", server.http);
    let offered: Value =
        server.client.get(url).send().await.expect("an answer").json().await.expect("JSON");
    let kept: Value = serde_json::from_str(signature).expect("JSON");
    assert_eq!(offered["manifest"], kept, "{offered}");
    let elsewhere =
        json!({ "url": "http://elsewhere.example/x", "version": "9", "checksum": "a".repeat(64) });
    let update = json!({ "command": "ota_update", "params": elsewhere });
    let config = json!({ "section": "ota", "values": { "url": "http://elsewhere.example/x" } });
    let raw = json!({ "command": "OTA_UPDATE", "params": elsewhere, "raw": true });
    for (path, body) in [("command", update), ("command", raw), ("config", config)] {
        let answer = server.post(&format!("/api/devices/ota-1/{path}"), &body).await;
        assert_eq!(answer.status(), 400, "{body}");
        let said = answer.text().await.expect("text");
        assert!(said.contains("firmware.require_signature"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_scopes_hold_for_firmware_too() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    release(&server, "1.2.0", 30_000).await;
    for id in ["mine", "theirs"] {
        let device = server.device(id).await;
        let register =
            json!({ "device_id": id, "hardware": HARDWARE, "firmware_version": "1.1.0" });
        device.publish("devices/register", register.to_string(), false).await.expect("registered");
        crate::fleet::until(&server, &format!("/api/devices/{id}"), |d| d["hardware"] == HARDWARE)
            .await;
    }
    let key = json!({ "name": "site", "role": "Operator", "scope": { "device_ids": ["mine"], "group_ids": [] } });
    let made: Value = server.post("/api/keys", &key).await.json().await.expect("JSON");
    let secret = made["secret"].as_str().expect("a secret");
    let post = async |path: &str, body: Value| {
        let request = server.client.post(format!("{}{path}", server.http)).bearer_auth(secret);
        let answer = request.json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let get = async |path: &str| {
        let request = server.client.get(format!("{}{path}", server.http)).bearer_auth(secret);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let theirs =
        super::deploy(&server, &json!({ "version": "1.2.0", "device_ids": ["theirs"] })).await;
    assert_eq!(get(&format!("/api/firmware/rollouts/{theirs}")).await.0, 404);
    assert_eq!(post(&format!("/api/firmware/rollouts/{theirs}/abort"), json!({})).await.0, 404);
    assert_eq!(get("/api/firmware/rollouts").await.1["total"], 0);
    assert_eq!(get("/api/firmware/check?device_id=theirs").await.0, 404);
    let (status, said) =
        post("/api/firmware/deploy", json!({ "version": "1.2.0", "device_ids": ["theirs"] })).await;
    assert_eq!(status, 422, "{said}");
    let gate = json!({ "version": "1.2.0", "device_ids": ["mine"], "rollout": { "health_gate_sql": "SELECT true" } });
    assert_eq!(post("/api/firmware/deploy", gate).await.0, 403, "a gate sees every device");
    let (status, made) =
        post("/api/firmware/deploy", json!({ "version": "1.2.0", "device_ids": ["mine"] })).await;
    assert_eq!(status, 202, "{made}");
    assert_eq!(get("/api/firmware/rollouts").await.1["total"], 1);

    // Group and tag select the same devices, which are in a rollout already.
    let group: Value =
        server.post("/api/groups", &json!({ "name": "site" })).await.json().await.expect("JSON");
    let group = group["id"].as_str().expect("an id");
    let members = json!({ "add": ["mine", "theirs"], "remove": [] });
    assert_eq!(server.post(&format!("/api/groups/{group}/members"), &members).await.status(), 200);
    let patch = server.client.patch(format!("{}/api/devices/mine", server.http));
    let tagged = patch.bearer_auth(server.token().await).json(&json!({ "tags": ["north"] }));
    assert_eq!(tagged.send().await.expect("an answer").status(), 200);
    for (path, body, says) in [
        (
            "/api/firmware/deploy",
            json!({ "version": "1.2.0", "group_id": group }),
            "none of 2 devices",
        ),
        (
            &format!("/api/groups/{group}/deploy"),
            json!({ "version": "1.2.0" }),
            "none of 2 devices",
        ),
        (
            "/api/firmware/deploy",
            json!({ "version": "1.2.0", "tag": "north" }),
            "none of 1 devices",
        ),
        (
            "/api/firmware/deploy",
            json!({ "version": "1.2.0", "tag": "south" }),
            "no device is meant",
        ),
    ] {
        let answer = server.post(path, &body).await;
        let status = answer.status().as_u16();
        let said = answer.text().await.expect("text");
        assert!(status == 422 && said.contains(says), "{path} {body}: {status} {said}");
    }
    server.stop().await;
}
