use std::time::Duration;

use super::*;
use crate::testing::fresh;

const ADD: &str = "INSERT INTO settings (name, value) VALUES ($1, $2)";
const ALL: &str = "SELECT COUNT(*) FROM settings WHERE name = $1";

#[tokio::test]
async fn a_transaction_without_commit_leaves_nothing_and_lets_the_next_writer_go_on() {
    let (_dir, control) = fresh().await;
    let mut tx = control.begin().await.expect("begin");
    tx.execute(ADD, vec!["a".into(), "1".into()]).await.expect("write");
    assert_eq!(tx.count(ALL, vec!["a".into()]).await.expect("count"), 1, "it sees its own write");
    assert_eq!(
        control.count(ALL, vec!["a".into()]).await.expect("count"),
        0,
        "readers neither wait for the writer nor see what it has not committed"
    );
    drop(tx);
    let mut tx = control.begin().await.expect("the turn is free");
    assert_eq!(tx.count(ALL, vec!["a".into()]).await.expect("count"), 0, "rolled back");
    tx.execute(ADD, vec!["a".into(), "2".into()]).await.expect("write");
    tx.commit().await.expect("commit");
    assert_eq!(control.count(ALL, vec!["a".into()]).await.expect("count"), 1);
}

#[tokio::test]
async fn a_refused_statement_takes_the_whole_transaction_with_it() {
    let (_dir, control) = fresh().await;
    let mut tx = control.begin().await.expect("begin");
    tx.execute(ADD, vec!["a".into(), "1".into()]).await.expect("write");
    let again = tx.execute(ADD, vec!["a".into(), "2".into()]).await.expect_err("the key is taken");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    drop(tx);
    assert_eq!(control.count(ALL, vec!["a".into()]).await.expect("count"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_read_modify_writes_lose_no_update() {
    let (_dir, control) = fresh().await;
    control.execute(ADD, vec!["n".into(), "0".into()]).await.expect("write");
    let tasks: Vec<_> = (0..24)
        .map(|_| {
            let control = control.clone();
            tokio::spawn(async move {
                let mut tx = control.begin().await.expect("begin");
                let n: Option<(String,)> = tx
                    .fetch_optional("SELECT value FROM settings WHERE name = 'n'", vec![])
                    .await
                    .expect("read");
                let n: i64 = n.expect("a row").0.parse().expect("a number");
                tokio::task::yield_now().await;
                let next = (n + 1).to_string();
                tx.execute("UPDATE settings SET value = $1 WHERE name = 'n'", vec![next.into()])
                    .await
                    .expect("write");
                tx.commit().await.expect("commit");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    assert_eq!(control.remembered("n").await.expect("read").as_deref(), Some("24"));
}

#[tokio::test]
async fn a_count_without_a_row_is_zero() {
    let (_dir, control) = fresh().await;
    let sql = "SELECT 7 FROM settings WHERE name = 'none'";
    assert_eq!(control.count(sql, vec![]).await.expect("count"), 0);
    let mut tx = control.begin().await.expect("begin");
    assert_eq!(tx.count(sql, vec![]).await.expect("count"), 0);
}

#[tokio::test]
async fn a_closed_database_says_try_again_later() {
    let (_dir, control) = fresh().await;
    control.close().await;
    let error = control.count(ALL, vec!["a".into()]).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(control.begin().await.err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
}

#[tokio::test]
async fn clones_wake_each_other_s_delivery_of_the_outbox() {
    let (_dir, control) = fresh().await;
    let watch = control.outbox_watch();
    crate::testing::add_devices(&control, &["d"]).await;
    let id = crate::testing::give(&control.clone(), &crate::testing::ping("d"), 1).await;
    assert!(!id.is_nil());
    // The wake-up is kept for a watcher that begins to wait after it.
    let woken =
        tokio::time::timeout(Duration::from_secs(30), watch.changed(Duration::from_secs(600)));
    woken.await.expect("woken long before its own time limit");
}

#[tokio::test]
async fn what_an_unreadable_row_says_is_not_taken_for_no_row() {
    let (_dir, control) = fresh().await;
    control.execute(ADD, vec!["a".into(), "text".into()]).await.expect("write");
    let wrong: Result<Option<(uuid::Uuid,)>, Error> =
        control.fetch_optional("SELECT value FROM settings WHERE name = 'a'", vec![]).await;
    assert_eq!(wrong.expect_err("no UUID").kind(), ErrorKind::Internal);
}
