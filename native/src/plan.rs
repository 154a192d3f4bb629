//! The plain events of one plan, from bytes to cells (pipeline/core/fold/fold.py has the rules).
//!
//! Events go through in blocks: first every event of a block is read and worked out, which changes
//! nothing but names; then, in the order of the log, each is asked for in the index and added.

use hashbrown::HashMap;
use pyo3::pybacked::PyBackedBytes;

use crate::cells::{Cells, Contribution, Interner, Moment};
use crate::decimal;
use crate::identity;
use crate::index::{ID_BYTES, Index};
use crate::rules::{Kind, Rule, Spelled, text_form};
use crate::scan::{Slots, Value, scan};
use crate::time;

const BLOCK: usize = 128;
const NS_PER_MS: i64 = 1_000_000;
const EVERYBODY: u32 = 0; // the owner of the whole deployment's cells: the empty name

const GROUP_BYTES_MAX: usize = 256;

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

/// The properties that some rule reads, and the slot of each.
#[derive(Default)]
pub struct Properties {
    slots: HashMap<Box<[u8]>, usize>,
    few: Vec<(Box<[u8]>, usize)>, // the same, while looking at each is sooner than a hash
}

impl Properties {
    const FEW: usize = 6;

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn learn(&mut self, name: &str) -> usize {
        let (name, next) = (name.as_bytes(), self.slots.len());
        let slot = *self.slots.entry(name.into()).or_insert(next);
        if slot == next && next < Self::FEW {
            self.few.push((name.into(), slot));
        }
        slot
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        if self.slots.len() > Self::FEW {
            return self.slots.get(name).copied();
        }
        let found = self.few.iter().find(|(known, _)| **known == *name);
        found.map(|&(_, slot)| slot)
    }
}

/// An event type: its number, and the rules that it can match; none where only Python can.
pub type EventType = (u32, Option<Vec<u32>>);

/// The event types that were learned, and their rules.
#[derive(Default)]
pub struct Catalogue {
    pub rules: Vec<Rule>,
    /// By the key of a rule: its number.
    pub numbers: HashMap<String, u32>,
    pub types: HashMap<Box<[u8]>, EventType>,
    /// By property: the slot that it is read into.
    pub slots: Properties,
}

impl Catalogue {
    /// The number of a rule, which is made when it is met first; None where it is only Python's.
    pub fn number(&mut self, spelled: Spelled) -> Option<u32> {
        if let Some(&number) = self.numbers.get(&spelled.key) {
            return Some(number);
        }
        let (key, slots) = (spelled.key.clone(), &mut self.slots);
        self.rules
            .push(Rule::new(spelled, |name| slots.learn(&name))?);
        let number = self.rules.len() as u32 - 1;
        self.numbers.insert(key, number);
        Some(number)
    }
}

/// Records that follow each other, the first one number `row` of the plan.
#[derive(Clone, Copy)]
pub struct Stretch<'a> {
    pub values: &'a [Option<PyBackedBytes>],
    pub stamps: &'a [i64],
    pub row: usize,
    /// The last log clock of their generation, and the mark of it in the index.
    pub last_ms: i64,
    pub tag: u8,
}

/// An event that was worked out.
struct Pending {
    id: [u8; ID_BYTES],
    event_type: u32,
    customer: u32,
    at: Moment,
    /// Where its contributions end; they begin where those of the event before end.
    end: usize,
    matched: bool,
}

/// What one plan has taken so far. clock_ms: the log clock after the last event.
#[derive(Default)]
pub struct Plan {
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
    away: Vec<bool>, // by owner: whether it is a customer who lives elsewhere
    pending: Vec<Pending>,
    contributions: Vec<Contribution>,
    scratch: Vec<u8>,
}

impl Plan {
    pub fn new() -> Self {
        let mut plan = Self::default();
        plan.owners.number(b"");
        plan.away.push(false);
        plan
    }

    /// Takes events up to the first that is not plain, or until there are enough cells; returns how
    /// many.
    pub fn take(
        &mut self,
        catalogue: &Catalogue,
        terms: &Terms,
        stretch: Stretch,
        cells_max: usize,
        index: &mut Index,
    ) -> usize {
        let mut slots = Slots::new(catalogue.slots.len());
        let mut taken = 0;
        while taken < stretch.values.len() && self.cells.size < cells_max {
            self.pending.clear();
            self.contributions.clear();
            let end = stretch.values.len().min(taken + BLOCK);
            let values = &stretch.values[taken..end];
            for (value, &stamp) in values.iter().zip(&stretch.stamps[taken..end]) {
                let value = value.as_deref().unwrap_or_default();
                let row = stretch.row + taken + self.pending.len();
                let clock_ms = self.clock_ms.max(stamp);
                let event = (clock_ms <= stretch.last_ms)
                    .then(|| self.work_out(catalogue, terms, value, clock_ms, row, &mut slots));
                let Some(event) = event.flatten() else {
                    break;
                };
                index.touch(&event.id);
                self.pending.push(event);
                self.clock_ms = clock_ms;
            }
            self.add_pending(catalogue, terms, stretch.tag, index);
            taken += self.pending.len();
            if taken < end {
                break;
            }
        }
        taken
    }

