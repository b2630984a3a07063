use super::*;
use proptest::prelude::*;

#[test]
fn what_says_nothing_around_a_text_is_passed_over() {
    for around in ["\0", "\u{feff}", " \r\n", "\0\0\u{feff} \0", "\x1a"] {
        let text = format!("{around}{{}}{around}");
        assert_eq!(trimmed(text.as_bytes()), b"{}", "{text:?}");
    }
    assert!(trimmed(b"\0 \0").is_empty());
    assert_eq!(plain("AH1234567\0\0 \r\n"), Some("AH1234567"));
    assert_eq!((plain("\0\0"), plain("a\0b")), (None, Some("a\0b")));
}

#[test]
fn a_place_is_a_number_and_the_bytes_there() {
    assert_eq!(place(b"{\"a\":\0}", 5), "byte 5: 00 7d (\\x00})");
    assert_eq!(place(b"{", 1), "byte 1: it ends there");
    for (text, at) in [("{\"a\":1,\n \"b\":?}", 13), ("{\"a\":1", 6), ("{} x", 3), ("x", 0)] {
        let error = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(text);
        assert_eq!(offset(text, &error.expect_err(text)), at, "{text}");
    }
}

#[test]
fn only_values_that_json_has_not_are_put_in_quotes() {
    for (text, want) in [
        (r#"{"a":nan}"#, Some(r#"{"a":"\u0000nan"}"#)),
        (r#"{"a":[1,-inf, 230.]}"#, Some(r#"{"a":[1,"\u0000-inf", "\u0000230."]}"#)),
        (r#"{"a":1.#QNAN,"b":.5}"#, Some(r#"{"a":"\u00001.#QNAN","b":"\u0000.5"}"#)),
        (r#"{"a":[{"b":true,c:1}]}"#, None),
        (r#"{"a":"nan","b":-1.5e3}"#, None),
    ] {
        assert_eq!(mended(text).map(|m| m.text).as_deref(), want, "{text}");
    }
    let mended = mended(r#"{"a":nan,"b":?}"#).expect("a word");
    let at = mended.text.find('b').expect("b");
    assert_eq!(mended.origin(at), 10);
    assert_eq!(bare(r#""\u0000nan""#), Some("nan"));
    assert_eq!(unmarked(r#"[1,"\u0000nan"]"#), r#"[1,"nan"]"#);
}

#[test]
fn a_place_shows_eight_bytes_and_none_behind_the_end() {
    assert_eq!(place(b"0123456789", 1), "byte 1: 31 32 33 34 35 36 37 38 (12345678)");
    for at in [10, 11, usize::MAX] {
        assert_eq!(place(b"0123456789", at), format!("byte {at}: it ends there"));
    }
}

#[test]
fn a_word_of_more_than_64_characters_is_no_number_gone_wrong() {
    let of = |length: usize| mended(&format!("{{\"a\":{}}}", "n".repeat(length))).is_some();
    assert!(of(64) && !of(65));
}

#[test]
fn words_are_found_only_where_a_value_stands() {
    for text in [
        "nan",
        "{nan}",
        "{\"a\" nan}",
        "{nan:1}",
        "{\"a\":1,nan}",
        "{\"a\":\"x:nan\"}",
        "{\"a\":\"\\\":nan\"}",
        "{\"a\":nan\"",
    ] {
        assert!(mended(text).is_none(), "{text}");
    }
    let deep = mended("{\"a\":{\"b\":[[nan],{\"c\": -nan}]}}").expect("two words");
    assert_eq!(deep.text, "{\"a\":{\"b\":[[\"\\u0000nan\"],{\"c\": \"\\u0000-nan\"}]}}");
}

#[test]
fn only_marked_words_are_bare() {
    for value in ["nan", "\"nan\"", "\"\\u0000nan", "1", "", "\"\\u0001nan\""] {
        assert_eq!(bare(value), None, "{value}");
    }
    assert_eq!(bare("\"\\u0000\""), Some(""));
}

#[test]
fn what_mended_did_not_quote_stays_when_words_are_put_back() {
    for text in
        ["", "{\"a\":1}", "{\"a\":\"\\u0000\"}", "{\"a\":\"\\u0000two words\"}", "\"\\u0000"]
    {
        assert_eq!(unmended(text), text);
    }
    assert_eq!(unmended("{\"a\":\"\\u0000nan\",\"b\":\"\\u0000230.\"}"), "{\"a\":nan,\"b\":230.}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn quoted_words_are_put_back_as_they_were(text in r#"[{}\[\]",:0-9a-z.+# -]{0,80}"#) {
        if let Some(mended) = mended(&text) {
            prop_assert_eq!(unmended(&mended.text), text.as_str());
            prop_assert_eq!(mended.origin(mended.text.len()), text.len());
            prop_assert_eq!(mended.origin(0), 0);
        }
    }

    #[test]
    fn what_is_trimmed_has_no_padding_left(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(b' '), Just(0xef), Just(0xbb), Just(0xbf), any::<u8>()], 0..24),
    ) {
        let inner = trimmed(&bytes);
        prop_assert_eq!(trimmed(inner), inner);
        let padded = [b"\0\xef\xbb\xbf \x1a", inner, b"\r\n\xef\xbb\xbf\0"].concat();
        prop_assert_eq!(trimmed(&padded), inner);
        prop_assert!(bytes.ends_with(trimmed_start(&bytes)));
    }
}
