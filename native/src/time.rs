//! RFC 3339 texts → nanoseconds since 1970 UTC, where every clock would agree.

const NS_PER_S: i64 = 1_000_000_000;

/// Returns an instant; None where the text is none, or is better read elsewhere: far from today,
/// or impossible (definitions/times.py says which).
pub fn parse(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?; // 2026-03-01T11:30:05
    let number = |at: usize, count: usize| digits(&head[at..at + count]);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let marks =
        [head[4], head[7], head[13], head[16]] == *b"--::" && matches!(head[10], b'T' | b't');
    // Nanoseconds of these years fit.
    let known = (1700..2200).contains(&year) && (1..=12).contains(&month) && day >= 1;
    if !marks || !known || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ns, offset) = fraction(rest)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_s(offset)?) * NS_PER_S + fraction_ns)
}

/// The value of a text of digits alone, and nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// `.123Z` → nanoseconds and what follows. Digits past the ninth are cut.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(after) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let count = after
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let kept = count.min(9);
    if count == 0 {
        return None;
    }
    let scale = 10_i64.pow(9 - kept as u32);
    Some((digits(&after[..kept])? * scale, &after[count..]))
}

/// `Z` or `+02:00` → seconds ahead of UTC.
fn offset_s(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let away = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
            Some(if *sign == b'-' { -away } else { away })
        }
        _ => None,
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
