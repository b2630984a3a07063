//! Last wills: those of the newest connection of a device count, others are only kept.

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use acuvim_wire::{Kind, Record};

use crate::support::Ingest;

const WILL: &str = r#"{"status":"offline","reason":"lwt"}"#;

/// An anonymous client with the last will of device d1.
async fn connect(ingest: &Ingest, client_id: &str) -> Connection {
    let will = Some(("acuvim/d1/status".to_owned(), WILL.to_owned()));
    let options = ConnectOptions { will, ..ingest.options(client_id) };
    Connection::open(&options).await.expect("a connection")
}

/// The retained flag of each will in the log.
fn wills(records: &[Record]) -> Vec<bool> {
    let wills = records.iter().filter(|r| r.headers.kind == Kind::Status && r.value == WILL);
    wills.map(|record| record.headers.retained).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_of_a_lost_connection_is_stored_and_a_proper_goodbye_leaves_none() {
    let ingest = Ingest::start().await;
    connect(&ingest, "d1").await.close().await;
    // Dropping the connection closes the socket without a DISCONNECT.
    drop(connect(&ingest, "d1").await);
    let records = ingest.records_when(|records| !wills(records).is_empty()).await;
    assert_eq!(wills(&records), [false]);
    ingest.stop().await;
}

/// Otherwise the timeout of a dead connection would show a device as offline that has come back.
#[tokio::test(flavor = "multi_thread")]
async fn the_will_of_an_older_connection_changes_no_state() {
    let ingest = Ingest::start().await;
    let old = connect(&ingest, "first").await;
    let new = connect(&ingest, "second").await;
    drop(old);
    let records = ingest.records_when(|records| wills(records).len() == 1).await;
    assert_eq!(wills(&records), [true], "kept as retained");
    drop(new);
    let records = ingest.records_when(|records| wills(records).len() == 2).await;
    assert_eq!(wills(&records), [true, false]);
    ingest.stop().await;
}
