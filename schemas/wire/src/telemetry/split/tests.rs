use super::*;
use proptest::prelude::*;

fn items(payload: &[u8]) -> Vec<&[u8]> {
    split(payload, 500).map_or_else(Vec::new, |items| items.list().to_vec())
}

fn shape(payload: &str) -> (&'static str, usize) {
    match split(payload.as_bytes(), 500) {
        None => ("none", 0),
        Some(Items::One(_)) => ("one", 1),
        Some(Items::Batch(items)) => ("batch", items.len()),
        Some(Items::Lines(lines)) => ("lines", lines.len()),
    }
}

#[test]
fn the_three_forms() {
    assert_eq!(shape(" {\"ts\":1} \n"), ("one", 1));
    assert_eq!(shape("{\n \"ts\": 1\n}"), ("one", 1));
    assert_eq!(shape("{\"batch\":[{},3,\"x\"]}"), ("batch", 3));
    assert_eq!(shape("{\"note\":\"batch\",\"batch\":7}"), ("one", 1));
    assert_eq!(shape("{\"ts\":1}\n{\"ts\":2}\r\n\n"), ("lines", 2));
    assert_eq!(shape("{\"ts\":1}\n{broken\n{\"ts\":2}"), ("lines", 3));
    assert_eq!(shape("garbage\n{\"ts\":2}"), ("lines", 2));
}

#[test]
fn broken_payloads_have_no_form_or_are_one_item() {
    for bad in ["", "   ", "7", "[]", "plain"] {
        assert_eq!(shape(bad), ("none", 0), "{bad}");
    }
    // Meant to be an object, so the dead letter tells where the syntax error is.
    for bad in ["{\"ts\":1", "{\n \"ts\": 1,\n", "{} {}"] {
        assert_eq!(shape(bad), ("one", 1), "{bad}");
    }
}

#[test]
fn padding_around_payloads_and_lines_is_ignored() {
    let lines: [&[u8]; 2] = [b"{\"ts\":1}", b"{\"ts\":2}"];
    for payload in [
        &b"{\"ts\":1}\0\n\0\n{\"ts\":2}\0"[..],
        b"\xef\xbb\xbf{\"ts\":1}\r\n\xef\xbb\xbf{\"ts\":2}\r\n",
        b"{\"ts\":1}\0{\"ts\":2}\0",
    ] {
        assert_eq!(items(payload), lines, "{}", payload.escape_ascii());
    }
    assert_eq!(items(b"\0{\"ts\":1}\0"), [b"{\"ts\":1}"]);
}

#[test]
fn a_bad_item_does_not_affect_the_others_of_its_batch() {
    let (first, last) = (&b"{\"ts\":1,\"f\":50}"[..], &b"{\"ts\":3,\"d\":[1]}"[..]);
    for bad in [
        &b"{\"ts\":2,\"n\":\"\xff\"}"[..],
        b"{\"ts\":2,\"n\":\"caf\xc3\"}",
        b"{\"ts\":2,\"f\":nan}",
        b"{\"ts\":2,\"f\":}",
        b"{\"ts\":2,\"n\":\"no end}",
        b"{\"ts\":2,\"f\":50",
        b"{\"ts\":2}}",
        b"\xff",
    ] {
        let payload = [b"{\"seq\":1,\"batch\":[", first, b", ", bad, b",\n", last, b"]}"].concat();
        assert_eq!(items(&payload), [first, bad, last], "{}", payload.escape_ascii());
    }
    let cut = [b"{\"batch\":[", first, b",{\"ts\":2,\"f\""].concat();
    assert_eq!(items(&cut), [first, b"{\"ts\":2,\"f\""]);
}

