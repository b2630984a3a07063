use super::*;

#[test]
fn commands_have_names_of_their_own() {
    let names: std::collections::HashSet<_> = CommandKind::ALL.map(CommandKind::as_str).into();
    assert_eq!(names.len(), 20);
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
}
