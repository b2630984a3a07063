//! Connections of slow, silent and numerous clients.

use super::*;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LONG: Duration = Duration::from_secs(20);

async fn served(limits: ConnectionLimits) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let router = Router::new().route("/", get(async || "here"));
    let slots = ConnectionSlots::new(limits, TrustedProxies::default());
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, router, slots, HeaderNames::LowerCase, stop.clone()));
    (at, stop)
}

fn quick() -> ConnectionLimits {
    let (first_request, idle) = (Duration::from_millis(300), Duration::from_millis(600));
    ConnectionLimits { first_request, idle, ..ConnectionLimits::default() }
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut all)).await;
    let _ = read.expect("the server closes");
    String::from_utf8_lossy(&all).into_owned()
}

async fn asked(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut head = [0; 15];
    tokio::time::timeout(LONG, stream.read_exact(&mut head)).await.expect("in time").expect("read");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let (at, stop) = served(quick()).await;
    for said in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        stream.write_all(said).await.expect("written");
        assert_eq!(rest(&mut stream).await, "", "{}", String::from_utf8_lossy(said));
    }
    // Who has asked may ask again, for a while.
    let mut stream = asked(at).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    assert!(
        rest(&mut stream).await.contains("HTTP/1.1 200 OK"),
        "asked after the time of the first request"
    );
    stop.cancel();
}

#[tokio::test]
async fn one_address_has_its_share_and_all_have_a_limit() {
    let limits = ConnectionLimits { of_one_address: 2, ..ConnectionLimits::default() };
    let (at, stop) = served(limits).await;
    let (one, _two) = (asked(at).await, asked(at).await);
    let mut third = TcpStream::connect(at).await.expect("connected");
    assert!(rest(&mut third).await.starts_with("HTTP/1.1 503"), "no slot");
    drop(one);
    let begun = Instant::now();
    loop {
        let mut again = TcpStream::connect(at).await.expect("connected");
        again.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
        if rest(&mut again).await.contains("200 OK") {
            break;
        }
        assert!(begun.elapsed() < LONG, "a slot becomes free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    let slots = ConnectionSlots::new(
        ConnectionLimits { all: 3, of_one_address: 0, ..ConnectionLimits::default() },
        TrustedProxies::default(),
    );
    let enter = |n: u8| slots.enter([192, 0, 2, n].into());
    let held: Vec<_> = (0..9).filter_map(enter).collect();
    assert_eq!(held.len(), 3);
    drop(held);
    assert!(slots.taken.lock().expect("unpoisoned").is_empty());
}
