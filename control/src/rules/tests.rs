use super::*;
use crate::{
    AlertChange, Changes, NewAlert,
    testing::{add_devices, apply, at, audited, by, fresh, scope_of},
};

fn rule(name: &str) -> RuleBody {
    let fields = json!({"name": name, "alert_type": "t", "when": "voltage_l1_v > 1"});
    serde_json::from_value(fields).expect("a rule")
}

async fn create(control: &Control, name: &str) -> Uuid {
    control.create_rule(&rule(name), &by(0)).await.expect("create")
}

async fn raise(control: &Control, rule: Uuid, device: &str) {
    let alert = NewAlert {
        rule: Some((rule, 1)),
        ..NewAlert::of_health(Uuid::now_v7(), device, "t", at(1))
    };
    let alerts = vec![AlertChange::Raise(Box::new(alert))];
    apply(control, Changes { alerts, now: at(1), ..Changes::default() }).await;
}

async fn get(control: &Control, id: Uuid) -> Rule {
    control.rule(id, None).await.expect("ask").expect("there")
}

#[tokio::test]
async fn every_version_of_a_rule_is_kept_with_who_wrote_it() {
    let (_dir, control) = fresh().await;
    let id = create(&control, "r").await;
    for version in 2..4 {
        assert!(control.update_rule(id, &rule("r"), &by(version)).await.expect("update"));
        assert_eq!(get(&control, id).await.version, version);
    }
    assert!(control.delete_rule(id, &by(9)).await.expect("delete"));
    assert_eq!(control.rule(id, None).await.expect("ask"), None);
    let versions: Vec<(i64, String)> = control
        .fetch_all("SELECT version, changed_by FROM rule_versions ORDER BY version", vec![])
        .await
        .expect("read");
    assert_eq!(versions, [1, 2, 3].map(|version| (version, "test".to_owned())));
}

#[tokio::test]
async fn a_name_that_is_taken_leaves_both_rules_as_they_were() {
    let (_dir, control) = fresh().await;
    let (one, two) = (create(&control, "one").await, create(&control, "two").await);
    let before = (get(&control, one).await, get(&control, two).await, audited(&control).await);
    let error = control.update_rule(one, &rule("two"), &by(1)).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        control.create_rule(&rule("one"), &by(1)).await.expect_err("taken").kind(),
        ErrorKind::Conflict
    );
    let now = (get(&control, one).await, get(&control, two).await, audited(&control).await);
    assert_eq!(now, before);
}

#[tokio::test]
async fn streams_read_rules_again_after_each_change_and_not_after_a_refused_one() {
    let (_dir, control) = fresh().await;
    let revision = async || control.judged_by().await.expect("ask");
    let mut last = revision().await;
    let id = create(&control, "r").await;
    for step in 0..3 {
        match step {
            0 => {}
            1 => assert!(control.update_rule(id, &rule("s"), &by(1)).await.expect("update")),
            _ => assert!(control.delete_rule(id, &by(2)).await.expect("delete")),
        }
        let now = revision().await;
        assert_ne!(now, last, "step {step}");
        last = now;
    }
    assert!(!control.update_rule(id, &rule("s"), &by(3)).await.expect("ask"));
    assert!(!control.delete_rule(id, &by(3)).await.expect("ask"));
    assert_eq!(revision().await, last);
}

#[tokio::test]
async fn open_alerts_are_counted_within_the_scope() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    let (id, other) = (create(&control, "r").await, create(&control, "s").await);
    for device in ["d", "e", "e"] {
        raise(&control, id, device).await;
    }
    let scope = scope_of(&["d"]);
    let seen = control.rule(id, Some(&scope)).await.expect("ask").expect("rules are for all");
    assert_eq!((seen.open_alerts, get(&control, id).await.open_alerts), (1, 3));
    let list = control.rules(Some(&scope)).await.expect("list");
    let counts: Vec<_> = list.iter().map(|r| (r.body.name.as_str(), r.open_alerts)).collect();
    assert_eq!(counts, [("r", 1), ("s", 0)]);
    assert!(control.update_rule(other, &rule("a"), &by(5)).await.expect("update"));
    assert_eq!(get(&control, id).await.open_alerts, 3, "of another rule");
    let off = RuleBody { mode: RuleMode::Off, ..rule("r") };
    assert!(control.update_rule(id, &off, &by(6)).await.expect("update"));
    assert_eq!(get(&control, id).await.open_alerts, 0);
}

#[tokio::test]
async fn only_so_many_rules_are_kept() {
    let (_dir, control) = fresh().await;
    let first = create(&control, "r").await;
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO rules (id, name, body, mode, version, created_at, updated_at)
         SELECT randomblob(16), 'r' || i, '{}', 'live', 1, $1, $1 FROM n";
    control.execute(fill, vec![at(0).into()]).await.expect("fill");
    let error = control.create_rule(&rule("more"), &by(1)).await.expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("1000 rules"), "{error}");
    assert!(control.update_rule(first, &rule("r"), &by(2)).await.expect("a change is no new one"));
    assert!(control.delete_rule(first, &by(3)).await.expect("delete"));
    create(&control, "more").await;
}

#[tokio::test]
async fn default_rules_are_loaded_all_or_none() {
    let (_dir, control) = fresh().await;
    let twice = [rule("a"), rule("b"), rule("a")];
    assert!(control.load_rules(&twice, at(0)).await.is_err());
    assert!(control.rules(None).await.expect("list").is_empty());
    assert!(control.load_rules(&twice[..2], at(1)).await.expect("load"), "it can be tried again");
    assert!(!control.load_rules(&[rule("c")], at(2)).await.expect("load"));
    assert_eq!(control.rules(None).await.expect("list").len(), 2);
}

#[tokio::test]
async fn an_unreadable_rule_is_an_error_rather_than_left_out() {
    let (_dir, control) = fresh().await;
    let id = create(&control, "r").await;
    create(&control, "s").await;
    let newer = "UPDATE rules SET body = '{\"name\":\"r\"}' WHERE id = $1";
    control.execute(newer, vec![id.into()]).await.expect("of a newer version");
    let error = control.rules(None).await.expect_err("unreadable");
    assert!(error.to_string().contains("a stored rule"), "{error}");
}
