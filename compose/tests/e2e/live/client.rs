//! Live clients: Microsoft's own in Node, a raw WebSocket, and a reader of server-sent events.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::harness::{PATIENCE, Server, root};

/// What a client received, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub event: String,
    pub args: Vec<Value>,
}

/// The official client in Node.
pub struct Official {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    pub told: Vec<Told>,
}

impl Official {
    /// Connects, and waits until it is connected.
    pub async fn connect(server: &Server, transport: &str, subscription: &str) -> Self {
        let token = server.token().await;
        let url = format!("{}/hubs/devices", server.http);
        let mut child = Command::new("node")
            .arg(root().join("compose/tests/clients/hub.mjs"))
            .args([&url, &token, transport, subscription])
            .env("CLIENTS", root().join("target/clients"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let stdout = child.stdout.take().expect("stdout");
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut client = Self { child, lines, told: Vec::new() };
        client.until(|told| told.event == "connected").await;
        client
    }

    /// Waits until something new is received.
    pub async fn until(&mut self, wanted: impl Fn(&Told) -> bool) -> Told {
        let waiting = async {
            loop {
                let line = self.lines.recv().await.expect("the client is there");
                let line: Value = serde_json::from_str(&line).expect("a line of JSON");
                let told = Told {
                    event: line["event"].as_str().expect("event").to_owned(),
                    args: line["args"].as_array().expect("args").clone(),
                };
                self.told.push(told.clone());
                if wanted(&told) {
                    return told;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("not told: {:#?}", self.told))
    }

    /// What was received of one kind.
    pub fn of(&self, event: &str) -> Vec<&Told> {
        self.told.iter().filter(|told| told.event == event).collect()
    }
}

impl Drop for Official {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of server-sent events.
pub struct Stream {
    reader: tokio::io::BufReader<OwnedReadHalf>,
    _writer: OwnedWriteHalf,
    /// The id of the last event that had one.
    pub last: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: Option<String>,
    pub event: String,
    pub data: Value,
}

impl Stream {
    /// Requests events, after an id if there is one.
    pub async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        Self::ask(server, &server.token().await, query, last).await
    }

    /// The same with a given token or key.
    pub async fn with_token(server: &Server, token: &str, query: &str) -> Self {
        Self::ask(server, token, query, None).await
    }

    async fn ask(server: &Server, token: &str, query: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let host = server.http.trim_start_matches("http://");
        let request = format!(
            "GET /api/events?access_token={token}{query} HTTP/1.1\r\nHost: {host}\r\n\
             Accept: text/event-stream\r\n{last}\r\n"
        );
        let socket = TcpStream::connect(host).await.expect("connect");
        let (reader, mut writer) = socket.into_split();
        writer.write_all(request.as_bytes()).await.expect("sent");
        let mut reader = tokio::io::BufReader::new(reader);
        let status = line(&mut reader).await.expect("an answer");
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        while line(&mut reader).await.is_some_and(|line| !line.is_empty()) {}
        Self { reader, _writer: writer, last: None, status }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Sent> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<Sent> {
        let (mut event, mut data, mut id) = (String::new(), None, None);
        loop {
            let line = line(&mut self.reader).await?;
            // The sizes of chunks are between the lines; a chunk of size 0 is the last.
            if line == "0" {
                return None;
            }
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("event", text)) => text.clone_into(&mut event),
                Some(("data", text)) => data = serde_json::from_str(text).ok(),
                _ if line.is_empty() => {
                    self.last = id.clone().or_else(|| self.last.take());
                    if let Some(data) = data.take() {
                        return Some(Sent { id, event, data });
                    }
                    id = None;
                }
                _ => {}
            }
        }
    }
}

async fn line(reader: &mut tokio::io::BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// A WebSocket without a library, to send what no real client sends.
pub struct Raw {
    pub socket: TcpStream,
}

impl Raw {
    /// Upgrades with additional headers; returns the status if it is not 101.
    pub async fn open(http: &str, path: &str, headers: &str) -> Result<Self, u16> {
        let host = http.trim_start_matches("http://");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        // A small buffer, so that the kernel keeps little of what is not read.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 << 10).expect("a small buffer");
        let mut socket = socket.connect(host.parse().expect("an address")).await.expect("connect");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        match head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status") {
            101 => Ok(Self { socket }),
            status => Err(status),
        }
    }

    /// Connects as the admin, and does the handshake.
    pub async fn greeted(server: &Server) -> Self {
        let path = format!("/hubs/devices?access_token={}", server.token().await);
        let mut raw = Self::open(&server.http, &path, "").await.expect("an upgrade");
        raw.say("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
        assert_eq!(raw.hear().await.as_deref(), Some("{}\u{1e}"));
        raw
    }

    /// Sends a text frame.
    pub async fn say(&mut self, text: &str) {
        let _ = self.socket.write_all(&frame(text.as_bytes())).await;
    }

    /// The next text frame; `None` once the connection is closed.
    pub async fn hear(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame")
    }

    async fn read(&mut self) -> Option<String> {
        loop {
            let opcode = self.socket.read_u8().await.ok()? & 0x0f;
            let size = match self.socket.read_u8().await.ok()? & 0x7f {
                126 => usize::from(self.socket.read_u16().await.ok()?),
                127 => usize::try_from(self.socket.read_u64().await.ok()?).ok()?,
                small => usize::from(small),
            };
            let mut payload = vec![0; size];
            self.socket.read_exact(&mut payload).await.ok()?;
            match opcode {
                // Answers a ping.
                1 if payload == b"{\"type\":6}\x1e" => self.say("{\"type\":6}\u{1e}").await,
                1 => return String::from_utf8(payload).ok(),
                8 => return None,
                _ => {}
            }
        }
    }

    /// Waits for the close record, or for the end of the connection.
    pub async fn last_words(&mut self) -> String {
        let (begun, mut last) = (Instant::now(), String::new());
        while let Some(text) = self.hear().await {
            assert!(begun.elapsed() < PATIENCE, "it is not closed");
            last = text;
        }
        last
    }
}

/// A masked text frame as clients send it; a mask of zeros leaves the text as it is.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        size @ 0..126 => frame.push(0x80 | size as u8),
        size @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// If nothing arrives for this long, nothing more is expected.
pub const QUIET: Duration = Duration::from_millis(700);
