//! What definitions ask of an event: Python's rules (definitions/matcher.py) as tables.
//!
//! An answer of None is no answer: Python evaluates the event. So nothing here has to know every
//! reading of a value, only to be right where it gives one.

use std::borrow::Cow;
use std::cmp::Ordering;

use pyo3::prelude::*;

use crate::decimal;
use crate::scan::{Slots, Value};

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

/// One rule. Fields are slots of the scan.
pub struct Rule {
    pub key: String,
    pub kind: Kind,
    pub field: Option<usize>,
    pub numeric_text: bool,
    /// Earlier events reach only dead cells.
    pub from_ns: Option<i64>,
    /// Whether the cells are the whole deployment's, not each customer's.
    pub everybody: bool,
    pub tests: Vec<Test>,
    /// The properties of each grouping set besides the total.
    pub grouping_sets: Vec<Vec<usize>>,
}

pub struct Test {
    pub field: usize,
    pub asks: Asks,
    /// What an unknown answer counts as (C06).
    pub if_unknown: bool,
}

pub enum Asks {
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
    Boolean {
        wanted: bool,
        strict: bool,
    },
}

#[derive(Clone, Copy)]
pub enum TextTest {
    Equal,
    Contains,
    StartsWith,
    EndsWith,
}

/// A rule as Python spells it (pipeline/core/fold/rust.py).
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Spelled {
    pub key: String,
    pub kind: String,
    pub field: Option<String>,
    pub numeric_text: bool,
    pub from_ns: Option<i64>,
    pub everybody: bool,
    pub tests: Vec<SpelledTest>,
    pub grouping_sets: Vec<Vec<String>>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SpelledTest {
    pub field: String,
    pub operator: String,
    pub operands: Vec<String>,
    pub comparison: String,
    pub strict: bool,
    pub if_unknown: bool,
}

impl Rule {
    /// Makes a rule; None where there is something in it that only Python evaluates.
    pub fn new(spelled: Spelled, mut slot: impl FnMut(String) -> usize) -> Option<Self> {
        let kind = match spelled.kind.as_str() {
            "count" => Kind::Count,
            "sum" => Kind::Sum,
            "max" => Kind::Max,
            "min" => Kind::Min,
            "mean" => Kind::Mean,
            "latest" => Kind::Latest,
            "first" => Kind::First,
            "count_distinct" => Kind::Unique,
            _ => return None,
        };
        let mut tests = Vec::new();
        for test in spelled.tests {
            let asks = Asks::new(&test)?;
            tests.push(Test {
                field: slot(test.field),
                asks,
                if_unknown: test.if_unknown,
            });
        }
        Some(Self {
            key: spelled.key,
            kind,
            field: spelled.field.map(&mut slot),
            numeric_text: spelled.numeric_text,
            from_ns: spelled.from_ns,
            everybody: spelled.everybody,
            tests,
            grouping_sets: spelled
                .grouping_sets
                .into_iter()
                .map(|keys| keys.into_iter().map(&mut slot).collect())
                .collect(),
        })
    }

    /// Whether the event matches: every test holds.
    pub fn matches(&self, slots: &Slots) -> Option<bool> {
        let mut all = true;
        for test in &self.tests {
            all &= test.holds(slots.get(test.field))?;
        }
        Some(all)
    }
}

impl Asks {
    fn new(test: &SpelledTest) -> Option<Self> {
        let operator = test.operator.as_str();
        match (test.comparison.as_str(), operator) {
            (_, "is_set" | "is_not_set") => Some(Self::IsSet(operator == "is_set")),
            (comparison @ ("string" | "text"), _) => {
                let (how, holds) = match operator {
                    "equal" | "in" => (TextTest::Equal, true),
                    "not_equal" | "not_in" => (TextTest::Equal, false),
                    "contains" => (TextTest::Contains, true),
                    "not_contains" => (TextTest::Contains, false),
                    "starts_with" => (TextTest::StartsWith, true),
                    "not_starts_with" => (TextTest::StartsWith, false),
                    "ends_with" => (TextTest::EndsWith, true),
                    "not_ends_with" => (TextTest::EndsWith, false),
                    _ => return None,
                };
                let texts = test.operands.iter();
                let mut operands: Vec<_> = texts.map(|text| text.clone().into_bytes()).collect();
                operands.sort_unstable();
                Some(Self::Text {
                    how,
                    operands,
                    any: comparison == "text",
                    holds,
                })
            }
            ("number", _) => {
                let holds: fn(Ordering) -> bool = match operator {
                    "equal" => Ordering::is_eq,
                    "not_equal" => Ordering::is_ne,
                    "less" => Ordering::is_lt,
                    "less_or_equal" => Ordering::is_le,
                    "greater" => Ordering::is_gt,
                    "greater_or_equal" => Ordering::is_ge,
                    _ => return None,
                };
                let operand = decimal::parse(test.operands.first()?.as_bytes())?;
                Some(Self::Number {
                    holds,
                    operand,
                    strict: test.strict,
                })
            }
            ("boolean", "is_true" | "is_false") => Some(Self::Boolean {
                wanted: operator == "is_true",
                strict: test.strict,
            }),
            _ => None,
        }
    }
}

impl Test {
    fn holds(&self, value: Value) -> Option<bool> {
        if let Asks::IsSet(set) = self.asks {
            return Some(set != matches!(value, Value::Absent | Value::Null));
        }
        let known = match &self.asks {
            Asks::IsSet(_) => None,
            Asks::Text {
                how,
                operands,
                any,
                holds,
            } => match (value, any) {
                (Value::Text(text), _) => Some(how.any(text, operands) == *holds),
                (_, false) => None,
                (_, true) => text_form(value)?.map(|text| how.any(&text, operands) == *holds),
            },
            Asks::Number {
                holds,
                operand,
                strict,
            } => match (value, strict) {
                (Value::Number(text), _) | (Value::Text(text), false) => {
                    Some(holds(decimal::parse(text)?.cmp(operand)))
                }
                _ => None,
            },
            Asks::Boolean { wanted, strict } => match (value, strict) {
                (Value::True, _) => Some(*wanted),
                (Value::False, _) => Some(!*wanted),
                (Value::Text(text), false) if text.eq_ignore_ascii_case(b"true") => Some(*wanted),
                (Value::Text(text), false) if text.eq_ignore_ascii_case(b"false") => Some(!*wanted),
                _ => None,
            },
        };
        Some(known.unwrap_or(self.if_unknown))
    }
}

impl TextTest {
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

/// The text form of a value (C05): Some(None) where it has none, None where Python knows.
pub fn text_form(value: Value) -> Option<Option<Cow<[u8]>>> {
    Some(match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Number(text) => Some(Cow::Owned(
            decimal::text(decimal::parse(text)?).into_bytes(),
        )),
        Value::True => Some(Cow::Borrowed(b"true")),
        Value::False => Some(Cow::Borrowed(b"false")),
        Value::Absent | Value::Null | Value::Nested => None,
    })
}