    /// Works out what an event contributes; None where Python has to.
    fn work_out<'a>(
        &mut self,
        catalogue: &Catalogue,
        terms: &Terms,
        value: &'a [u8],
        clock_ms: i64,
        row: usize,
        slots: &mut Slots<'a>,
    ) -> Option<Pending> {
        let event = scan(value, |key| catalogue.slots.find(key), slots)?;
        let Some(&(event_type, ref rules)) = catalogue.types.get(event.event_type) else {
            self.unknown = String::from_utf8(event.event_type.into()).ok();
            return None;
        };
        let event_ns = time::parse(event.timestamp)?;
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
            return None;
        }
        let (customer, new) = self.owners.number(event.customer_id);
        if new {
            self.away
                .push(identity::home(event.customer_id, terms.homes) != terms.partition);
        }
        if self.away[customer as usize] {
            return None;
        }
        let mut matched = false;
        for &number in rules.as_ref()? {
            let rule = &catalogue.rules[number as usize];
            if rule.matches(slots)? {
                matched = true;
                self.contribute(number, rule, event_ns, slots)?;
            }
        }
        Some(Pending {
            id: identity::id(
                event.customer_id,
                event.transaction_id,
                terms.seed,
                &mut self.scratch,
            ),
            event_type,
            customer,
            at: Moment {
                event_ns,
                clock_ms,
                row,
            },
            end: self.contributions.len(),
            matched,
        })
    }

    /// Notes what an event that matches a rule adds to the total and to its groups.
    fn contribute(&mut self, number: u32, rule: &Rule, event_ns: i64, slots: &Slots) -> Option<()> {
        if rule.from_ns.is_some_and(|from_ns| event_ns < from_ns) {
            return Some(());
        }
        let (mut value, mut text) = (decimal::ONE, 0);
        if let Some(field) = rule.field {
            if slots.get(field) == Value::Absent {
                return Some(());
            }
            if rule.kind == Kind::Unique {
                text = self.texts.number(&text_form(slots.get(field))??).0;
            } else {
                value = match slots.get(field) {
                    Value::Number(number) => decimal::parse(number)?,
                    Value::Text(number) if rule.numeric_text => decimal::parse(number)?,
                    _ => return None,
                };
            }
        }
        self.contributions.push(Contribution {
            rule: number,
            group: 0,
            value,
            text,
        });
        for (set, fields) in rule.grouping_sets.iter().enumerate() {
            let group = self.group(set as u32 + 1, fields, slots)?;
            self.contributions.push(Contribution {
                rule: number,
                group,
                value,
                text,
            });
        }
        Some(())
    }

    /// The number of a group: of its set and its values. 0 is none's.
    fn group(&mut self, set: u32, fields: &[usize], slots: &Slots) -> Option<u32> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&set.to_le_bytes());
        for &field in fields {
            match text_form(slots.get(field))? {
                None => self.scratch.push(0),
                // A longer one has another name (docs/semantics.md V-8), which Python makes.
                Some(text) if text.len() > GROUP_BYTES_MAX => return None,
                Some(text) => {
                    self.scratch.push(1);
                    self.scratch
                        .extend_from_slice(&(text.len() as u32).to_le_bytes());
                    self.scratch.extend_from_slice(&text);
                }
            }
        }
        Some(self.groups.number(&self.scratch).0 + 1)
    }

    /// Adds the events of a block, in the order of the log, each unless it was there before.
    fn add_pending(&mut self, catalogue: &Catalogue, terms: &Terms, tag: u8, index: &mut Index) {
        let mut begin = 0;
        for event in &self.pending {
            let contributions = &self.contributions[begin..event.end];
            begin = event.end;
            if !index.add(&event.id, tag) {
                self.duplicates.push(event.at.row);
                continue;
            }
            self.new_ids.extend_from_slice(&event.id);
            self.first.entry(event.event_type).or_insert(event.at.row);
            self.counted += usize::from(event.matched);
            let bucket = event.at.event_ns.div_euclid(terms.bucket_ns);
            let (mut own, mut everybodys) = (None, None);
            for new in contributions {
                let rule = &catalogue.rules[new.rule as usize];
                let (place, owner) = if rule.everybody {
                    (&mut everybodys, EVERYBODY)
                } else {
                    (&mut own, event.customer)
                };
                let place = *place.get_or_insert_with(|| self.cells.place(owner, bucket));
                self.cells.add(rule.kind, place, new, event.at);
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
