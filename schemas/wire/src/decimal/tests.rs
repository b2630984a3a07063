use super::*;
use proptest::prelude::*;

#[test]
fn ties_go_to_even_exactly() {
    for (text, want) in [
        ("0.0005", 0),
        ("0.0015", 2),
        ("0.0025", 2),
        ("1.0005", 1000),
        ("1.0015", 1002),
        ("-0.0015", -2),
        ("0.00150000000000000000000000000000000001", 2),
        ("0.00250000000000000000000000000000000001", 3),
        ("230.4", 230_400),
        ("1e2", 100_000),
        ("12E-1", 1200),
        ("-0", 0),
        ("0e999999999999", 0),
        ("1e-999999999", 0),
    ] {
        assert_eq!(parse(text, 9, 3), Parsed::Value(want), "{text}");
    }
}

#[test]
fn too_large_and_not_numbers() {
    for text in ["1e300", "1000000", "-1e6", "999999.9996", &"9".repeat(100)] {
        assert_eq!(parse(text, 9, 3), Parsed::TooLarge, "{text}");
    }
    for text in ["", "-", "abc", "1e", "1.2.3", ".", "NaN", "1e+"] {
        assert_eq!(parse(text, 9, 3), Parsed::NotANumber, "{text}");
    }
}

#[test]
fn whole_numbers_in_any_form() {
    for (text, want) in [
        ("86400000.0", 86_400_000),
        ("8.64e7", 86_400_000),
        ("-0.0", 0),
        ("17", 17),
        ("1700E-2", 17),
        ("18446744073709551615.000", 18_446_744_073_709_551_615),
    ] {
        assert_eq!(whole(text), Some(want), "{text}");
    }
    for text in ["1.5", "1e-1", "17.0000000000000000000000000000000001", "1e300", "x", "\"17\""] {
        assert_eq!(whole(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn values_that_fit_are_exact(value in -999_999_999_i64..=999_999_999) {
        let text = format!("{}{}.{:03}", if value < 0 { "-" } else { "" },
            value.abs() / 1000, value.abs() % 1000);
        prop_assert_eq!(parse(&text, 9, 3), Parsed::Value(i128::from(value)));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = parse(&text, 18, 4);
    }

    #[test]
    fn floats_and_text_agree(value in -900_000.0_f64..900_000.0) {
        let Parsed::Value(a) = from_f64(value, 9, 3) else { panic!("fits") };
        let Parsed::Value(b) = parse(&value.to_string(), 9, 3) else { panic!("fits") };
        prop_assert!((a - b).abs() <= 1);
    }
}

#[test]
fn the_last_value_that_a_column_holds_and_the_first_that_it_does_not() {
    for (text, want) in [
        ("999999.999", Parsed::Value(999_999_999)),
        ("-999999.999", Parsed::Value(-999_999_999)),
        ("999999.9994", Parsed::Value(999_999_999)),
        // A tie goes to even, which has one digit more than the column.
        ("999999.9995", Parsed::TooLarge),
        ("-999999.9995", Parsed::TooLarge),
        ("1000000", Parsed::TooLarge),
        ("1e38", Parsed::TooLarge),
        ("1e1000000000000000000000", Parsed::TooLarge),
    ] {
        assert_eq!(parse(text, 9, 3), want, "{text}");
    }
    let shifted = format!("0.{}1e45", "0".repeat(44));
    assert_eq!(parse(&shifted, 9, 3), Parsed::Value(1000));
    assert_eq!(parse("999999999999.99", 14, 2), Parsed::Value(99_999_999_999_999));
    assert_eq!(parse("1000000000000", 14, 2), Parsed::TooLarge);
}

#[test]
fn signs_and_blanks_that_json_has_not_are_no_numbers() {
    for text in ["+1", " 1", "1 ", "--1", "1e1.5", "1e--1", "0x10", "1_000", "1,5", "١"] {
        assert_eq!(parse(text, 9, 3), Parsed::NotANumber, "{text}");
        assert_eq!(whole(text), None, "{text}");
    }
    assert_eq!(parse("1e+2", 9, 3), Parsed::Value(100_000));
}

#[test]
fn floats_at_the_edges_of_a_column() {
    for (value, want) in [
        (f64::NAN, Parsed::NotANumber),
        (f64::INFINITY, Parsed::TooLarge),
        (f64::NEG_INFINITY, Parsed::TooLarge),
        (999_999.999, Parsed::Value(999_999_999)),
        (1_000_000.0, Parsed::TooLarge),
        (-1_000_000.0, Parsed::TooLarge),
        (-0.0, Parsed::Value(0)),
        (0.0005, Parsed::Value(0)),
        (0.0015, Parsed::Value(2)),
    ] {
        assert_eq!(from_f64(value, 9, 3), want, "{value}");
    }
}

#[test]
fn whole_numbers_up_to_the_most_that_fits() {
    let zeros = format!("17.{}", "0".repeat(60));
    for (text, want) in [
        (zeros.as_str(), Some(17)),
        ("-17.0", Some(-17)),
        ("17.5e1", Some(175)),
        ("1e38", Some(10_i128.pow(38))),
        ("2e38", None),
        ("1e39", None),
        ("1e-400000000000", None),
        ("0.0e99", Some(0)),
    ] {
        assert_eq!(whole(text), want, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn further_digits_round_half_to_even(
        whole in 0_u64..900_000,
        parts in prop_oneof![0_u64..1_000_000_000, (0_u64..1000).prop_map(|n| n * 1_000_000 + 500_000)],
        negative in any::<bool>(),
    ) {
        let total = i128::from(whole) * 1_000_000_000 + i128::from(parts);
        let (quotient, rest) = (total / 1_000_000, total % 1_000_000);
        let up = rest > 500_000 || (rest == 500_000 && quotient % 2 == 1);
        let want = quotient + i128::from(up);
        let sign = if negative { "-" } else { "" };
        let text = format!("{sign}{whole}.{parts:09}");
        prop_assert_eq!(parse(&text, 9, 3), Parsed::Value(if negative { -want } else { want }));
    }

    #[test]
    fn an_exponent_moves_the_point_and_nothing_else(value in -99_999_999_i64..=99_999_999, by in 0_u32..8) {
        let plain = parse(&value.to_string(), 18, 3);
        let scaled = format!("{}e-{by}", i128::from(value) * 10_i128.pow(by));
        prop_assert_eq!(parse(&scaled, 18, 3), plain);
        prop_assert_eq!(whole(&scaled), Some(i128::from(value)));
    }
}
