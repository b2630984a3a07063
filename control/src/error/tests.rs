use super::*;

#[test]
fn codes_of_both_engines_have_their_kind() {
    for (code, kind) in [
        (5, ErrorKind::Unavailable),
        (5 | 2 << 8, ErrorKind::Unavailable),
        (19 | 3 << 8, ErrorKind::Invalid),
        (1, ErrorKind::Internal),
    ] {
        assert_eq!(sqlite_kind(Some(code)), kind, "{code}");
    }
    assert_eq!(sqlite_kind(None), ErrorKind::Internal);
    for (code, kind) in [
        ("40001", ErrorKind::Unavailable),
        ("57P01", ErrorKind::Unavailable),
        ("22003", ErrorKind::Invalid),
        ("28P01", ErrorKind::Setup),
        ("42501", ErrorKind::Setup),
        ("42601", ErrorKind::Internal),
        ("", ErrorKind::Internal),
    ] {
        assert_eq!(postgres_kind(code), kind, "{code}");
    }
}

#[test]
fn a_cause_is_kept_and_shown() {
    let error = Error::from(sqlx::Error::PoolTimedOut);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("control database: "), "{error}");
    assert!(error.source().is_some_and(<dyn StdError>::is::<sqlx::Error>));
}

#[test]
fn what_may_be_gone_at_the_next_attempt_is_tried_again_and_nothing_else() {
    for code in ["08006", "25P03", "40P01", "53300", "55P03", "57014", "58030"] {
        assert_eq!(postgres_kind(code), ErrorKind::Unavailable, "{code}");
    }
    for (code, kind) in [
        ("23503", ErrorKind::Invalid),
        ("54000", ErrorKind::Invalid),
        ("3D000", ErrorKind::Setup),
        ("42P01", ErrorKind::Internal),
        ("XX000", ErrorKind::Internal),
        ("4", ErrorKind::Internal),
    ] {
        assert_eq!(postgres_kind(code), kind, "{code}");
    }
    // LOCKED, IOERR with a detail, FULL, CANTOPEN with a detail; TOOBIG, a foreign key; NOTADB.
    for (code, kind) in [
        (6, ErrorKind::Unavailable),
        (10 | 17 << 8, ErrorKind::Unavailable),
        (13, ErrorKind::Unavailable),
        (14 | 2 << 8, ErrorKind::Unavailable),
        (18, ErrorKind::Invalid),
        (787, ErrorKind::Invalid),
        (26, ErrorKind::Internal),
    ] {
        assert_eq!(sqlite_kind(Some(code)), kind, "{code}");
    }
}

#[tokio::test]
async fn a_refused_value_tells_a_client_nothing_of_tables() {
    let (_dir, control) = crate::testing::fresh().await;
    let change = acuvim_model::MembersChange { add: vec!["d".into()], remove: vec![] };
    crate::testing::add_devices(&control, &["d"]).await;
    let gone = uuid::Uuid::now_v7();
    let moved = control.change_members(gone, &change, None, &crate::testing::by(1)).await;
    let error = moved.expect_err("there is no such group");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "a value is out of range, or refers to what is gone");
    assert!(error.source().is_some(), "the log has the rest");
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    let (_dir, control) = crate::testing::fresh().await;
    let body = acuvim_model::GroupBody { name: "g".into(), ..Default::default() };
    control.create_group(&body, &crate::testing::by(0)).await.expect("create");
    let again = control.create_group(&body, &crate::testing::by(1)).await.expect_err("taken");
    assert_eq!(again.kind(), ErrorKind::Conflict);
}
