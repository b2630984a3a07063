use super::*;

#[test]
fn names_come_back() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::parse("other"), None);
}

#[test]
fn names_are_words_for_sql_and_metrics() {
    let names: std::collections::HashSet<_> = Reason::ALL.map(Reason::as_str).into();
    assert_eq!(names.len(), Reason::ALL.len());
    for name in names {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(fits), "{name}");
        assert_eq!(Reason::parse(&name.to_uppercase()), None, "{name}");
    }
}

#[test]
fn a_letter_that_keeps_all_bytes_says_so() {
    let letter = DeadLetter::whole(Reason::NoTs, None, 3, Bytes::from_static(b"\xff{}"));
    assert_eq!((letter.length, letter.sha256, letter.item), (3, None, 3));
}
