//! Exact decimals from the digits that a device wrote: parsing them as binary floats first would change them.

/// A number as the value of a DECIMAL column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The unscaled value (value x 10^scale), rounded half to even.
    Value(i128),
    /// More digits before the decimal point than the column has.
    TooLarge,
    /// The text is not a JSON number.
    NotANumber,
}

/// Digits that are kept. Any further ones only matter for rounding: they break a tie.
// With the eight digits that a scale may add, a mantissa of 30 still fits in 128 bits.
const MAX_DIGITS: u32 = 30;

/// Parses the text of a JSON number as the unscaled integer of a DECIMAL(precision, scale).
#[must_use]
pub fn parse(text: &str, precision: u8, scale: u8) -> Parsed {
    let Some(number) = Number::scan(text.as_bytes()) else { return Parsed::NotANumber };
    let Some(unscaled) = number.at_scale(i64::from(scale)) else { return Parsed::TooLarge };
    if unscaled >= 10_u128.pow(u32::from(precision)) {
        return Parsed::TooLarge;
    }
    let value = i128::try_from(unscaled).unwrap_or(i128::MAX);
    Parsed::Value(if number.negative { -value } else { value })
}

/// Converts a float, such as a value in another unit, to the unscaled integer of a DECIMAL(precision, scale).
#[must_use]
pub fn from_f64(value: f64, precision: u8, scale: u8) -> Parsed {
    if value.is_nan() {
        return Parsed::NotANumber;
    }
    let unscaled = (value * 10_f64.powi(i32::from(scale))).round_ties_even();
    if unscaled.abs() >= 10_f64.powi(i32::from(precision)) {
        return Parsed::TooLarge;
    }
    #[expect(clippy::cast_possible_truncation, reason = "smaller than 10^precision")]
    Parsed::Value(unscaled as i128)
}

/// The integer that a JSON number's text means, in any form: `60`, `60.0`, `6e1`. None if it has a
/// fraction, or more digits than any of our fields.
#[must_use]
pub fn whole(text: &str) -> Option<i128> {
    let number = Number::scan(text.as_bytes())?;
    let value = i128::try_from(number.exact()?).ok()?;
    Some(if number.negative { -value } else { value })
}

struct Number {
    negative: bool,
    mantissa: u128,
    /// The value is mantissa x 10^exponent, or slightly more if `sticky`.
    exponent: i64,
    sticky: bool,
}

impl Number {
    fn scan(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let mut number = Self { negative, mantissa: 0, exponent: 0, sticky: false };
        let (mut kept, mut seen, mut after_point) = (0_u32, false, false);
        let mut rest = digits;
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b'0'..=b'9' => {
                    seen = true;
                    let digit = byte - b'0';
                    if kept < MAX_DIGITS {
                        number.mantissa = number.mantissa * 10 + u128::from(digit);
                        kept += u32::from(number.mantissa != 0);
                        number.exponent -= i64::from(after_point);
                    } else {
                        number.sticky |= digit != 0;
                        number.exponent += i64::from(!after_point);
                    }
                }
                b'.' if !after_point => after_point = true,
                b'e' | b'E' if seen => {
                    number.exponent = number.exponent.saturating_add(exponent(tail)?);
                    return Some(number);
                }
                _ => return None,
            }
            rest = tail;
        }
        seen.then_some(number)
    }

    /// The value, if it is an integer.
    fn exact(&self) -> Option<u128> {
        if self.sticky {
            return None;
        }
        if self.mantissa == 0 {
            return Some(0);
        }
        let power = |digits: i64| u32::try_from(digits).ok().and_then(|d| 10_u128.checked_pow(d));
        if self.exponent >= 0 {
            return self.mantissa.checked_mul(power(self.exponent)?);
        }
        let divisor = power(-self.exponent)?;
        self.mantissa.is_multiple_of(divisor).then_some(self.mantissa / divisor)
    }

    /// mantissa x 10^(exponent + scale), rounded; none if that is more than any column holds.
    fn at_scale(&self, scale: i64) -> Option<u128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let shift = self.exponent.saturating_add(scale);
        if shift >= 0 {
            let shift = u32::try_from(shift).ok().filter(|s| *s <= 38)?;
            return self.mantissa.checked_mul(10_u128.checked_pow(shift)?);
        }
        let Some(divisor) = u32::try_from(-shift).ok().and_then(|s| 10_u128.checked_pow(s)) else {
            return Some(0);
        };
        let (quotient, remainder) = (self.mantissa / divisor, self.mantissa % divisor);
        let half = divisor / 2;
        let up = remainder > half || (remainder == half && (self.sticky || quotient % 2 == 1));
        Some(quotient + u128::from(up))
    }
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Saturating: an exponent of a million is as much out of range as one of a billion.
    let value = digits.iter().fold(0_i64, |v, d| (v * 10 + i64::from(d - b'0')).min(1_000_000));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests;
