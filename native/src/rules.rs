//! What definitions ask of an event: Python's rules (definitions/matcher.py) as tables.
//!
//! An answer of Left is no answer: Python evaluates this rule for this event, and says why it had to.
//! So nothing here has to know every reading of a value, only to be right where it gives one.

use std::borrow::Cow;
use std::cmp::Ordering;

use pyo3::prelude::*;

use crate::decimal;
use crate::fields::{self, Field, Fields};
use crate::scan::{Slots, Value, elements};

const NAME_BYTES_MAX: usize = 256; // of a group or a unit

/// Why a rule is left to Python for an event (pipeline/core/fold/spelled.py has the words).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    /// A test that this module does not know: a pattern, or an operand that is too long.
    Test,
    /// A number that decimal.rs does not read.
    Number,
    /// A value that the measure cannot read: it is counted as unreadable.
    Unreadable,
    /// A group or a unit whose name is cut (docs/semantics.md V-8).
    Name,
}

impl Left {
    pub fn word(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Number => "number",
            Self::Unreadable => "unreadable",
            Self::Name => "name",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Count,
    Sum,
    Max,
    Min,
    Mean,
    Latest,
    First,
    Unique,
}

/// Whose the cells of a rule are.
#[derive(Clone, Copy)]
pub enum Whose {
    Customers,
    Everybodys,
    /// Of the unit that the field names; nobody's where there is none.
    Units(Field),
}

/// One rule.
pub struct Rule {
    pub key: String,
    pub kind: Kind,
    pub field: Option<Field>,
    pub numeric_text: bool,
    /// Earlier events reach only dead cells.
    pub from_ns: Option<i64>,
    pub whose: Whose,
    pub tests: Vec<Test>,
    /// The fields of each grouping set besides the total.
    pub grouping_sets: Vec<Vec<Field>>,
}

pub struct Test {
    pub field: Field,
    pub asks: Asks,
    /// What an unknown answer counts as (C06).
    pub if_unknown: bool,
}

pub enum Asks {
    /// What only Python knows.
    Python,
    /// Nothing that an event could answer.
    Nothing,
    IsSet(bool),
    /// Of texts; `any` also takes the text forms of numbers and booleans.
    Text {
        how: TextTest,
        operands: Vec<Vec<u8>>,
        any: bool,
        holds: bool,
    },
    /// Of numbers; decimal text is one unless `strict`.
    Number {
        holds: fn(Ordering) -> bool,
        operand: i128,
        strict: bool,
    },
    /// Of numbers where both sides are, else of texts.
    NumberOrText {
        number: Option<i128>,
        text: Vec<u8>,
    },
    Boolean {
        wanted: bool,
        strict: bool,
    },
    /// Whether some element of a list is such a text, typed.
    AnyText {
        text: Vec<u8>,
        holds: bool,
    },
    /// Whether some element of a list is such a number, typed.
    AnyNumber {
        number: i128,
        holds: bool,
    },
    /// Of the text forms of the elements that are texts or numbers.
    AnyForm {
        how: TextTest,
        operand: Vec<Vec<u8>>,
        holds: bool,
    },
}

#[derive(Clone, Copy)]
pub enum TextTest {
    Equal,
    Contains,
    StartsWith,
    EndsWith,
}

/// A rule as Python spells it (pipeline/core/fold/spelled.py).
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Spelled {
    pub key: String,
    pub kind: String,
    pub field: Option<fields::Spelled>,
    pub numeric_text: bool,
    pub from_ns: Option<i64>,
    pub everybody: bool,
    pub unit: Option<fields::Spelled>,
    pub tests: Vec<SpelledTest>,
    pub grouping_sets: Vec<Vec<fields::Spelled>>,
}

/// A test. operator: with `text` and `number` of one operand, or with many texts.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SpelledTest {
    pub field: fields::Spelled,
    pub operator: String,
    pub comparison: String,
    pub texts: Vec<String>,
    pub number: Option<String>,
    pub strict: bool,
    pub if_unknown: bool,
}

/// An aggregation as Python spells it.
pub fn kind_of(spelled: &str) -> Option<Kind> {
    Some(match spelled {
        "count" => Kind::Count,
        "sum" => Kind::Sum,
        "max" => Kind::Max,
        "min" => Kind::Min,
        "mean" => Kind::Mean,
        "latest" => Kind::Latest,
        "first" => Kind::First,
        "count_distinct" => Kind::Unique,
        _ => return None,
    })
}

impl Rule {
    /// Makes a rule; None where the spelling is of another release.
    pub fn new(spelled: Spelled, fields: &mut Fields) -> Option<Self> {
        let kind = kind_of(&spelled.kind)?;
        let mut tests = Vec::new();
        for test in spelled.tests {
            tests.push(Test {
                field: fields.learn(&test.field)?,
                asks: Asks::new(&test).unwrap_or(Asks::Python),
                if_unknown: test.if_unknown,
            });
        }
        let field = match &spelled.field {
            Some(field) => Some(fields.learn(field)?),
            None => None,
        };
        let whose = match &spelled.unit {
            Some(unit) => Whose::Units(fields.learn(unit)?),
            None if spelled.everybody => Whose::Everybodys,
            None => Whose::Customers,
        };
        let sets = spelled.grouping_sets.iter();
        let sets = sets.map(|set| set.iter().map(|field| fields.learn(field)).collect());
        Some(Self {
            key: spelled.key,
            kind,
            field,
            numeric_text: spelled.numeric_text,
            from_ns: spelled.from_ns,
            whose,
            tests,
            grouping_sets: sets.collect::<Option<_>>()?,
        })
    }

