//! What a cell holds, its canonical text, and how two of one cell become one.
//!
//! The reference is pipeline/core/aggregations.py. A text that is not exactly the one that would be
//! written here for what it says, is kept as it is (`Value::Text`): Python reads and merges it.

use crate::decimal::{self, ONE};
use crate::rules::Kind;

/// Whole parts have at most 18 digits, in a stored number too.
const NUMBER_MAX: i128 = 1_000_000_000_000_000_000 * ONE - 1;
const WHOLE_DIGITS_MAX: usize = 18;
const PLACES_MAX: usize = 9;
const NS_PER_MS: i64 = 1_000_000;

/// Where a reading stands: orders those of equal event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub event_ns: i64,
    pub clock_ms: i64,
    pub partition: i64,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of MAX, MIN, LATEST and FIRST: no value yet. Of UNIQUE: its elements lie elsewhere.
    Nothing,
    Count(u64),
    /// In billionths.
    Number(i128),
    Mean(i128, u64),
    Reading(Position, i128),
    /// The whole stored text, which only Python reads.
    Text(Box<[u8]>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    pub value: Value,
    pub unreadable: u64,
}

impl Partial {
    /// Reads a stored text.
    pub fn parse(kind: Kind, text: &[u8]) -> Self {
        let read = || {
            let (value, unreadable) = match text.iter().position(|&byte| byte == b'|') {
                None => (text, 0),
                Some(at) => (&text[..at], natural(&text[at + 1..]).filter(|&n| n > 0)?),
            };
            Some(Self {
                value: parse_value(kind, value)?,
                unreadable,
            })
        };
        read().unwrap_or_else(|| Self::text(text))
    }

    /// What only Python reads.
    pub fn text(text: &[u8]) -> Self {
        Self {
            value: Value::Text(text.into()),
            unreadable: 0,
        }
    }

    /// The same, as a text where it does not fit.
    pub fn fitted(self) -> Self {
        let number = match self.value {
            Value::Number(number) | Value::Mean(number, _) | Value::Reading(_, number) => number,
            _ => return self,
        };
        if number.abs() <= NUMBER_MAX {
            return self;
        }
        let mut text = Vec::new();
        self.encode(&mut text);
        Self::text(&text)
    }

    /// Appends the canonical text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Nothing => {}
            Value::Count(count) => put_natural(*count, out),
            Value::Number(number) => put_number(*number, out),
            Value::Mean(sum, count) => {
                put_number(*sum, out);
                out.push(b'/');
                put_natural(*count, out);
            }
            Value::Reading(at, number) => {
                let age_ms =
                    i128::from(at.clock_ms) - i128::from(at.event_ns.div_euclid(NS_PER_MS));
                for part in [
                    at.event_ns.into(),
                    age_ms,
                    at.partition.into(),
                    at.offset.into(),
                ] {
                    put_base36(part, out);
                    out.push(b':');
                }
                put_number(*number, out);
            }
            Value::Text(text) => out.extend_from_slice(text),
        }
        if self.unreadable > 0 {
            out.push(b'|');
            put_natural(self.unreadable, out);
        }
    }

    /// Joins another of the same cell; says no, and changes nothing, where Python has to.
    pub fn merge(&mut self, kind: Kind, other: &Self) -> bool {
        let Some(unreadable) = self.unreadable.checked_add(other.unreadable) else {
            return false;
        };
        let value = match (kind, &self.value, &other.value) {
            (_, Value::Text(_), _) | (_, _, Value::Text(_)) => return false,
            (_, _, Value::Nothing) => None,
            (_, Value::Nothing, value) => Some(value.clone()),
            (Kind::Count, Value::Count(left), Value::Count(right)) => {
                let Some(count) = left.checked_add(*right) else {
                    return false;
                };
                Some(Value::Count(count))
            }
            (Kind::Sum, Value::Number(left), Value::Number(right)) => {
                Some(Value::Number(left + right))
            }
            (Kind::Max, Value::Number(left), Value::Number(right)) => {
                Some(Value::Number(*left.max(right)))
            }
            (Kind::Min, Value::Number(left), Value::Number(right)) => {
                Some(Value::Number(*left.min(right)))
            }
            (Kind::Mean, Value::Mean(left, count), Value::Mean(right, more)) => {
                let Some(count) = count.checked_add(*more) else {
                    return false;
                };
                Some(Value::Mean(left + right, count))
            }
            (Kind::Latest, Value::Reading(left, _), Value::Reading(right, _)) => {
                (right > left).then(|| other.value.clone())
            }
            (Kind::First, Value::Reading(left, _), Value::Reading(right, _)) => {
                (right < left).then(|| other.value.clone())
            }
            _ => return false,
        };
        if let Some(Value::Number(number) | Value::Mean(number, _)) = value
            && number.abs() > NUMBER_MAX
        {
            return false;
        }
        self.unreadable = unreadable;
        if let Some(value) = value {
            self.value = value;
        }
        true
    }
}

