//! What of a connection may be in memory before a packet of it is whole: little before it has logged
//! in, and from then on a part of a budget that all connections share. And how long that may last.
//!
//! The broker crate reads into a buffer that grows with the packet, up to 4 MiB, and a websocket's
//! message is gathered before the crate sees any of it: thousands of connections that begin packets
//! and never end them would take all memory there is.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use acuvim_schemas::address::network;
use mqtt5::{MqttError, broker::transport::WebSocketTransport};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};

/// Bytes that a client may send before it has logged in: a CONNECT with a will, and a websocket's
/// handshake.
const BEFORE_LOGIN: usize = 32 << 10;

/// Bytes of an unfinished packet that are taken out of no budget, and may stay for ever: every
/// connection has buffers of that size anyway.
const FREE: usize = 8 << 10;

/// How long what is unfinished may take, and how many more bytes there must be for each second
/// beyond: slower than the worst of modems.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const BYTES_A_SECOND: usize = 512;

/// How a connection is getting on, as its layers and its login see it.
#[derive(Debug)]
pub(super) struct Progress {
    logged_in: AtomicBool,
    budget: Arc<Semaphore>,
    patience: Duration,
    unfinished: Mutex<Unfinished>,
}

#[derive(Debug, Default)]
struct Unfinished {
    bytes: usize,
    /// When they became more than [`FREE`].
    since: Option<Instant>,
    /// Their part of the budget.
    held: Option<OwnedSemaphorePermit>,
}

impl Progress {
    /// Of a new connection; the budget has a permit for each byte.
    pub fn new(budget: Arc<Semaphore>, patience: Duration) -> Arc<Self> {
        let (logged_in, unfinished) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { logged_in, budget, patience, unfinished })
    }

    /// It has shown who it is.
    pub fn logged_in(&self) {
        self.logged_in.store(true, Ordering::Relaxed);
        self.whole(0);
    }

    /// Bytes have come.
    fn arrived(&self, bytes: usize) -> io::Result<()> {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.bytes += bytes;
        if !self.logged_in.load(Ordering::Relaxed) {
            return match unfinished.bytes > BEFORE_LOGIN {
                true => Err(too_much("more than a CONNECT has, before a login")),
                false => Ok(()),
            };
        }
        if unfinished.bytes <= FREE {
            return Ok(());
        }
        // No packet is longer: this is something else, such as pings of a websocket without end.
        if unfinished.bytes > super::MAX_PACKET + BEFORE_LOGIN {
            return Err(too_much("more than a packet has, and no packet"));
        }
        unfinished.since.get_or_insert_with(Instant::now);
        let held = unfinished.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(unfinished.bytes - held).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.budget);
        let Ok(permit) = budget.try_acquire_many_owned(more) else {
            return Err(too_much("as many unfinished packets wait as mqtt.unfinished_mb lets"));
        };
        match &mut unfinished.held {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// A packet is whole; so many bytes of the next one are there.
    fn whole(&self, begun: usize) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if self.logged_in.load(Ordering::Relaxed) {
            *unfinished = Unfinished { bytes: begun, since: None, held: None };
        }
    }

    /// By when there must be more, if anything is unfinished that counts.
    fn due(&self) -> Option<Instant> {
        let unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let more = unfinished.bytes.saturating_sub(FREE) / BYTES_A_SECOND;
        let seconds = u64::try_from(more).unwrap_or(u64::MAX);
        Some(unfinished.since? + self.patience + Duration::from_secs(seconds))
    }
}

fn too_much(why: &'static str) -> io::Error {
    metrics::counter!("acuvim_mqtt_too_much_total").increment(1);
    io::Error::new(io::ErrorKind::OutOfMemory, why)
}

/// The bytes of a connection as the network brings them: each is counted.
pub(super) struct Counted<S> {
    stream: S,
    progress: Arc<Progress>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Counted<S> {
    pub fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress, alarm: None }
    }

    /// Fails once what is unfinished has been so for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(due) = self.progress.due() else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a packet does not end")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(self.progress.arrived(buf.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_late(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The MQTT packets of a connection: says when one is whole.