    /// Whether the event matches: every test holds.
    pub fn matches(&self, slots: &Slots) -> Result<bool, Left> {
        let mut left = None;
        for test in &self.tests {
            match test.holds(test.field.of(slots)) {
                Ok(true) => {}
                Ok(false) => return Ok(false), // whatever the others say
                Err(why) => left = left.or(Some(why)),
            }
        }
        left.map_or(Ok(true), Err)
    }

    /// What the measure reads of a value that is there, in billionths.
    pub fn number(&self, value: Value) -> Result<i128, Left> {
        match value {
            Value::Number(token) => decimal::parse(token).ok_or(Left::Number),
            _ if self.numeric_text => {
                let text = value.text().ok_or(Left::Unreadable)?;
                number_in(&text)?.ok_or(Left::Unreadable)
            }
            _ => Err(Left::Unreadable),
        }
    }
}

/// The number that a text is: None where it is none for certain.
fn number_in(text: &[u8]) -> Result<Option<i128>, Left> {
    if let Some(number) = decimal::parse(text) {
        return Ok(Some(number));
    }
    let odd = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if text.iter().any(odd) || !text.iter().any(u8::is_ascii_digit) {
        return Ok(None);
    }
    Err(Left::Number)
}

impl Asks {
    /// None where only Python knows.
    fn new(test: &SpelledTest) -> Option<Self> {
        let operator = test.operator.as_str();
        let number = || {
            test.number
                .as_ref()
                .map(|text| decimal::parse(text.as_bytes()))
        };
        let text = || Some(test.texts.first()?.clone().into_bytes());
        Some(match (test.comparison.as_str(), operator) {
            ("nothing", _) => Self::Nothing,
            (_, "is_set" | "is_not_set") => Self::IsSet(operator == "is_set"),
            (comparison @ ("string" | "text"), _) => {
                let (how, holds) = TextTest::of(operator)?;
                let texts = test.texts.iter();
                let mut operands: Vec<_> = texts.map(|text| text.clone().into_bytes()).collect();
                operands.sort_unstable();
                Self::Text {
                    how,
                    operands,
                    any: comparison == "text",
                    holds,
                }
            }
            ("number", _) => Self::Number {
                holds: match operator {
                    "equal" => Ordering::is_eq,
                    "not_equal" => Ordering::is_ne,
                    "less" => Ordering::is_lt,
                    "less_or_equal" => Ordering::is_le,
                    "greater" => Ordering::is_gt,
                    "greater_or_equal" => Ordering::is_ge,
                    _ => return None,
                },
                operand: number()??,
                strict: test.strict,
            },
            ("number_or_text", "equal") => Self::NumberOrText {
                number: match number() {
                    None => None,
                    Some(read) => Some(read?),
                },
                text: text()?,
            },
            ("boolean", "is_true" | "is_false") => Self::Boolean {
                wanted: operator == "is_true",
                strict: test.strict,
            },
            ("list", "any_element_equal" | "no_element_equal") => {
                let holds = operator == "any_element_equal";
                match number() {
                    Some(read) => Self::AnyNumber {
                        number: read?,
                        holds,
                    },
                    None => Self::AnyText {
                        text: text()?,
                        holds,
                    },
                }
            }
            ("list", _) => {
                let (how, holds) = match operator {
                    "any_element_contains" => (TextTest::Contains, true),
                    "no_element_contains" => (TextTest::Contains, false),
                    "any_element_starts_with" => (TextTest::StartsWith, true),
                    "no_element_starts_with" => (TextTest::StartsWith, false),
                    "any_element_ends_with" => (TextTest::EndsWith, true),
                    "no_element_ends_with" => (TextTest::EndsWith, false),
                    _ => return None,
                };
                Self::AnyForm {
                    how,
                    operand: vec![text()?],
                    holds,
                }
            }
            _ => return None,
        })
    }
}

