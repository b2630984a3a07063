use super::*;
use crate::testing::fresh;

#[tokio::test]
async fn nothing_is_known_before_the_first_start() {
    let (_dir, control) = fresh().await;
    assert_eq!(control.stored_log_facts().await.expect("ask"), None);
    let facts = control.log_facts(16).await.expect("first");
    assert_eq!(facts, LogFacts { partitions: 16, epoch: 0 });
    assert_eq!(control.stored_log_facts().await.expect("ask"), Some(facts));
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_and_changes_nothing() {
    let (_dir, control) = fresh().await;
    let facts = control.log_facts(4).await.expect("first");
    for other in [0, 3, 5, 40] {
        let error = control.log_facts(other).await.expect_err("another");
        assert_eq!(error.kind(), ErrorKind::Setup);
        let text = error.to_string();
        assert!(text.contains(&format!("log.partitions is {other}")), "{text}");
        assert!(text.contains("acuvim log repartition"), "it says what to do: {text}");
    }
    assert_eq!(control.log_facts(4).await.expect("again"), facts);
}

#[tokio::test]
async fn offsets_of_one_log_are_not_used_for_another() {
    let (_dir, control) = fresh().await;
    control.check_log("the embedded log").await.expect("first");
    for other in ["the embedded logx", "the embedded", "kafka a", "", "The embedded log"] {
        let error = control.check_log(other).await.expect_err(other);
        assert_eq!(error.kind(), ErrorKind::Setup);
    }
    control.check_log("the embedded log 1f3c").await.expect("the same, with its id");
    let old = control.check_log("the embedded log").await.expect_err("the id is known by now");
    assert!(old.to_string().contains("the embedded log 1f3c"), "{old}");
}

#[tokio::test]
async fn of_two_that_begin_an_epoch_one_does() {
    let (_dir, control) = fresh().await;
    let facts = control.log_facts(4).await.expect("first");
    control.check_log("a").await.expect("first");
    let (one, two) =
        tokio::join!(control.begin_epoch(facts, 8, "b"), control.begin_epoch(facts, 12, "c"));
    let (one, two) = (one.expect("ask"), two.expect("ask"));
    assert!(one ^ two);
    let now = control.stored_log_facts().await.expect("ask").expect("there");
    let (partitions, identity) = if one { (8, "b") } else { (12, "c") };
    assert_eq!(now, LogFacts { partitions, epoch: 1 }, "all facts are of the same one");
    control.check_log(identity).await.expect("its identity");
    assert!(control.begin_epoch(now, 2, "d").await.expect("ask"), "from what is stored now");
    assert_eq!(control.log_facts(2).await.expect("moved").epoch, 2);
}

#[tokio::test]
async fn a_damaged_fact_is_an_error_that_names_it() {
    let (_dir, control) = fresh().await;
    control.log_facts(4).await.expect("first");
    control.remember(EPOCH, "soon").await.expect("damage");
    let error = control.log_facts(4).await.expect_err("no number");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("log.epoch"), "{error}");
    assert!(control.stored_log_facts().await.is_err());
}
