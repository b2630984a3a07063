use acuvim_wire::Kind;

use super::*;
use crate::{
    options::ProcessorOptions, partition::testing::message, state::StateSender, testing::Stores,
};

async fn append(stores: &Stores, count: usize) {
    let record =
        message(Kind::Telemetry, "d", r#"{"ts":1778951132,"f":50}"#, 1_778_951_140_000_000);
    let entries = vec![(0, record.into()); count];
    stores.dependencies.log.append(LogTopic::Uplink, entries).await.expect("appended");
}

fn context(stores: &Stores) -> Arc<Context> {
    Arc::new(Context {
        partition: 0,
        dependencies: stores.dependencies.clone(),
        options: Arc::new(ProcessorOptions::default()),
        state: StateSender::new([0]),
    })
}

async fn open(context: &Arc<Context>, next: i64) -> Reader {
    Reader::open(Arc::clone(context), next).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn read(reader: &mut Reader) -> Option<usize> {
    let batch = reader.read().await.unwrap_or_else(|error| panic!("{error}"));
    batch.map(|batch| batch.entries.len())
}

async fn has_read_all(reader: &mut Reader) -> bool {
    reader.has_read_all().await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_has_caught_up_once_it_has_read_what_there_was_at_the_start() {
    let stores = Stores::new().await;
    append(&stores, 3).await;
    let context = context(&stores);
    let mut reader = open(&context, 0).await;
    let catching_up = || context.state.watch().borrow().catching_up.contains(&0);
    reader.report_caught_up();
    assert!(catching_up());
    append(&stores, 2).await;
    assert_eq!(read(&mut reader).await, Some(5));
    reader.report_caught_up();
    assert!(!catching_up());
    assert_eq!((reader.next(), read(&mut reader).await), (5, Some(0)), "an empty read");
    assert_eq!(reader.next(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_reads_to_the_end_of_its_moment() {
    let stores = Stores::new().await;
    append(&stores, 2).await;
    let context = context(&stores);
    let mut reader = open(&context, 0).await;
    assert!(!has_read_all(&mut reader).await);
    assert_eq!(read(&mut reader).await, Some(2));
    append(&stores, 1).await;
    assert!(has_read_all(&mut reader).await, "devices go on sending");
    assert!(!reader.is_at_end().await.unwrap_or_else(|error| panic!("{error}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_the_log_has_dropped_are_passed_over() {
    let stores = Stores::new().await;
    append(&stores, 5).await;
    let log = &stores.dependencies.log;
    log.truncate_before(LogTopic::Uplink, 0, 3).await.expect("truncated");
    let context = context(&stores);
    let mut reader = open(&context, 1).await;
    assert_eq!(read(&mut reader).await, None, "the gap is told from an empty read");
    assert_eq!(reader.next(), 3);
    assert_eq!(read(&mut reader).await, Some(2));
}