impl Test {
    fn holds(&self, value: Value) -> Result<bool, Left> {
        let known = match &self.asks {
            Asks::Python => return Err(Left::Test),
            Asks::Nothing => None,
            Asks::IsSet(set) => Some(*set != matches!(value, Value::Absent | Value::Null)),
            Asks::Text {
                how,
                operands,
                any,
                holds,
            } => {
                let text = if *any {
                    text_form(value)?
                } else {
                    value.text()
                };
                text.map(|text| how.any(&text, operands) == *holds)
            }
            Asks::Number {
                holds,
                operand,
                strict,
            } => {
                let number = match (value, strict) {
                    (Value::Number(token), _) => Some(decimal::parse(token).ok_or(Left::Number)?),
                    (_, true) => None,
                    (_, false) => match value.text() {
                        Some(text) => number_in(&text)?,
                        None => None,
                    },
                };
                number.map(|number| holds(number.cmp(operand)))
            }
            Asks::NumberOrText { number, text } => match text_form(value)? {
                None => None,
                Some(form) => {
                    let read = match (value, number) {
                        (Value::True | Value::False, _) | (_, None) => None,
                        _ => number_in(&form)?,
                    };
                    Some(match (read, number) {
                        (Some(read), Some(number)) => read == *number,
                        _ => *form == **text,
                    })
                }
            },
            Asks::Boolean { wanted, strict } => match (value, strict) {
                (Value::True, _) => Some(*wanted),
                (Value::False, _) => Some(!*wanted),
                (_, true) => None,
                (_, false) => match value.text() {
                    Some(text) if text.eq_ignore_ascii_case(b"true") => Some(*wanted),
                    Some(text) if text.eq_ignore_ascii_case(b"false") => Some(!*wanted),
                    _ => None,
                },
            },
            Asks::AnyText { text, holds } => any_element(value, *holds, |each| {
                Ok(each.text().is_some_and(|found| *found == **text))
            })?,
            Asks::AnyNumber { number, holds } => any_element(value, *holds, |each| match each {
                Value::Number(token) => Ok(decimal::parse(token).ok_or(Left::Number)? == *number),
                _ => Ok(false),
            })?,
            Asks::AnyForm {
                how,
                operand,
                holds,
            } => any_element(value, *holds, |each| match each {
                Value::True | Value::False => Ok(false),
                _ => Ok(text_form(each)?.is_some_and(|text| how.any(&text, operand))),
            })?,
        };
        Ok(known.unwrap_or(self.if_unknown))
    }
}

/// Whether there is such an element in a list, or none where `holds` is false; None where the
/// value is no list. A text, a number or a boolean is a list of one (CK4).
fn any_element(
    value: Value,
    holds: bool,
    mut is_such: impl FnMut(Value) -> Result<bool, Left>,
) -> Result<Option<bool>, Left> {
    let found = match value {
        Value::Absent | Value::Null | Value::Object => return Ok(None),
        Value::List(list) => {
            let (mut found, mut left) = (false, None);
            for each in elements(list) {
                match is_such(each) {
                    Ok(such) => found |= such,
                    Err(why) => left = Some(why),
                }
            }
            if let (false, Some(why)) = (found, left) {
                return Err(why);
            }
            found
        }
        single => {
            text_form(single)?; // a number of any length is Python's: it may be unreadable
            is_such(single)?
        }
    };
    Ok(Some(found == holds))
}

impl TextTest {
    /// What an operator looks for, and whether the test holds where it is found.
    fn of(operator: &str) -> Option<(Self, bool)> {
        Some(match operator {
            "equal" | "in" => (Self::Equal, true),
            "not_equal" | "not_in" => (Self::Equal, false),
            "contains" => (Self::Contains, true),
            "not_contains" => (Self::Contains, false),
            "starts_with" => (Self::StartsWith, true),
            "not_starts_with" => (Self::StartsWith, false),
            "ends_with" => (Self::EndsWith, true),
            "not_ends_with" => (Self::EndsWith, false),
            _ => return None,
        })
    }

    /// Whether one of the operands, which are sorted, is what this asks for.
    fn any(self, text: &[u8], operands: &[Vec<u8>]) -> bool {
        let is_among = || operands.binary_search_by(|each| each.as_slice().cmp(text));
        if let Self::Equal = self {
            return is_among().is_ok();
        }
        operands.iter().any(|operand| match self {
            Self::Equal => false,
            Self::Contains => contains(text, operand),
            Self::StartsWith => text.starts_with(operand),
            Self::EndsWith => text.ends_with(operand),
        })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    // The search of texts is linear in both, whatever they are.
    match (std::str::from_utf8(text), std::str::from_utf8(part)) {
        (Ok(text), Ok(part)) => text.contains(part),
        _ => part.is_empty() || text.windows(part.len()).any(|window| window == part),
    }
}

/// The text form of a value (C05); None where it has none.
pub fn text_form(value: Value) -> Result<Option<Cow<[u8]>>, Left> {
    Ok(match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Escaped(_) => value.text(),
        Value::Number(token) => {
            let number = decimal::parse(token).ok_or(Left::Number)?;
            Some(Cow::Owned(decimal::text(number).into_bytes()))
        }
        Value::True => Some(Cow::Borrowed(b"true")),
        Value::False => Some(Cow::Borrowed(b"false")),
        Value::Absent | Value::Null | Value::List(_) | Value::Object => None,
    })
}

/// What a value is called as a group or as a unit; None where it has no text form.
pub fn name_of(value: Value) -> Result<Option<Cow<[u8]>>, Left> {
    match text_form(value)? {
        // A longer one has another name (docs/semantics.md V-8), which Python makes.
        Some(text) if text.len() > NAME_BYTES_MAX => Err(Left::Name),
        name => Ok(name),
    }
}
