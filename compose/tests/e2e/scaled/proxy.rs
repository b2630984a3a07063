//! A proxy in front of the object store that can refuse or delay requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Passes,
    /// Answers 503, like S3 under too much load.
    Refuses,
    /// Passes a request on after this time.
    Waits(Duration),
}

/// The running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    refused: Arc<Mutex<u64>>,
}

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.\
                         </Message></Error>";

impl Proxy {
    pub async fn open(store: &str) -> Self {
        let store = store.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mood, watch) = watch::channel(Mood::Passes);
        let refused = Arc::new(Mutex::new(0));
        let count = Arc::clone(&refused);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (store, watch, count) = (store.clone(), watch.clone(), Arc::clone(&count));
                tokio::spawn(pass(client, store, watch, count));
            }
        });
        Self { address, mood, refused }
    }

    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn refused(&self) -> u64 {
        *self.refused.lock().expect("a count")
    }
}

/// Serves a connection until the mood changes.
async fn pass(
    mut client: TcpStream,
    store: String,
    mut mood: watch::Receiver<Mood>,
    refused: Arc<Mutex<u64>>,
) {
    let now = *mood.borrow_and_update();
    let work = async {
        match now {
            Mood::Refuses => {
                let mut head = vec![0; 64 << 10];
                let _ = client.read(&mut head).await?;
                *refused.lock().expect("a count") += 1;
                let answer = format!(
                    "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{SLOW_DOWN}",
                    SLOW_DOWN.len()
                );
                client.write_all(answer.as_bytes()).await?;
                client.shutdown().await
            }
            Mood::Passes | Mood::Waits(_) => {
                if let Mood::Waits(time) = now {
                    tokio::time::sleep(time).await;
                }
                let mut store = TcpStream::connect(store).await?;
                copy_bidirectional(&mut client, &mut store).await.map(|_| ())
            }
        }
    };
    tokio::select! {
        _ = work => {}
        _ = mood.changed() => {}
    }
}
