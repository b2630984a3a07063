//! Downloading an image: in ranges, after an interruption at any byte, only by those who may, and never
//! an image that was changed.

use acuvim_firmware_registry::Sample;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{HARDWARE, release, upload};
use crate::{fleet::until, harness::Server};

async fn register(server: &Server, id: &str) {
    let device = server.device(id).await;
    let body = json!({ "device_id": id, "hardware": HARDWARE, "firmware_version": "1.1.0" });
    device.publish("devices/register", body.to_string(), false).await.expect("registered");
    until(server, &format!("/api/devices/{id}"), |d| d["hardware"] == HARDWARE).await;
}

/// The URL that a device is offered; gives the device a new secret.
async fn offered(server: &Server, id: &str) -> String {
    let path = format!("/api/devices/{id}/credentials");
    let made: Value = server.post(&path, &json!({})).await.json().await.expect("JSON");
    offered_to(server, id, made["password"].as_str().expect("a secret")).await
}

async fn offered_to(server: &Server, id: &str, secret: &str) -> String {
    let check = server.client.get(format!("{}/api/firmware/check", server.http));
    let answer = check.basic_auth(id, Some(secret)).send().await.expect("an answer");
    let offered: Value = answer.json().await.expect("JSON");
    offered["url"].as_str().expect("a URL").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_after_a_cut_at_any_byte() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let image = release(&server, "1.2.0", 3000).await;
    register(&server, "ota-1").await;
    let url = offered(&server, "ota-1").await;
    let get = |headers: &[(&str, String)]| {
        let ask = server.client.get(&url);
        headers.iter().fold(ask, |ask, (name, value)| ask.header(*name, value))
    };
    let whole = get(&[]).send().await.expect("an answer");
    assert_eq!(whole.status(), 200);
    let etag = whole.headers()["etag"].to_str().expect("text").to_owned();
    let hash = STANDARD.encode(Sha256::digest(&image));
    assert_eq!(whole.headers()["digest"], format!("sha-256={hash}").as_str());
    assert_eq!(whole.headers()["repr-digest"], format!("sha-256=:{hash}:").as_str());
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.headers()["content-length"], image.len().to_string().as_str());
    assert_eq!(whole.bytes().await.expect("bytes"), image);
    for cut in 0..image.len() {
        let rest = get(&[("range", format!("bytes={cut}-")), ("if-range", etag.clone())]);
        let rest = rest.send().await.expect("an answer");
        assert_eq!(rest.status(), 206, "cut at {cut}");
        let range = format!("bytes {cut}-{}/{}", image.len() - 1, image.len());
        assert_eq!(rest.headers()["content-range"], range.as_str());
        assert_eq!(rest.headers()["content-length"], (image.len() - cut).to_string().as_str());
        assert_eq!(rest.bytes().await.expect("bytes"), image[cut..]);
    }
    // A download that began with another image gets the whole new one, not the rest of it.
    let other = [("range", "bytes=10-".to_owned()), ("if-range", "\"another\"".to_owned())];
    let all = get(&other).send().await.expect("an answer");
    assert_eq!(
        (all.status().as_u16(), all.bytes().await.expect("bytes").len()),
        (200, image.len())
    );
    let beyond =
        get(&[("range", format!("bytes={}-", image.len()))]).send().await.expect("an answer");
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{}", image.len()).as_str());
    let known = get(&[("if-none-match", etag.clone())]).send().await.expect("an answer");
    assert_eq!((known.status().as_u16(), known.bytes().await.expect("bytes").len()), (304, 0));
    let head = server.client.head(&url).send().await.expect("an answer");
    assert_eq!(head.headers()["content-length"], image.len().to_string().as_str());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_changed_in_the_store_is_not_served_and_raises_an_alert() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &[]).await;
    let image = release(&server, "1.2.0", 50_000).await;
    register(&server, "ota-1").await;
    let url = offered(&server, "ota-1").await;
    let fetch = async || server.client.get(&url).send().await.expect("an answer");
    assert_eq!(fetch().await.bytes().await.expect("bytes"), image);
    let stored = std::fs::read_dir(dir.path().join("firmware")).expect("a folder");
    let stored = stored.map(|entry| entry.expect("an entry").path()).next().expect("an image");
    let mut changed = image.clone();
    changed[25_000] ^= 1;
    std::fs::write(&stored, &changed).expect("written");
    // From memory the image is still the uploaded one; it is refused once the store is checked again.
    let begun = std::time::Instant::now();
    loop {
        let answer = fetch().await;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.expect("bytes");
        if status == 500 {
            let problem: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(problem["code"], "damaged", "{problem}");
            break;
        }
        assert_eq!((status, &bytes[..]), (200, &image[..]), "never the changed bytes");
        assert!(begun.elapsed() < crate::harness::PATIENCE);
        crate::harness::pause(begun).await;
    }
    let alerts = until(&server, "/api/alerts?type=firmware_damaged", |a| a["total"] == 1).await;
    let alert = &alerts["items"][0];
    assert_eq!((&alert["origin"], &alert["severity"]), (&json!("system"), &json!("critical")));
    assert!(alert["message"].as_str().expect("a message").contains("1.2.0"));
    // Also right after a start, when nothing is in memory.
    server.stop().await;
    server = Server::start(dir.path(), &[]).await;
    let url = offered(&server, "ota-1").await;
    assert_eq!(server.client.get(&url).send().await.expect("an answer").status(), 500);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_gets_an_image() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["firmware.device_listen=127.0.0.1:0", "firmware.url_hours=1"];
    let server = Server::start(dir.path(), &set).await;
    release(&server, "1.2.0", 30_000).await;
    release(&server, "1.3.0", 30_000).await;
    for id in ["ota-1", "ota-2"] {
        register(&server, id).await;
    }
    let status = async |request: reqwest::RequestBuilder| {
        request.send().await.expect("an answer").status().as_u16()
    };
    let get = |url: &str| server.client.get(url.to_owned());
    // The URL leads to the plain HTTP listener, which serves nothing else.
    let url = offered(&server, "ota-1").await;
    let line = server.line("acuvim serves");
    let plain = format!("http://{}", line["fields"]["devices"].as_str().expect("an address"));
    assert!(url.starts_with(&plain), "{url}");
    assert_eq!(status(get(&url)).await, 200);
    let normal = url.replace(&plain, &server.http);
    assert_eq!(status(get(&normal)).await, 200);
    // The token is valid for its version only, and can't be altered.
    assert_eq!(status(get(&normal.replace("/1.3.0", "/1.2.0"))).await, 401);
    assert_eq!(status(get(&normal.replace("ota-1", "ota-2"))).await, 401);
    assert_eq!(status(get(&format!("{normal}A"))).await, 401);
    let bare = normal.split('?').next().expect("a URL").to_owned();
    assert_eq!(status(get(&bare)).await, 401);
    assert_eq!(
        status(get(&format!("{bare}?device_id=ota-1"))).await,
        401,
        "not unless it is allowed"
    );
    let token = server.token().await;
    assert_eq!(status(get(&bare).bearer_auth(&token)).await, 200);
    for (path, want) in [
        ("/api/firmware/download/1.3.0", 401),
        ("/api/firmware/check?device_id=ota-1", 401),
        ("/api/devices", 404),
        ("/metrics", 404),
    ] {
        assert_eq!(status(get(&format!("{plain}{path}"))).await, want, "{path}");
    }
    let with_token = get(&format!("{plain}/api/firmware/check")).bearer_auth(&token);
    assert_eq!(status(with_token).await, 403, "no person's token on a plain line");

    // A device's own credentials are valid for itself only, while it is enabled.
    let made: Value =
        server.post("/api/devices/ota-1/credentials", &json!({})).await.json().await.expect("JSON");
    let secret = made["password"].as_str().expect("a secret").to_owned();
    let own = |url: &str| get(url).basic_auth("ota-1", Some(&secret));
    let check = format!("{plain}/api/firmware/check");
    let answer = own(&check).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!((&answer["version"], &answer["mandatory"]), (&json!("1.3.0"), &json!(false)));
    assert_eq!(status(own(&bare)).await, 200);
    assert_eq!(status(own(&format!("{check}?device_id=ota-2"))).await, 403);
    assert_eq!(status(get(&check).basic_auth("ota-1", Some("wrong"))).await, 401);
    // An inactive release is only for devices that were commanded to install it.
    let put = async |path: &str, body: Value| {
        let request = server.client.put(format!("{}{path}", server.http)).bearer_auth(&token);
        request.json(&body).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(put("/api/firmware/1.3.0", json!({ "active": false })).await, 200);
    assert_eq!(status(get(&normal)).await, 403);
    let answer: Value = own(&check).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["version"], "1.2.0");
    let told = json!({ "version": "1.3.0", "device_ids": ["ota-1"] });
    super::deploy(&server, &told).await;
    until(&server, "/api/firmware/check?device_id=ota-1", |c| c["version"] == "1.3.0").await;
    // A download by a person does not count as one by the device.
    let asked: Value =
        server.get("/api/firmware/check?device_id=ota-1").await.json().await.expect("JSON");
    let asked = asked["url"].as_str().expect("a URL").replace(&plain, &server.http);
    assert_eq!(status(get(&asked)).await, 401);
    assert_eq!(status(get(&asked).bearer_auth(&token)).await, 200);
    let rollouts: Value = server.get("/api/firmware/rollouts").await.json().await.expect("JSON");
    let devices = &rollouts["items"][0]["devices"];
    assert_eq!((&devices["downloading"], &devices["installing"]), (&json!(0), &json!(0)));
    let url = offered_to(&server, "ota-1", &secret).await;
    assert_eq!(status(get(&url)).await, 200, "a rollout has told it");
    let patch =
        server.client.patch(format!("{}/api/devices/ota-1", server.http)).bearer_auth(&token);
    let disabled = patch.json(&json!({ "enabled": false })).send().await.expect("an answer");
    assert_eq!(disabled.status(), 200);
    assert_eq!(status(own(&check)).await, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_offers_the_newest_that_fits() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["firmware.allow_bare_device_id=true"]).await;
    for (version, hardware) in [
        ("1.10.0", Some(HARDWARE)),
        ("1.9.0", Some(HARDWARE)),
        ("1.11.0", Some("ESP32-C9 board")),
        ("1.8.0", None),
    ] {
        let image = Sample::application(version, 30_000).bytes();
        let mut parts: Vec<(&str, Option<&str>, &[u8])> = vec![
            ("file", None, &image),
            ("version", None, version.as_bytes()),
            ("mandatory", None, if version == "1.10.0" { b"true" } else { b"false" }),
        ];
        parts.extend(hardware.map(|h| ("hardware", None, h.as_bytes())));
        let (status, made) = upload(&server, &parts).await;
        assert_eq!(status, 201, "{made}");
    }
    register(&server, "ota-1").await;
    let check = async |query: &str| {
        let url = format!("{}/api/firmware/check?{query}", server.http);
        let answer: Value =
            server.client.get(url).send().await.expect("an answer").json().await.expect("JSON");
        answer
    };
    for (query, version) in [
        ("device_id=ota-1", Some("1.10.0")),
        ("device_id=ota-1&current_version=1.9.5", Some("1.10.0")),
        ("device_id=ota-1&current_version=v1.10.0", None),
        ("device_id=ota-1&current_version=2.0.0", None),
        ("device_id=ota-1&current_version=1.10.0-rc.1", Some("1.10.0")),
        ("device_id=ota-1&hardware=Board%208&current_version=1.0.0", Some("1.8.0")),
        ("device_id=ota-1&hardware=ESP32-C9%20board&current_version=1.0.0", Some("1.11.0")),
        ("device_id=ota-1&current_version=dev-build", Some("1.10.0")),
    ] {
        let answer = check(query).await;
        assert_eq!(answer["version"].as_str(), version, "{query}: {answer}");
        assert_eq!(answer["update_available"], version.is_some(), "{query}");
        assert_eq!(answer["mandatory"], version == Some("1.10.0"), "{query}");
    }
    assert_eq!(check("device_id=stranger").await["code"], "unauthorized");
    server.stop().await;
}
