use super::*;

#[test]
fn values_are_numbered_in_their_order() {
    let mut filter = Statement::new("WHERE");
    filter.push("a = ? AND b > ?", [1_i64.into(), 2_i64.into()]);
    filter.push("AND c IN", []);
    filter.push_list((0..10).map(Value::from));
    let mut list = Statement::new("SELECT");
    list.push("?", [9_i64.into()]);
    list.append(&filter);
    let (text, values) = list.into_parts();
    assert_eq!(
        text.0.split_whitespace().collect::<Vec<_>>().join(" "),
        "SELECT $1 WHERE a = $2 AND b > $3 AND c IN ($4 , $5 , $6 , $7 , $8 , $9 , $10 , $11 , \
         $12 , $13 )"
    );
    assert_eq!(values.len(), 13);
}

#[test]
fn an_empty_list_and_a_missing_value_leave_no_placeholder_behind() {
    let mut statement = Statement::new("WHERE a IN");
    statement.push_list([]);
    statement.push("AND b = ? AND c = 1", []);
    let (text, values) = statement.into_parts();
    assert!(!text.0.contains('?') && !text.0.contains('$'), "{}", text.0);
    assert!(values.is_empty());
}

#[test]
fn a_value_is_never_part_of_the_text() {
    let mut statement = Statement::select("*");
    statement.push("FROM t WHERE a = ?", ["$1 ? '; DROP TABLE t; --".into()]);
    let (text, values) = statement.into_parts();
    assert!(text.0.trim_end().ends_with("a = $1"), "{}", text.0);
    assert_eq!(values.len(), 1);
}
