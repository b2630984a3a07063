use super::*;

/// Rights are compared with `>=`: the order of the variants is the order of power.
#[test]
fn each_role_may_do_more_than_the_one_before() {
    assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
}

#[test]
fn only_a_name_as_it_is_written_gives_a_role() {
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        assert_eq!(Role::parse(role.as_str()), Some(role));
        assert_eq!(serde_json::to_value(role).expect("JSON"), role.as_str());
    }
    for bad in ["", "admin", "ADMIN", " Admin", "Admin ", "Root"] {
        assert_eq!(Role::parse(bad), None, "{bad}");
        assert!(serde_json::from_value::<Role>(bad.into()).is_err(), "{bad}");
    }
}
