use crate::testing::fresh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_processes_get_the_secret_of_the_first() {
    let (_dir, control) = fresh().await;
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let control = control.clone();
            tokio::spawn(async move { control.shared_secret("jwt.secret").await.expect("ask") })
        })
        .collect();
    let mut secrets = std::collections::HashSet::new();
    for one in asked {
        secrets.insert(one.await.expect("task"));
    }
    assert_eq!(secrets.len(), 1);
    assert!(secrets.iter().all(|secret| secret.len() == 43), "256 bits");
    let other = control.shared_secret("other.secret").await.expect("ask");
    assert!(!secrets.contains(&other), "a secret is for one purpose");
}

#[tokio::test]
async fn a_value_is_replaced_by_remember_and_kept_by_keep() {
    let (_dir, control) = fresh().await;
    assert_eq!(control.remembered("n").await.expect("ask"), None);
    assert_eq!(control.keep_setting("n", "1").await.expect("keep"), "1");
    assert_eq!(control.keep_setting("n", "2").await.expect("keep"), "1");
    control.remember("n", "").await.expect("replace");
    assert_eq!(control.remembered("n").await.expect("ask").as_deref(), Some(""), "empty is stored");
}

#[tokio::test]
async fn a_claim_that_is_rolled_back_can_be_made_again() {
    let (_dir, control) = fresh().await;
    let mut tx = control.begin().await.expect("begin");
    assert!(tx.claim_setting("done", "1").await.expect("claim"));
    drop(tx);
    let mut tx = control.begin().await.expect("begin");
    assert!(tx.claim_setting("done", "2").await.expect("claim"));
    assert!(!tx.claim_setting("done", "3").await.expect("claim"));
    assert_eq!(tx.setting("done").await.expect("ask").as_deref(), Some("2"));
    tx.commit().await.expect("commit");
    let mut tx = control.begin().await.expect("begin");
    assert!(!tx.claim_setting("done", "4").await.expect("claim"));
}
