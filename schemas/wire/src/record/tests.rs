use super::*;
use proptest::prelude::*;

#[test]
fn identities_are_read_back_and_nothing_else_is() {
    let identity = Identity { epoch: 0, partition: 3, offset: 9, item: 1 };
    assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    for bad in ["", "1:2:3", "1:2:3:4:5", "a:1:2:3"] {
        assert_eq!(Identity::parse(bad), None, "{bad}");
    }
}

#[test]
fn an_identity_is_a_text_in_json() {
    let identity = Identity { epoch: 1, partition: 2, offset: 3_000_000_000, item: 4 };
    let json = serde_json::to_string(&identity).expect("JSON");
    assert_eq!(json, "\"1:2:3000000000:4\"");
    assert_eq!(serde_json::from_str::<Identity>(&json).expect("an identity"), identity);
    for bad in ["\"1:2:3\"", "7", "null", "[1,2,3,4]"] {
        assert!(serde_json::from_str::<Identity>(bad).is_err(), "{bad}");
    }
    let said = serde_json::from_str::<Identity>("\"x\"").expect_err("none").to_string();
    assert!(said.starts_with("an identity is epoch:partition:offset:item"), "{said}");
}

#[test]
fn numbers_beyond_their_column_and_blanks_are_no_identity() {
    assert!(Identity::parse("2147483647:2147483647:9223372036854775807:2147483647").is_some());
    for bad in [
        "2147483648:0:0:0",
        "0:2147483648:0:0",
        "0:0:9223372036854775808:0",
        "0:0:0:2147483648",
        " 0:0:0:0",
        "0:0:0:0 ",
        "0:0:0:",
        ":0:0:0",
        "0:0:0:0:",
        "0.0:0:0:0",
    ] {
        assert_eq!(Identity::parse(bad), None, "{bad}");
    }
}

/// Readers compare identities to see which reading came first.
#[test]
fn identities_are_ordered_by_epoch_then_place_then_item() {
    let of = |text: &str| Identity::parse(text).expect("an identity");
    let ordered = ["0:9:9:9", "1:0:9:9", "1:1:0:9", "1:1:10:0", "1:1:10:1"].map(of);
    assert!(ordered.is_sorted());
}

#[test]
fn a_topic_ends_with_its_suffix_and_has_a_name_of_its_own() {
    for topic in LogTopic::ALL {
        assert_eq!(topic.name(), format!("acuvim.{}", topic.suffix()));
    }
    let names: std::collections::HashSet<_> = LogTopic::ALL.map(LogTopic::name).into();
    assert_eq!(names.len(), LogTopic::ALL.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_identity_is_read_back(
        (epoch, partition, offset, item) in any::<(i32, i32, i64, i32)>(),
    ) {
        let identity = Identity { epoch, partition, offset, item };
        prop_assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }
}