fn parse_value(kind: Kind, text: &[u8]) -> Option<Value> {
    Some(match kind {
        Kind::Max | Kind::Min | Kind::Latest | Kind::First | Kind::Unique if text.is_empty() => {
            Value::Nothing
        }
        Kind::Unique => return None,
        Kind::Count => Value::Count(natural(text)?),
        Kind::Sum | Kind::Max | Kind::Min => Value::Number(number(text)?),
        Kind::Mean => {
            let at = text.iter().position(|&byte| byte == b'/')?;
            Value::Mean(number(&text[..at])?, natural(&text[at + 1..])?)
        }
        Kind::Latest | Kind::First => {
            let mut parts = text.split(|&byte| byte == b':');
            let mut stand = || base36(parts.next()?);
            let (event_ns, age_ms, partition, offset) = (stand()?, stand()?, stand()?, stand()?);
            let position = Position {
                event_ns,
                clock_ms: age_ms.checked_add(event_ns.div_euclid(NS_PER_MS))?,
                partition,
                offset,
            };
            let value = number(parts.next()?)?;
            if parts.next().is_some() {
                return None;
            }
            Value::Reading(position, value)
        }
    })
}

/// A whole number in its one text.
fn natural(text: &[u8]) -> Option<u64> {
    let canonical = match text {
        [b'0'] => true,
        [b'1'..=b'9', ..] => text.len() <= 19 && text.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    canonical.then(|| digits(text))
}

fn digits(text: &[u8]) -> u64 {
    text.iter()
        .fold(0, |value, byte| value * 10 + u64::from(byte - b'0'))
}

/// A decimal in its one text, in billionths: `-12.5`, without zeros at the end.
fn number(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (whole, places) = match text.iter().position(|&byte| byte == b'.') {
        None => (text, None),
        Some(at) => (&text[..at], Some(&text[at + 1..])),
    };
    if whole.len() > WHOLE_DIGITS_MAX {
        return None;
    }
    let mut value = i128::from(natural(whole)?) * ONE;
    if let Some(places) = places {
        let last = *places.last()?;
        let all_digits = places.iter().all(u8::is_ascii_digit);
        if last == b'0' || !all_digits || places.len() > PLACES_MAX {
            return None;
        }
        let missing = (PLACES_MAX - places.len()) as u32;
        value += i128::from(digits(places) * 10_u64.pow(missing));
    }
    if negative && value == 0 {
        return None;
    }
    Some(if negative { -value } else { value })
}

/// A whole number of base 36 in its one text.
fn base36(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || (digits[0] == b'0' && (negative || digits.len() > 1)) {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        value = value.checked_mul(36)?.checked_add(digit.into())?;
    }
    Some(if negative { -value } else { value })
}

/// Appends a whole number.
pub fn put_natural(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends a whole number that may be negative.
pub fn put_integer(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    put_natural(number.unsigned_abs(), out);
}

fn put_number(number: i128, out: &mut Vec<u8>) {
    const ONE_64: u64 = ONE as u64;
    if number.abs() > NUMBER_MAX {
        return out.extend_from_slice(decimal::text(number).as_bytes());
    }
    if number < 0 {
        out.push(b'-');
    }
    let number = number.unsigned_abs();
    // A division of 64 bits, where that is enough, takes a tenth of one of 128.
    let (whole, rest) = match u64::try_from(number) {
        Ok(number) => (number / ONE_64, number % ONE_64),
        Err(_) => {
            let one = ONE.unsigned_abs();
            ((number / one) as u64, (number % one) as u64)
        }
    };
    put_natural(whole, out);
    if rest == 0 {
        return;
    }
    let (mut text, mut rest) = ([b'.'; PLACES_MAX + 1], rest);
    for place in (1..=PLACES_MAX).rev() {
        text[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let last = text.iter().rposition(|&byte| byte != b'0').unwrap_or(0);
    out.extend_from_slice(&text[..=last]);
}

fn put_base36(number: i128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    if number < 0 {
        out.push(b'-');
    }
    let (mut text, mut at, mut rest) = ([0; 26], 26, number.unsigned_abs());
    loop {
        at -= 1;
        text[at] = DIGITS[(rest % 36) as usize];
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
