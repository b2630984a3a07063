use acuvim_control::By;
use acuvim_model::RuleBody;
use serde_json::json;

use super::*;

struct Watched {
    _dir: tempfile::TempDir,
    control: Control,
    reader: RuleReader,
}

impl Watched {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
        let planner = Planner::new().expect("a planner");
        let reader = RuleReader {
            control: control.clone(),
            planner,
            max_ahead: 60,
            seen: None,
            revision: 0,
        };
        Self { _dir: dir, control, reader }
    }

    async fn create(&self, name: &str) -> uuid::Uuid {
        self.control.create_rule(&rule(name), &By::system(Utc::now())).await.expect("a rule")
    }

    async fn read(&mut self, before: Option<&ActiveRules>) -> Option<ActiveRules> {
        self.reader.read_changes(before).await.expect("control answers")
    }
}

fn rule(name: &str) -> RuleBody {
    let fields = json!({"name": name, "alert_type": "high", "when": "voltage_l1_v > 250"});
    serde_json::from_value(fields).expect("a rule")
}

fn names(rules: &ActiveRules) -> Vec<&str> {
    let mut names: Vec<&str> = rules.set.rules().iter().map(|r| r.body.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn rules_are_read_again_only_when_they_have_changed() {
    let mut watched = Watched::new().await;
    let id = watched.create("a").await;
    let first = watched.read(None).await.expect("the first time");
    assert_eq!(names(&first), ["a"]);
    assert!(watched.read(Some(&first)).await.is_none());
    watched.create("b").await;
    let second = watched.read(Some(&first)).await.expect("a change");
    assert_eq!(names(&second), ["a", "b"]);
    assert!(second.set.revision > first.set.revision, "a repair that began with the first ends");
    watched.control.delete_rule(id, &By::system(Utc::now())).await.expect("deleted");
    let third = watched.read(Some(&second)).await.expect("a change");
    assert_eq!(names(&third), ["b"]);
}

#[tokio::test]
async fn only_a_rule_that_was_changed_has_a_time_of_change() {
    let mut watched = Watched::new().await;
    let id = watched.create("a").await;
    let first = watched.read(None).await.expect("rules");
    let rule_of = |rules: &ActiveRules| (rules.set.rules()[0].version, rules.set.rules()[0].edited);
    assert_eq!(rule_of(&first), (1, None));
    let at = DateTime::from_timestamp(1_795_000_000, 0).expect("a time");
    watched.control.update_rule(id, &rule("a"), &By::system(at)).await.expect("updated");
    let second = watched.read(Some(&first)).await.expect("a change");
    assert_eq!(rule_of(&second), (2, Some(at.timestamp_micros())));
}

#[tokio::test]
async fn a_stored_rule_that_is_not_valid_any_more_leaves_the_others_in_force() {
    let mut watched = Watched::new().await;
    watched.create("good").await;
    let broken = RuleBody { when: "no_such_column > 1".into(), ..rule("broken") };
    watched.control.create_rule(&broken, &By::system(Utc::now())).await.expect("stored");
    let rules = watched.read(None).await.expect("rules");
    assert_eq!(names(&rules), ["good"]);
}

#[tokio::test]
async fn a_device_without_properties_has_those_of_nobody() {
    let mut watched = Watched::new().await;
    let rules = watched.read(None).await.expect("rules");
    assert_eq!(*rules.site("nobody"), Site::default());
}
