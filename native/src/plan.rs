//! The plain events of one plan, from bytes to cells (pipeline/core/fold/fold.py has the rules).
//!
//! Events go through in blocks: first every event of a block is read and worked out, which changes
//! nothing but names; then, in the order of the log, each is asked for in the index and added.

use hashbrown::HashMap;

use crate::cells::{Cells, Contribution, Interner, Moment};
use crate::decimal;
use crate::fields::{Field, Fields};
use crate::identity;
use crate::index::{ID_BYTES, Index};
use crate::records::View;
use crate::rules::{Kind, Left, Rule, Spelled, Whose, name_of, text_form};
use crate::scan::{Slots, Value, scan};
use crate::time;

const BLOCK: usize = 128;
const NS_PER_MS: i64 = 1_000_000;
const EVERYBODY: u32 = 0; // the owner of the whole deployment's cells: the empty name

/// What a deployment says once and for all.
pub struct Terms {
    pub bucket_ns: i64,
    pub seed: u64,
    pub partition: u32,
    pub homes: u32,
    /// 0: there is no limit.
    pub max_age_ms: i64,
    pub max_ahead_ms: i64,
}

/// An event type: its number, and the rules that it can match.
pub type EventType = (u32, Vec<u32>);

/// The event types that were learned, and their rules.
#[derive(Default)]
pub struct Catalogue {
    pub rules: Vec<Rule>,
    /// By the key of a rule: its number.
    pub numbers: HashMap<String, u32>,
    pub types: HashMap<Box<[u8]>, EventType>,
    /// What the rules read.
    pub fields: Fields,
}

impl Catalogue {
    /// The number of a rule, which is made when it is met first; None where the spelling is none.
    pub fn number(&mut self, spelled: Spelled) -> Option<u32> {
        if let Some(&number) = self.numbers.get(&spelled.key) {
            return Some(number);
        }
        let key = spelled.key.clone();
        self.rules.push(Rule::new(spelled, &mut self.fields)?);
        let number = self.rules.len() as u32 - 1;
        self.numbers.insert(key, number);
        Some(number)
    }
}

/// Why a record is Python's as a whole (pipeline/core/fold/spelled.py has the words).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Odd {
    /// It is no plain event.
    Form,
    /// Nothing was learned of its event type.
    EventType,
    Timestamp,
    /// Too old, or too far ahead.
    Age,
    /// Its customer lives in another partition.
    Home,
}

impl Odd {
    pub fn word(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::EventType => "event_type",
            Self::Timestamp => "timestamp",
            Self::Age => "age",
            Self::Home => "home",
        }
    }
}

/// The records of a plan from number `row` on.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub row: usize,
    /// The last log clock of their generation, and the mark of it in the index.
    pub last_ms: i64,
    pub tag: u8,
}

/// An event that was worked out.
struct Pending {
    id: [u8; ID_BYTES],
    event_type: u32,
    at: Moment,
    /// Where its contributions end; they begin where those of the event before end.
    end: usize,
    /// The same of the rules that are left to Python.
    end_left: usize,
    why: Option<Left>,
    matched: bool,
}

/// A new event of which Python has a share: some rules are left to it.
pub struct Share {
    pub at: Moment,
    /// Whether some rule matched here: then the event is counted already.
    pub matched: bool,
    pub rules: Vec<u32>,
    /// Why the first of them is left.
    pub why: Left,
}

/// What one plan has taken so far. clock_ms: the log clock after the last event.
#[derive(Default)]
pub struct Plan {
    pub records: View,
    pub clock_ms: i64,
    pub counted: usize,
    /// The rows of duplicates.
    pub duplicates: Vec<usize>,
    pub new_ids: Vec<u8>,
    /// Event type → the row of the first new event of it.
    pub first: HashMap<u32, usize>,
    pub owners: Interner,
    pub groups: Interner,
    pub texts: Interner,
    pub cells: Cells,
    /// The event type that nothing could be taken of, for it was not learned.
    pub unknown: Option<String>,
    /// Why the record after the last one is Python's, where it is.
    pub odd: Option<Odd>,
    /// Python's share of what was taken last.
    pub shares: Vec<Share>,
    away: Vec<Option<bool>>, // by owner: whether it is a customer who lives elsewhere
    pending: Vec<Pending>,
    due: Vec<Contribution>,
    left: Vec<u32>,
    scratch: Vec<u8>,
}