#[test]
fn a_batch_of_bad_items_takes_linear_time() {
    let bad = format!("{{\"batch\":[{}]}}", "{\"ts\":1,".repeat(60_000));
    let begun = std::time::Instant::now();
    assert!(items(bad.as_bytes()).len() <= 501);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn an_item_is_found_in_its_payload() {
    let batch = Bytes::from_static(b"{\"batch\":[{\"ts\":1},{\"ts\":2}]}");
    assert_eq!(item_of(&batch, &items_of(&batch, 500), 1).as_ref(), b"{\"ts\":2}");
    let one = Bytes::from_static(b"{\"ts\":1}\0");
    assert_eq!(item_of(&one, &items_of(&one, 500), 0), one);
}

#[test]
fn a_batch_is_recognised_beside_other_fields_and_only_on_the_first_level() {
    assert_eq!(shape("{\"batch\":[]}"), ("batch", 0));
    assert_eq!(shape("{\"batch\":[{\"ts\":1}],\"seq\":1}"), ("batch", 1));
    assert_eq!(
        shape("{\n  \"seq\": 1,\n  \"batch\": [\n    {\"ts\": 1},\n    {\"ts\": 2}\n  ]\n}\n"),
        ("batch", 2)
    );
    for one in [
        "{\"a\":{\"batch\":[{},{}]}}",
        "{\"batch\":null}",
        "{\"batch\":{}}",
        "{\"batch\":[{}],\"batch\":[{}]}",
        "{\"x\":{\"batch\":[{\"ts\":1},",
        "{\"Batch\":[{},{}]}",
    ] {
        assert_eq!(shape(one), ("one", 1), "{one}");
    }
}

#[test]
fn brackets_and_commas_within_texts_end_no_item() {
    for item in [
        "{\"ts\":1,\"n\":\"],[}{\"}",
        "{\"ts\":1,\"n\":\"a\\\"],{\\\"ts\\\":2\"}",
        "{\"ts\":1,\"n\":\"\\\\\"}",
        "[[1,[2]],{\"a\":[3]}]",
    ] {
        // A bad neighbour, so that the batch is searched byte by byte.
        let payload = format!("{{\"batch\":[{item},{{\"ts\":}},{item}]}}");
        let (item, bad) = (item.as_bytes(), &b"{\"ts\":}"[..]);
        assert_eq!(items(payload.as_bytes()), [item, bad, item], "{payload}");
    }
}

#[test]
fn a_search_ends_one_item_behind_the_most() {
    let good = ["{\"ts\":1}"; 5].join(",");
    let broken = format!("{{\"batch\":[{good},]");
    assert_eq!(split(broken.as_bytes(), 2).expect("a batch").list().len(), 3);
    assert_eq!(split(broken.as_bytes(), 5).expect("a batch").list().len(), 5);
    assert_eq!(split(broken.as_bytes(), 500).expect("a batch").list().len(), 5);
}

#[test]
fn an_item_that_is_not_there_is_the_whole_payload() {
    let batch = Bytes::from_static(b"{\"batch\":[{\"ts\":1},{\"ts\":2}]}");
    let items = items_of(&batch, 500);
    for item in [-1, 2, i32::MAX] {
        assert_eq!(item_of(&batch, &items, item), batch, "{item}");
    }
    assert_eq!(item_of(&batch, &items, 0).as_ref(), b"{\"ts\":1}");
    assert!(items_of(b"7", 500).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_joined_is_split(
        texts in proptest::collection::vec("[a-z\\[\\]{},: ]{0,12}", 2..20),
        end in proptest::sample::select(vec!["\n", "\r\n", "\0", "\n\0\n", " \n\n"]),
    ) {
        let objects: Vec<String> =
            texts.iter().map(|text| serde_json::json!({ "ts": 1, "n": text }).to_string()).collect();
        let want: Vec<&[u8]> = objects.iter().map(String::as_bytes).collect();
        let lines = objects.join(end);
        prop_assert_eq!(items(lines.as_bytes()), want.clone());
        let batch = format!(" {{\"batch\" : [{}] }}{end}", objects.join(" ,\n"));
        prop_assert_eq!(items(batch.as_bytes()), want.clone());
        // Without its end the batch is cut off, and what came is used.
        let cut = format!("{{\"batch\":[{}", objects.join(","));
        prop_assert_eq!(items(cut.as_bytes()), want);
    }

    #[test]
    fn items_are_parts_of_the_payload(payload in r#"[{}\[\]",:a-c0-2\\ \n]{0,80}|\{"batch":\[[{}\[\]",:a-c0-2 ]{0,60}"#) {
        let mut at = 0;
        for item in items(payload.as_bytes()) {
            let found = payload.as_bytes()[at..].windows(item.len().max(1)).position(|w| w == item);
            at += found.expect("in the payload") + item.len();
        }
    }
}
