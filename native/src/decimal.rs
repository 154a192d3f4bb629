//! Decimals of at most 18 digits, 9 of them after the point, as whole billionths: exact, and no
//! sum of a plan can leave an i128. All others are left to Python.

pub const ONE: i128 = 1_000_000_000;
const DIGITS_MAX: usize = 18;
const PLACES_MAX: usize = 9;

/// Reads `[+-]digits[.digits]` or `[+-].digits`, with an exponent or without, as C04 does; None where
/// it is no such text, or a number of other digits than these.
pub fn parse(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    let (mut count, mut places, mut point) = (0, 0, false);
    let mut exponent = 0;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                count += 1;
                places += usize::from(point);
                if count > DIGITS_MAX {
                    return None;
                }
                value = value * 10 + i64::from(byte - b'0');
            }
            b'.' if !point => point = true,
            b'e' | b'E' => {
                exponent = parse_exponent(&text[at + 1..])?;
                break;
            }
            _ => return None,
        }
    }
    if count == 0 || (point && places == 0) {
        return None;
    }
    let places = places as i64 - exponent;
    if places > PLACES_MAX as i64 || count as i64 - places > DIGITS_MAX as i64 {
        return None;
    }
    // At most 18 digits before the point, and 9 after it.
    let scaled = i128::from(value) * 10_i128.pow((PLACES_MAX as i64 - places) as u32);
    Some(if negative { -scaled } else { scaled })
}

/// Reads `[+-]digits`, two of them at most: longer ones are Python's.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if !matches!(digits.len(), 1 | 2) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// The text of whole billionths: `-12.5`, without zeros at the end.
pub fn text(value: i128) -> String {
    let (whole, rest) = (value.abs() / ONE, value.abs() % ONE);
    let sign = if value < 0 { "-" } else { "" };
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    format!(
        "{sign}{whole}.{}",
        format!("{rest:09}").trim_end_matches('0')
    )
}