impl Plan {
    pub fn new(records: View) -> Self {
        let mut plan = Self {
            records,
            ..Self::default()
        };
        plan.owner(b"");
        plan
    }

    /// Takes events up to the first that is not plain, or until there are enough cells or shares of
    /// Python's; returns how many.
    pub fn take(
        &mut self,
        catalogue: &Catalogue,
        terms: &Terms,
        stretch: Stretch,
        (cells_max, shares_max): (usize, usize),
        index: &mut Index,
    ) -> usize {
        let View {
            rows,
            begin,
            length,
        } = self.records.clone();
        let length = length - stretch.row;
        let mut slots = Slots::new(catalogue.fields.len());
        let mut taken = 0;
        (self.odd, self.shares) = (None, Vec::new());
        while taken < length && self.cells.size < cells_max && self.shares.len() < shares_max {
            self.pending.clear();
            self.due.clear();
            self.left.clear();
            let end = length.min(taken + BLOCK);
            for row in stretch.row + taken..stretch.row + end {
                let (value, stamp) = rows.at(begin + row);
                let clock_ms = self.clock_ms.max(stamp);
                if clock_ms > stretch.last_ms {
                    break;
                }
                let (due, left) = (self.due.len(), self.left.len());
                match self.work_out(catalogue, terms, value, clock_ms, row, &mut slots) {
                    Ok(event) => {
                        index.touch(&event.id);
                        self.pending.push(event);
                        self.clock_ms = clock_ms;
                    }
                    Err(why) => {
                        self.due.truncate(due);
                        self.left.truncate(left);
                        self.odd = Some(why);
                        break;
                    }
                }
            }
            self.add_pending(catalogue, terms, stretch.tag, index);
            taken += self.pending.len();
            if taken < end {
                break;
            }
        }
        taken
    }