pub(super) struct Packets<S> {
    stream: S,
    progress: Arc<Progress>,
    at: Place,
    /// Bytes of the packet that is not whole yet.
    begun: usize,
}

/// Where in a packet the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Kind,
    /// In its length, of which so many bits are known.
    Length {
        known: usize,
        bits: u32,
    },
    /// So many bytes before its end.
    Body(usize),
}

impl<S> Packets<S> {
    pub fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress, at: Place::Kind, begun: 0 }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        let mut whole = false;
        while !bytes.is_empty() {
            whole |= self.step(&mut bytes);
        }
        if whole {
            self.progress.whole(self.begun);
        }
    }

    /// Passes over the next byte, or the next of a body; answers whether a packet ends there.
    fn step(&mut self, bytes: &mut &[u8]) -> bool {
        let first = bytes.first().copied().unwrap_or_default();
        let (passed, next) = match self.at {
            Place::Kind => (1, Place::Length { known: 0, bits: 0 }),
            Place::Length { known, bits } => {
                let known = known | (usize::from(first & 0x7f) << bits);
                // Four bytes at most; the crate refuses a length that has more.
                match first & 0x80 != 0 && bits < 21 {
                    true => (1, Place::Length { known, bits: bits + 7 }),
                    false => (1, Place::Body(known)),
                }
            }
            Place::Body(left) => {
                let passed = left.min(bytes.len());
                (passed, Place::Body(left - passed))
            }
        };
        *bytes = bytes.get(passed..).unwrap_or_default();
        let ends = matches!(next, Place::Body(0));
        (self.at, self.begun) = match ends {
            true => (Place::Kind, 0),
            false => (next, self.begun + passed),
        };
        ends
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Packets<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.take(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Packets<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The one transport of the crate that takes a stream of ours.
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> WebSocketTransport for Packets<S> {
    fn peer_addr(&self) -> mqtt5::Result<std::net::SocketAddr> {
        Err(MqttError::InvalidState("the address is known where it was accepted".to_owned()))
    }
}

/// The connections that have not logged in yet: so many in all, and half of them of one address.
#[derive(Debug)]
pub(super) struct Silent {
    most: usize,
    of: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among them.
#[derive(Debug)]
pub(super) struct SilentPlace {
    of: Arc<Silent>,
    network: IpAddr,
}

impl Silent {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, of: Mutex::default() })
    }

    /// A place for a connection from an address; none if there is none left for it.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<SilentPlace> {
        let network = network(from);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of.values().sum();
        let here = of.get(&network).copied().unwrap_or_default();
        if all >= self.most || here >= self.most.div_ceil(2) {
            return None;
        }
        of.insert(network, here + 1);
        Some(SilentPlace { of: Arc::clone(self), network })
    }
}

