//! Numbers as text, many digits at a time: most of an export's bytes are decimals.

use std::io::Write as _;

/// Bounds of the fast path: fourteen digits, a point and a sign are the sixteen bytes of a [`Short`]. Numbers
/// with more digits, or with more of them after the point, take the slow path.
const FAST_BELOW: u64 = 100_000_000_000_000;
const FAST_SCALE: u8 = 13;

/// The digit zero, eight and sixteen times.
const ZEROS: u64 = 0x3030_3030_3030_3030;
const MORE_ZEROS: u128 = (ZEROS as u128) << 64 | ZEROS as u128;

/// The eight digits of a number below 10^8, padded with zeros, the first digit in the lowest byte. The number
/// is split into halves, quarters and digits, each step in all lanes of one word at once.
const fn eight(value: u32) -> u64 {
    let halves = (value / 10_000) as u64 | ((value % 10_000) as u64) << 32;
    // 10,486 / 2^20 is so little above 1/100 that the quotient is exact for four digits, as 103 / 2^10 is
    // for two. A multiplication takes a fraction of the time of a division, and does all lanes at once.
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    (tens | (quarters - 10 * tens) << 8) | ZEROS
}

/// The sixteen digits of a number below 10^16, as [`eight`] has eight.
fn sixteen(value: u64) -> u128 {
    if value < 100_000_000 {
        return u128::from(ZEROS) | u128::from(eight(u32::try_from(value).unwrap_or(0))) << 64;
    }
    let part = |value: u64| u128::from(eight(u32::try_from(value % 100_000_000).unwrap_or(0)));
    part(value / 100_000_000) | part(value) << 64
}

/// A text of few bytes. It is copied with a fixed length, which is one instruction, and then cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    bytes: [u8; 16],
    len: u8,
}

impl Short {
    pub const EMPTY: Self = Self { bytes: [0; 16], len: 0 };

    pub fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }

    /// A decimal as [`decimal`] writes it; none if it has too many digits for the fast path.
    pub fn decimal(unscaled: i128, scale: u8, zeros: bool) -> Option<Self> {
        match u64::try_from(unscaled.unsigned_abs()) {
            Ok(value) if value < FAST_BELOW && scale <= FAST_SCALE => {
                Some(fast(value, unscaled < 0, u32::from(scale), zeros))
            }
            _ => None,
        }
    }
}

/// The last `digits` digits of a number, at most eight, padded with zeros.
pub(super) fn padded(value: u64, digits: u8, out: &mut Vec<u8>) {
    let text = eight(u32::try_from(value % 100_000_000).unwrap_or(0));
    let text = u128::from(text) >> (8 * 8_u8.saturating_sub(digits));
    Short { bytes: text.to_le_bytes(), len: digits }.append_to(out);
}

/// A whole number.
pub(super) fn whole(value: i64, out: &mut Vec<u8>) {
    decimal(value.into(), 0, true, out);
}

/// A decimal, exactly; `zeros` keeps zeros at its end. A decimal with a scale keeps one digit after the point
/// in any case, so that readers that guess types don't take it for a whole number.
pub(super) fn decimal(unscaled: i128, scale: u8, zeros: bool, out: &mut Vec<u8>) {
    match Short::decimal(unscaled, scale, zeros) {
        Some(short) => short.append_to(out),
        None => slow(unscaled, scale, zeros, out),
    }
}

fn fast(value: u64, negative: bool, scale: u32, zeros: bool) -> Short {
    let digits = sixteen(value);
    // Here a digit zero is a zero byte, so that zeros can be counted by bits.
    let others = digits ^ MORE_ZEROS;
    let room = 16 - scale;
    let before = room - (others.trailing_zeros() / 8).min(room - 1);
    let mut text = digits >> (8 * (room - before));
    let mut len = before;
    if scale > 0 {
        let dropped = if zeros { 0 } else { (others.leading_zeros() / 8).min(scale - 1) };
        let after = digits >> (8 * room);
        text &= (1 << (8 * before)) - 1;
        text |= u128::from(b'.') << (8 * before) | after << (8 * (before + 1));
        len += 1 + scale - dropped;
    }
    if negative {
        text = text << 8 | u128::from(b'-');
        len += 1;
    }
    Short { bytes: text.to_le_bytes(), len: u8::try_from(len).unwrap_or(16) }
}

fn slow(unscaled: i128, scale: u8, zeros: bool, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (before, after) = digits.split_at(digits.len() - scale);
    let kept = if zeros { after } else { after.trim_end_matches('0') };
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    let kept = if kept.is_empty() { after.get(..1).unwrap_or_default() } else { kept };
    // Writing to memory does not fail.
    drop(write!(out, "{sign}{before}{point}{kept}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before,".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).expect("text");
        text.strip_prefix("before,").expect("what stood there").to_owned()
    }

    #[test]
    fn digits_at_the_edges() {
        let decimal = |value, scale, zeros| text(|out| decimal(value, scale, zeros, out));
        for (value, scale, zeros, wanted) in [
            (0, 0, false, "0"),
            (0, 2, false, "0.0"),
            (0, 2, true, "0.00"),
            (-1, 13, false, "-0.0000000000001"),
            (-99_999_999_999_999, 13, true, "-9.9999999999999"),
            (99_999_999_999_999, 0, true, "99999999999999"),
            (100_000_000_000_000, 1, false, "10000000000000.0"),
            (-i128::from(u64::MAX), 18, false, "-18.446744073709551615"),
            (i128::from(u64::MAX) + 5, 2, false, "184467440737095516.2"),
            (i128::from(u64::MAX) + 5, 0, false, "18446744073709551620"),
        ] {
            assert_eq!(decimal(value, scale, zeros), wanted, "{value} {scale} {zeros}");
        }
        assert_eq!(text(|out| padded(7, 2, out)), "07");
        assert_eq!(text(|out| padded(123_456, 6, out)), "123456");
        assert_eq!(text(|out| padded(12_345_678, 8, out)), "12345678");
        assert_eq!(text(|out| whole(i64::MIN, out)), "-9223372036854775808");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_fast_way_writes_what_the_slow_one_does(
            digits in 0_u32..15, value in any::<u64>(), negative: bool,
            scale in 0..=FAST_SCALE, zeros: bool,
        ) {
            let value = i128::from(value % 10_u64.pow(digits)) * if negative { -1 } else { 1 };
            let fast = text(|out| decimal(value, scale, zeros, out));
            prop_assert_eq!(fast, text(|out| slow(value, scale, zeros, out)));
        }

        #[test]
        fn eight_digits_are_those_of_the_number(value in 0_u32..100_000_000) {
            prop_assert_eq!(eight(value).to_le_bytes().to_vec(), format!("{value:08}").into_bytes());
        }

        #[test]
        fn a_decimal_reads_back_as_it_was(value in -(10_i128.pow(20))..10_i128.pow(20), scale in 0_u8..6) {
            for zeros in [true, false] {
                let text = text(|out| decimal(value, scale, zeros, out));
                let read = acuvim_wire::decimal::parse(&text, 30, scale);
                prop_assert_eq!(read, acuvim_wire::decimal::Parsed::Value(value), "{}", text);
            }
        }
    }
}
