//! Messages on their way from the connection to the intake, in batches, with a bound on their memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::wire::{Client, Message};
use crate::{accept::Incoming, clock::now, intake::Intake};

/// The most messages and bytes of one append.
pub(super) const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// The most KiB of payloads that wait for the intake. Then nothing more is read from the broker.
const QUEUE_KIB: u32 = 64 << 10;

/// A message with its part of the memory.
type Queued = (Message, OwnedSemaphorePermit);

/// The sending end of the queue.
pub(super) struct Sender {
    queue: mpsc::Sender<Queued>,
    memory: Arc<Semaphore>,
}

/// A queue for so many messages, and as many bytes as may wait.
pub(super) fn queue(messages: usize) -> (Sender, mpsc::Receiver<Queued>) {
    let (queue, receiver) = mpsc::channel(messages);
    (Sender { queue, memory: Arc::new(Semaphore::new(QUEUE_KIB as usize)) }, receiver)
}

impl Sender {
    /// Waits until there is memory for the message. Does nothing if the receiver has ended: the broker then
    /// sends the message again.
    pub async fn send(&self, message: Message) {
        let kib = u32::try_from(message.payload.len() >> 10).unwrap_or(QUEUE_KIB);
        let kib = kib.saturating_add(1).min(QUEUE_KIB);
        if let Ok(permit) = Arc::clone(&self.memory).acquire_many_owned(kib).await {
            let _ = self.queue.send((message, permit)).await;
        }
    }
}

/// Appends messages in the order of their receipt and acknowledges each once the log has it, however
/// long that takes. The broker stops sending when too many are not acknowledged.
pub(super) async fn take(mut queue: mpsc::Receiver<Queued>, client: Client, intake: Arc<Intake>) {
    let mut batch: Vec<Queued> = Vec::new();
    while let Some(first) = queue.recv().await {
        let mut bytes = first.0.payload.len();
        batch.push(first);
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.0.payload.len();
            batch.push(next);
        }
        // One time for the batch: they were received together, as far as anybody can tell.
        let received_at = now();
        let incoming: Vec<Incoming<'_>> = batch
            .iter()
            .map(|(message, _)| Incoming {
                topic: &message.topic,
                payload: message.payload.clone(),
                retained: message.retained,
                received_at,
                sender: None,
            })
            .collect();
        intake.take_all(&incoming).await;
        drop(incoming);
        // The memory of a message is given back with its acknowledgement, not before.
        for (message, _) in batch.drain(..) {
            client.acknowledge(message.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message { topic: "t".into(), payload: vec![0; bytes].into(), retained: false, id: 1 }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (sender, mut receiver) = queue(100);
        for _ in 0..3 {
            sender.send(message(20 << 20)).await;
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, sender.send(message(20 << 20))).await.is_err());
        drop(receiver.recv().await.expect("a message"));
        sender.send(message(20 << 20)).await;
    }

    /// One that is larger than the whole queue has to get through as well.
    #[tokio::test]
    async fn a_huge_message_waits_for_the_whole_queue() {
        let (sender, mut receiver) = queue(100);
        sender.send(message(100 << 20)).await;
        let (message, _) = receiver.recv().await.expect("a message");
        assert_eq!(message.payload.len(), 100 << 20);
    }
}
