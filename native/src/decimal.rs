//! Decimals of at most 18 digits, 9 of them after the point, as whole billionths: exact, and no
//! sum of a plan can leave an i128. All others are left to Python.

pub const ONE: i128 = 1_000_000_000;
const DIGITS_MAX: usize = 18;
const PLACES_MAX: usize = 9;
const POWERS: [i64; PLACES_MAX + 1] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// Reads `[+-]digits[.digits]` or `[+-].digits`, as C04 does; None where it is no such text.
pub fn parse(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    let (mut count, mut places, mut point) = (0, 0, false);
    for &byte in text {
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
            _ => return None,
        }
    }
    if count == 0 || places > PLACES_MAX || (point && places == 0) {
        return None;
    }
    let scaled = i128::from(value) * i128::from(POWERS[PLACES_MAX - places]);
    Some(if negative { -scaled } else { scaled })
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
