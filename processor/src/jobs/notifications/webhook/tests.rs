use super::*;
use crate::jobs::notifications::message::tests::notice;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_tried_again_and_never_reached() {
    let inner = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    inner.set_nonblocking(true).expect("set");
    let port = inner.local_addr().expect("an address").port();
    let caller = Caller::new(AllowedNetworks::default(), Duration::from_secs(5));
    let caller = caller.expect("a caller");
    let named = notice(json!({"url": format!("http://localhost:{port}/")}), 1, 1);
    let attempt = caller.call(&named, DateTime::UNIX_EPOCH).await;
    let Attempt::Retry(reason) = &attempt else { panic!("{attempt:?}") };
    assert!(reason.contains("localhost leads to"), "{reason}");
    let reached = inner.accept().map(|_| ()).expect_err("nobody came");
    assert_eq!(reached.kind(), std::io::ErrorKind::WouldBlock);
    // A plain address is refused for good, because it can't resolve to another one later.
    let plain = notice(json!({"url": format!("http://127.0.0.1:{port}/")}), 1, 1);
    let attempt = caller.call(&plain, DateTime::UNIX_EPOCH).await;
    assert!(matches!(attempt, Attempt::Failed(_)), "{attempt:?}");
}

#[test]
fn it_signs_as_the_specification_does() {
    // The example of the specification's own test vectors.
    let signature = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

/// A receiver on this machine that answers one request, and returns what it got.
struct Receiver {
    port: u16,
    request: tokio::task::JoinHandle<String>,
}

impl Receiver {
    async fn answering(answer: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
            while !is_whole(&got) {
                let read = stream.read(&mut buffer).await.expect("a request");
                assert!(read > 0, "the request ended early");
                got.extend_from_slice(&buffer[..read]);
            }
            let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            String::from_utf8(got).expect("text")
        });
        Self { port, request }
    }
}

/// Whether a request has come with its whole body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

fn local() -> Caller {
    let networks = AllowedNetworks::parse(&["127.0.0.0/8".into()]).expect("a network");
    Caller::new(networks, Duration::from_secs(20)).expect("a caller")
}

async fn answered(answer: &'static str) -> Attempt {
    let receiver = Receiver::answering(answer).await;
    let one = notice(json!({"url": format!("http://127.0.0.1:{}/", receiver.port)}), 1, 1);
    local().call(&one, DateTime::UNIX_EPOCH).await
}

#[tokio::test]
async fn an_answer_decides_whether_a_message_is_tried_again() {
    for success in ["200 OK", "202 Accepted", "204 No Content"] {
        assert_eq!(answered(success).await, Attempt::Accepted(success.into()));
    }
    for later in [
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        assert_eq!(answered(later).await, Attempt::Retry(later.into()));
    }
    let gone = answered("410 Gone").await;
    assert!(matches!(&gone, Attempt::Failed(why) if why.starts_with("410 Gone")), "{gone:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_into_the_network() {
    let inner = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    inner.set_nonblocking(true).expect("set");
    let answer = format!(
        "302 Found\r\nlocation: http://127.0.0.1:{}/",
        inner.local_addr().expect("an address").port()
    );
    let attempt = answered(Box::leak(answer.into_boxed_str())).await;
    let Attempt::Retry(why) = &attempt else { panic!("{attempt:?}") };
    assert!(why.contains("redirects are not followed"), "{why}");
    let reached = inner.accept().map(|_| ()).expect_err("nobody came");
    assert_eq!(reached.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_receiver_can_check_what_it_gets() {
    let receiver = Receiver::answering("200 OK").await;
    let url = format!("http://127.0.0.1:{}/hook?key=abc", receiver.port);
    let now = DateTime::from_timestamp(1_614_265_330, 0).expect("a time");
    let one = notice(json!({ "url": url }), 1, 1);
    local().call(&one, now).await;
    let request = receiver.request.await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("POST /hook?key=abc HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert_eq!(header("webhook-id"), Some(one.id.to_string()));
    assert_eq!(header("webhook-timestamp").as_deref(), Some("1614265330"));
    let secret = one.secret.as_deref().expect("a secret");
    let expected = signature(secret, &one.id.to_string(), 1_614_265_330, body);
    assert_eq!(header("webhook-signature"), Some(expected), "over the body as it was sent");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["type"], &body["count"]), (&json!("raised"), &json!(1)));
}

#[tokio::test]
async fn a_message_without_a_secret_is_not_signed() {
    let receiver = Receiver::answering("200 OK").await;
    let mut one = notice(json!({"url": format!("http://127.0.0.1:{}/", receiver.port)}), 1, 1);
    one.secret = None;
    local().call(&one, DateTime::UNIX_EPOCH).await;
    let request = receiver.request.await.expect("a request").to_lowercase();
    assert!(request.contains("webhook-id") && !request.contains("webhook-signature"), "{request}");
}

#[tokio::test]
async fn an_error_does_not_tell_the_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/services/T000/s3cret");
    let attempt = local().call(&notice(json!({ "url": url }), 1, 1), DateTime::UNIX_EPOCH).await;
    let Attempt::Retry(why) = &attempt else { panic!("{attempt:?}") };
    assert!(!why.contains("s3cret") && !why.is_empty(), "{why}");
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let networks = AllowedNetworks::parse(&["127.0.0.1".into()]).expect("an address");
    let caller = Caller::new(networks, Duration::from_millis(30)).expect("a caller");
    let one = notice(json!({"url": format!("http://127.0.0.1:{port}/")}), 1, 1);
    let attempt = caller.call(&one, DateTime::UNIX_EPOCH).await;
    assert!(matches!(attempt, Attempt::Retry(_)), "{attempt:?}");
    drop(listener);
}

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_called() {
    let caller = Caller::new(AllowedNetworks::default(), Duration::from_secs(5)).expect("a caller");
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "0",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00::1]",
    ] {
        let one = notice(json!({"url": format!("http://{host}/")}), 1, 1);
        let attempt = caller.call(&one, DateTime::UNIX_EPOCH).await;
        let Attempt::Failed(why) = &attempt else { panic!("{host}: {attempt:?}") };
        assert!(why.contains("not a public address"), "{host}: {why}");
    }
    for broken in ["", "nonsense", "http://"] {
        let attempt =
            caller.call(&notice(json!({ "url": broken }), 1, 1), DateTime::UNIX_EPOCH).await;
        assert_eq!(attempt, Attempt::Failed("the webhook's URL is not valid".into()), "{broken}");
    }
}

#[test]
fn a_signature_covers_id_time_and_body_and_depends_on_the_secret() {
    let base = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", 1, "body");
    assert_eq!(signature("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", 1, "body"), base);
    for other in [
        signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx", "id", 1, "body"),
        signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "ie", 1, "body"),
        signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", 2, "body"),
        signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "id", 1, "bodz"),
    ] {
        assert_ne!(other, base);
    }
}