    /// Works out what an event contributes; an error where Python has to take it whole.
    fn work_out<'a>(
        &mut self,
        catalogue: &Catalogue,
        terms: &Terms,
        value: &'a [u8],
        clock_ms: i64,
        row: usize,
        slots: &mut Slots<'a>,
    ) -> Result<Pending, Odd> {
        let event = scan(value, &catalogue.fields, slots).ok_or(Odd::Form)?;
        let Some(&(event_type, ref rules)) = catalogue.types.get(&*event.event_type) else {
            self.unknown = String::from_utf8(event.event_type.into_owned()).ok();
            return Err(Odd::EventType);
        };
        let event_ns = time::parse(&event.timestamp).ok_or(Odd::Timestamp)?;
        let too_old = terms.max_age_ms > 0
            && event_ns
                < clock_ms
                    .saturating_sub(terms.max_age_ms)
                    .saturating_mul(NS_PER_MS);
        if too_old
            || event_ns
                > clock_ms
                    .saturating_add(terms.max_ahead_ms)
                    .saturating_mul(NS_PER_MS)
        {
            return Err(Odd::Age);
        }
        let customer = self.owner(&event.customer_id);
        let away = self.away[customer as usize].get_or_insert_with(|| {
            identity::home(&event.customer_id, terms.homes) != terms.partition
        });
        if *away {
            return Err(Odd::Home);
        }
        let (mut matched, mut why) = (false, None);
        for &number in rules {
            let rule = &catalogue.rules[number as usize];
            let before = self.due.len();
            let worked_out = rule.matches(slots).and_then(|matches| {
                if matches {
                    self.contribute(number, rule, customer, event_ns, slots)?;
                }
                Ok(matches)
            });
            match worked_out {
                Ok(matches) => matched |= matches,
                Err(left) => {
                    self.due.truncate(before);
                    self.left.push(number);
                    why = why.or(Some(left));
                }
            }
        }
        Ok(Pending {
            id: identity::id(
                &event.customer_id,
                &event.transaction_id,
                terms.seed,
                &mut self.scratch,
            ),
            event_type,
            at: Moment {
                event_ns,
                clock_ms,
                row,
            },
            end: self.due.len(),
            end_left: self.left.len(),
            why,
            matched,
        })
    }

    /// The number of an owner of cells: a customer, a unit, or everybody.
    fn owner(&mut self, name: &[u8]) -> u32 {
        let (owner, new) = self.owners.number(name);
        if new {
            self.away.push(None);
        }
        owner
    }

    /// Notes what an event that matches a rule adds to the total and to its groups.
    fn contribute(
        &mut self,
        number: u32,
        rule: &Rule,
        customer: u32,
        event_ns: i64,
        slots: &Slots,
    ) -> Result<(), Left> {
        if rule.from_ns.is_some_and(|from_ns| event_ns < from_ns) {
            return Ok(());
        }
        let owner = match rule.whose {
            Whose::Customers => customer,
            Whose::Everybodys => EVERYBODY,
            Whose::Units(unit) => match name_of(unit.of(slots))? {
                None => return Ok(()),
                Some(name) => self.owner(&name),
            },
        };
        let (mut value, mut text) = (decimal::ONE, 0);
        if let Some(field) = rule.field {
            let given = field.of(slots);
            if given == Value::Absent {
                return Ok(());
            }
            if rule.kind == Kind::Unique {
                text = self
                    .texts
                    .number(&text_form(given)?.ok_or(Left::Unreadable)?)
                    .0;
            } else {
                value = rule.number(given)?;
            }
        }
        let due = |group| Contribution {
            rule: number,
            owner,
            group,
            value,
            text,
        };
        self.due.push(due(0));
        for (set, fields) in rule.grouping_sets.iter().enumerate() {
            let group = self.group(set as u32 + 1, fields, slots)?;
            self.due.push(due(group));
        }
        Ok(())
    }

    /// The number of a group: of its set and its values. 0 is none's.
    fn group(&mut self, set: u32, fields: &[Field], slots: &Slots) -> Result<u32, Left> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&set.to_le_bytes());
        for field in fields {
            match name_of(field.of(slots))? {
                None => self.scratch.push(0),
                Some(text) => {
                    self.scratch.push(1);
                    self.scratch
                        .extend_from_slice(&(text.len() as u32).to_le_bytes());
                    self.scratch.extend_from_slice(&text);
                }
            }
        }
        Ok(self.groups.number(&self.scratch).0 + 1)
    }

    /// Adds the events of a block, in the order of the log, each unless it was there before.
    fn add_pending(&mut self, catalogue: &Catalogue, terms: &Terms, tag: u8, index: &mut Index) {
        let (mut begin, mut begin_left) = (0, 0);
        for event in &self.pending {
            let due = &self.due[begin..event.end];
            let left = &self.left[begin_left..event.end_left];
            (begin, begin_left) = (event.end, event.end_left);
            if !index.add(&event.id, tag) {
                self.duplicates.push(event.at.row);
                continue;
            }
            self.new_ids.extend_from_slice(&event.id);
            self.first.entry(event.event_type).or_insert(event.at.row);
            self.counted += usize::from(event.matched);
            let bucket = event.at.event_ns.div_euclid(terms.bucket_ns);
            // Rules of one owner mostly follow each other.
            let mut last = None;
            for new in due {
                let place = match last {
                    Some((held, place)) if held == new.owner => place,
                    _ => self.cells.place(new.owner, bucket),
                };
                last = Some((new.owner, place));
                let rule = &catalogue.rules[new.rule as usize];
                self.cells.add(rule.kind, place, new, event.at);
            }
            if let Some(why) = event.why {
                self.shares.push(Share {
                    at: event.at,
                    matched: event.matched,
                    rules: left.to_vec(),
                    why,
                });
            }
        }
    }
}

/// The set and the values of a group.
pub fn group_of(mut name: &[u8]) -> Option<(u32, Vec<Option<&str>>)> {
    let (set, rest) = name.split_first_chunk::<4>()?;
    let mut values = Vec::new();
    name = rest;
    while let Some((&mark, rest)) = name.split_first() {
        if mark == 0 {
            values.push(None);
            name = rest;
            continue;
        }
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
        values.push(Some(std::str::from_utf8(text).ok()?));
        name = rest;
    }
    Some((u32::from_le_bytes(*set), values))
}
