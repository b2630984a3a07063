//! Receivers of webhooks and of mails.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::harness::{PATIENCE, root};

/// A call of a webhook.
#[derive(Debug, Clone)]
pub struct Call {
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Call {
    /// Whether its signature fits its id, time and body. HMAC (RFC 2104) is written out here, independent of
    /// the code under test.
    pub fn is_signed(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
        let (id, at) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        let signed = format!("{id}.{at}.{}", self.text);
        let pad = |with: u8| -> Vec<u8> {
            (0..64).map(|n| key.get(n).copied().unwrap_or(0) ^ with).collect()
        };
        let inner = Sha256::digest([pad(0x36), signed.into_bytes()].concat());
        let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
        self.headers["webhook-signature"] == format!("v1,{}", STANDARD.encode(outer))
    }
}

/// An HTTP server that gives every call the same answer.
pub struct Receiver {
    pub at: SocketAddr,
    pub calls: Arc<Mutex<Vec<Call>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens on an address, and answers with this head.
    pub async fn listen(at: &str, answer: &str) -> Self {
        let listener = TcpListener::bind(at).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (kept, answer) = (Arc::clone(&calls), answer.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Some(call) = serve(socket, &answer).await {
                    kept.lock().expect("lock").push(call);
                }
            }
        });
        Self { at, calls, task }
    }

    pub fn all(&self) -> Vec<Call> {
        self.calls.lock().expect("lock").clone()
    }

    /// Waits for a call.
    pub async fn until(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        let begun = Instant::now();
        loop {
            if let Some(call) = self.all().into_iter().find(|call| wanted(call)) {
                return call;
            }
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.all());
            crate::harness::pause(begun).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, answer: &str) -> Option<Call> {
    let mut socket = tokio::io::BufReader::new(socket);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    socket.read_exact(&mut body).await.ok()?;
    let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.ok()?;
    let text = String::from_utf8(body).ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(Call { headers, text, body })
}

/// A real mail server.
pub struct Mailbox {
    child: Child,
    pub port: u16,
    mails: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Mailbox {
    pub fn open() -> Self {
        let mut child = Command::new(root().join("target/python/bin/python"))
            .arg(root().join("compose/tests/clients/mail.py"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let port = lines.next().expect("a line").expect("text").parse().expect("a port");
        let (sender, mails) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, port, mails }
    }

    /// The next mail.
    pub async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.mails.recv()).await;
        serde_json::from_str(&line.expect("a mail").expect("it runs")).expect("JSON")
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
