//! A minimal client of the live hub: a thousand of them use next to no CPU.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::server::Server;

/// A connection to the hub.
pub struct WebSocket {
    socket: TcpStream,
    calls: u32,
}

impl WebSocket {
    /// Connects, optionally with a receive buffer of this size, to be a slow client.
    pub async fn open(server: &Server, receive_buffer: Option<u32>) -> anyhow::Result<Self> {
        let (host, token) = server.address_and_token();
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut socket = socket.connect(host.parse()?).await?;
        socket.set_nodelay(true)?;
        let request = format!(
            "GET /hubs/devices?access_token={token} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut client = Self { socket, calls: 0 };
        client.send(&json!({"protocol": "json", "version": 1})).await?;
        client.receive().await.context("a greeting")?;
        Ok(client)
    }

    /// Calls a method and waits for its result.
    pub async fn call(&mut self, method: &str, argument: &Value) -> anyhow::Result<()> {
        self.calls += 1;
        let id = self.calls.to_string();
        let call =
            json!({"type": 1, "invocationId": id, "target": method, "arguments": [argument]});
        self.send(&call).await?;
        loop {
            let text = self.receive().await.context("an answer")?;
            if text.contains("\"type\":3") {
                ensure!(text.contains("\"result\""), "{text}");
                return Ok(());
            }
        }
    }

    async fn send(&mut self, message: &Value) -> std::io::Result<()> {
        let text = format!("{message}\u{1e}");
        let size = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut frame = match size {
            small @ 0..126 => vec![0x81, 0x80 | small.to_be_bytes()[1]],
            size => [vec![0x81, 0x80 | 126], size.to_be_bytes().to_vec()].concat(),
        };
        // The mask is zero.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.socket.write_all(&frame).await
    }

    /// The next text; none once the connection is closed. Who is asked whether they are there says so.
    pub async fn receive(&mut self) -> Option<String> {
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
                1 if payload == b"{\"type\":6}\x1e" => self.send(&json!({"type": 6})).await.ok()?,
                1 => return String::from_utf8(payload).ok(),
                8 => return None,
                _ => {}
            }
        }
    }

    /// Reads one byte, if there is one, and says that it is there.
    pub async fn byte(&mut self) {
        let _ = self.socket.try_read(&mut [0]);
        let _ = self.send(&json!({"type": 6})).await;
    }
}