impl Drop for SilentPlace {
    fn drop(&mut self) {
        let mut of = self.of.of.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(of.remove(&self.network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    fn budget(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes))
    }

    /// A connection's two ends, and how it is getting on.
    fn connection(
        budget: &Arc<Semaphore>,
    ) -> (DuplexStream, Packets<Counted<DuplexStream>>, Arc<Progress>) {
        let (client, server) = duplex(16 << 20);
        let progress = Progress::new(Arc::clone(budget), Duration::from_millis(300));
        let counted = Counted::new(server, Arc::clone(&progress));
        (client, Packets::new(counted, Arc::clone(&progress)), progress)
    }

    /// Reads as the broker crate does, until nothing is left or it fails.
    async fn drain(packets: &mut Packets<Counted<DuplexStream>>) -> io::Result<usize> {
        let mut read = 0;
        let mut chunk = [0; 4096];
        while let Ok(got) =
            tokio::time::timeout(Duration::from_millis(50), packets.read(&mut chunk)).await
        {
            read += got?;
        }
        Ok(read)
    }

    /// A PUBLISH of so many bytes, of which the last are missing.
    fn publish(length: usize, missing: usize) -> Vec<u8> {
        let mut bytes = vec![0x32];
        let mut rest = length;
        while rest > 0 {
            let more = if rest > 0x7f { 0x80 } else { 0 };
            bytes.push(u8::try_from(rest & 0x7f).expect("seven bits") | more);
            rest >>= 7;
        }
        bytes.resize(bytes.len() + length - missing, 0);
        bytes
    }

    #[tokio::test]
    async fn a_connect_that_does_not_end_is_cut_off_early() {
        let (mut client, mut packets, _) = connection(&budget(1 << 30));
        client.write_all(&publish(3 << 20, 1)).await.expect("written");
        let error = drain(&mut packets).await.expect_err("cut off");
        assert!(error.to_string().contains("before a login"), "{error}");
    }

    #[tokio::test]
    async fn unfinished_packets_share_a_budget_and_whole_ones_give_it_back() {
        let all = budget(1 << 20);
        let (mut one, mut of_one, progress) = connection(&all);
        progress.logged_in();
        one.write_all(&publish(900_000, 1)).await.expect("written");
        assert!(drain(&mut of_one).await.expect("there is room") > 800_000);
        assert!(all.available_permits() < 200_000, "it is counted");
        // No room for a second one; small ones need none.
        let (mut two, mut of_two, other) = connection(&all);
        other.logged_in();
        two.write_all(&publish(1000, 0)).await.expect("written");
        drain(&mut of_two).await.expect("small");
        two.write_all(&publish(900_000, 1)).await.expect("written");
        let error = drain(&mut of_two).await.expect_err("no room");
        assert!(error.to_string().contains("mqtt.unfinished_mb"), "{error}");
        drop((two, of_two, other));
        // Its end, and the beginning of the next.
        one.write_all(&[0, 0x32]).await.expect("written");
        drain(&mut of_one).await.expect("whole");
        assert_eq!(all.available_permits(), 1 << 20);
        one.write_all(&publish(900_000, 1)[1..]).await.expect("written");
        drain(&mut of_one).await.expect("there is room again");
        assert!(all.available_permits() < 200_000);
        drop((of_one, progress));
        drop(one);
        assert_eq!(all.available_permits(), 1 << 20, "a connection that ends gives it back");
    }

    #[tokio::test]
    async fn a_packet_that_stops_in_the_middle_ends_the_connection() {
        let all = budget(1 << 20);
        let (mut client, mut packets, progress) = connection(&all);
        progress.logged_in();
        // A little over what is free, so that no second is added for its bytes.
        client.write_all(&publish(1 << 20, (1 << 20) - 8200)).await.expect("written");
        let mut chunk = [0; 4096];
        let begun = Instant::now();
        let error = loop {
            if let Err(error) = packets.read(&mut chunk).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        // A small one may take its time: keep-alive is what ends those.
        let (mut client, mut packets, progress) = connection(&all);
        progress.logged_in();
        client.write_all(&publish(1000, 1)).await.expect("written");
        assert_eq!(packets.read(&mut chunk).await.expect("read"), 1002);
        let waited = tokio::time::timeout(Duration::from_secs(1), packets.read(&mut chunk)).await;
        assert!(waited.is_err(), "nothing ends it");
    }

    #[test]
    fn one_silent_address_takes_half_of_the_places() {
        let silent = Silent::new(10);
        let enter = |text: &str| silent.enter(text.parse().expect("an address"));
        let mut held: Vec<_> = (0..10).filter_map(|_| enter("192.0.2.1")).collect();
        assert_eq!(held.len(), 5);
        held.extend((0..10_u8).filter_map(|n| enter(&format!("2001:db8::{n:x}"))));
        assert_eq!(held.len(), 10, "a network of IPv6 counts as one address");
        assert!(enter("192.0.2.2").is_none(), "all are taken");
        held.truncate(9);
        assert!(enter("192.0.2.2").is_some());
        held.clear();
        assert!(silent.of.lock().expect("unpoisoned").is_empty());
    }
}
