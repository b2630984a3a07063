//! Finds the end of each MQTT packet in a stream, to tell when what was counted is complete.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use mqtt5::{MqttError, broker::transport::WebSocketTransport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unfinished::Unfinished;

/// A stream of MQTT packets, below which the bytes are counted.
pub(super) struct Packets<S> {
    stream: S,
    unfinished: Arc<Unfinished>,
    framing: Framing,
}

impl<S> Packets<S> {
    pub fn new(stream: S, unfinished: Arc<Unfinished>) -> Self {
        Self { stream, unfinished, framing: Framing::default() }
    }
}

/// The position within the current packet (MQTT 5.0, section 2.1).
#[derive(Debug, Default)]
struct Framing {
    next: Next,
    /// Bytes of the current packet so far.
    begun: usize,
}

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, Default)]
enum Next {
    /// The packet type.
    #[default]
    Type,
    /// The remaining length, of which so many bits are known.
    Length { known: usize, bits: u32 },
    /// The rest of the packet, which has so many bytes.
    Body(usize),
}

impl Framing {
    /// Advances over bytes; returns whether any packet ended among them.
    fn advance(&mut self, mut bytes: &[u8]) -> bool {
        let mut completed = false;
        while let Some(first) = bytes.first() {
            let (passed, next) = match self.next {
                Next::Type => (1, Next::Length { known: 0, bits: 0 }),
                Next::Length { known, bits } => {
                    let known = known | (usize::from(first & 0x7f) << bits);
                    // At most four bytes; the crate refuses a length with more.
                    match first & 0x80 != 0 && bits < 21 {
                        true => (1, Next::Length { known, bits: bits + 7 }),
                        false => (1, Next::Body(known)),
                    }
                }
                Next::Body(left) => {
                    let passed = left.min(bytes.len());
                    (passed, Next::Body(left - passed))
                }
            };
            bytes = bytes.get(passed..).unwrap_or_default();
            let ends = matches!(next, Next::Body(0));
            (self.next, self.begun) = match ends {
                true => (Next::Type, 0),
                false => (next, self.begun + passed),
            };
            completed |= ends;
        }
        completed
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
        if self.framing.advance(buf.filled().get(before..).unwrap_or_default()) {
            self.unfinished.completed(self.framing.begun);
        }
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

/// The only transport of the broker crate that accepts any stream.
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> WebSocketTransport for Packets<S> {
    fn peer_addr(&self) -> mqtt5::Result<SocketAddr> {
        Err(MqttError::InvalidState("the address is known where it was accepted".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        sync::Semaphore,
    };

    use super::*;
    use crate::broker::counted::Counted;

    fn budget(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes))
    }

    /// The two ends of a connection, and what is counted of it.
    fn connection(
        budget: &Arc<Semaphore>,
    ) -> (DuplexStream, Packets<Counted<DuplexStream>>, Arc<Unfinished>) {
        let (client, server) = duplex(16 << 20);
        let unfinished = Unfinished::new(Arc::clone(budget), Duration::from_millis(300));
        let counted = Counted::new(server, Arc::clone(&unfinished));
        (client, Packets::new(counted, Arc::clone(&unfinished)), unfinished)
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

    /// A PUBLISH of so many bytes, the last of which are missing.
    fn publish(length: usize, missing: usize) -> Vec<u8> {
        let mut bytes = vec![0x32];
        let mut rest = length;
        loop {
            let more = if rest > 0x7f { 0x80 } else { 0 };
            bytes.push(u8::try_from(rest & 0x7f).expect("seven bits") | more);
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        bytes.resize(bytes.len() + length - missing, 0);
        bytes
    }

    #[test]
    fn packets_end_where_their_length_says() {
        let mut framing = Framing::default();
        assert!(framing.advance(&[0xc0, 0]), "a PINGREQ has no body");
        assert!(!framing.advance(&[0x32, 3, 1, 2]));
        assert_eq!(framing.begun, 4);
        assert!(framing.advance(&[3]));
        assert_eq!(framing.begun, 0);
        // Several in one read, and the beginning of another.
        assert!(framing.advance(&[0xc0, 0, 0x32, 1, 9, 0x32, 2]));
        assert_eq!(framing.begun, 2);
    }

    #[test]
    fn a_length_of_several_bytes_is_read_byte_by_byte() {
        for length in [127, 128, 16_383, 16_384, 2_097_152] {
            let packet = publish(length, 0);
            let mut framing = Framing::default();
            let (last, rest) = packet.split_last().expect("not empty");
            for byte in rest {
                assert!(!framing.advance(std::slice::from_ref(byte)), "{length}");
            }
            assert_eq!(framing.begun, rest.len());
            assert!(framing.advance(std::slice::from_ref(last)), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The network cuts the stream anywhere. What counts as complete must not depend on it.
        #[test]
        fn the_end_of_a_packet_is_found_however_the_bytes_come(
            lengths in prop::collection::vec(prop_oneof![0_usize..5, 120_usize..140, 16_380_usize..16_390], 1..6),
            missing in 0_usize..5, cuts in prop::collection::vec(1_usize..4000, 1..10),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for length in lengths {
                bytes.extend(publish(length, 0));
                ends.push(bytes.len());
            }
            bytes.extend(publish(100, missing));
            if missing == 0 {
                ends.push(bytes.len());
            }
            let (mut framing, mut at, mut sizes) = (Framing::default(), 0, cuts.iter().cycle());
            while at < bytes.len() {
                let to = (at + sizes.next().expect("a cycle")).min(bytes.len());
                let completed = framing.advance(&bytes[at..to]);
                prop_assert_eq!(completed, ends.iter().any(|end| (at + 1..=to).contains(end)));
                let last = ends.iter().rev().find(|end| **end <= to).expect("the beginning");
                prop_assert_eq!(framing.begun, to - last);
                at = to;
            }
        }
    }

    #[test]
    fn a_length_without_end_is_not_followed() {
        let mut framing = Framing::default();
        framing.advance(&[0x32, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(framing.next, Next::Body(_)), "{framing:?}");
    }

    #[tokio::test]
    async fn an_endless_connect_is_cut_off_early() {
        let (mut client, mut packets, _) = connection(&budget(1 << 30));
        client.write_all(&publish(3 << 20, 1)).await.expect("written");
        let error = drain(&mut packets).await.expect_err("cut off");
        assert!(error.to_string().contains("before a login"), "{error}");
    }

    #[tokio::test]
    async fn incomplete_packets_share_a_budget_and_complete_ones_give_it_back() {
        let all = budget(1 << 20);
        let (mut one, mut of_one, unfinished) = connection(&all);
        unfinished.logged_in();
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
        // The end of the packet, and the beginning of the next.
        one.write_all(&[0, 0x32]).await.expect("written");
        drain(&mut of_one).await.expect("whole");
        assert_eq!(all.available_permits(), 1 << 20);
        one.write_all(&publish(900_000, 1)[1..]).await.expect("written");
        drain(&mut of_one).await.expect("there is room again");
        assert!(all.available_permits() < 200_000);
        drop((of_one, unfinished));
        drop(one);
        assert_eq!(all.available_permits(), 1 << 20, "a connection that ends gives it back");
    }

    #[tokio::test]
    async fn a_packet_that_stops_in_the_middle_ends_the_connection() {
        let all = budget(1 << 20);
        let (mut client, mut packets, unfinished) = connection(&all);
        unfinished.logged_in();
        // A little over what is free, so that the bytes do not extend the deadline.
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
        // A small one may take its time: keep-alive ends those connections.
        let (mut client, mut packets, unfinished) = connection(&all);
        unfinished.logged_in();
        client.write_all(&publish(1000, 1)).await.expect("written");
        assert_eq!(packets.read(&mut chunk).await.expect("read"), 1002);
        let waited = tokio::time::timeout(Duration::from_secs(1), packets.read(&mut chunk)).await;
        assert!(waited.is_err(), "nothing ends it");
    }
}
