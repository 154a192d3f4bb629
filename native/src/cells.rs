//! What a plan adds to each cell.

use hashbrown::{HashMap, HashSet};

use crate::rules::Kind;

/// One value on its way into a cell of a place: of a rule, and of a group of it (0: the total).
pub struct Contribution {
    pub rule: u32,
    pub owner: u32,
    pub group: u32,
    /// In billionths.
    pub value: i128,
    /// Of a UNIQUE, which text.
    pub text: u32,
}

/// When and where an event stands: orders readings of equal event time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub event_ns: i64,
    pub clock_ms: i64,
    /// Among the records of the plan.
    pub row: usize,
}

#[derive(Clone, Copy)]
pub enum Total {
    Nothing,
    Count(u64),
    Number(i128),
    Mean(i128, u64),
    Reading(Moment, i128),
}

impl Total {
    fn add(&mut self, kind: Kind, value: i128, at: Moment) {
        *self = match (kind, *self) {
            (Kind::Count, Self::Count(count)) => Self::Count(count + 1),
            (Kind::Count, _) => Self::Count(1),
            (Kind::Sum, Self::Number(held)) => Self::Number(held + value),
            (Kind::Max, Self::Number(held)) => Self::Number(held.max(value)),
            (Kind::Min, Self::Number(held)) => Self::Number(held.min(value)),
            (Kind::Mean, Self::Mean(sum, count)) => Self::Mean(sum + value, count + 1),
            (Kind::Mean, _) => Self::Mean(value, 1),
            (Kind::Latest, held @ Self::Reading(moment, _)) if moment > at => held,
            (Kind::First, held @ Self::Reading(moment, _)) if moment < at => held,
            (Kind::Latest | Kind::First, _) => Self::Reading(at, value),
            (Kind::Sum | Kind::Max | Kind::Min | Kind::Unique, _) => Self::Number(value),
        };
    }
}

/// Numbers for things that are met again and again.
#[derive(Default)]
pub struct Interner {
    numbers: HashMap<Box<[u8]>, u32>,
    pub names: Vec<Box<[u8]>>,
}

impl Interner {
    /// The number of a name, and whether it is new.
    pub fn number(&mut self, name: &[u8]) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(name) {
            return (number, false);
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.into(), number);
        self.names.push(name.into());
        (number, true)
    }
}

/// The cells of a plan. A place is an owner and a base bucket: all rules have their totals there.
#[derive(Default)]
pub struct Cells {
    pub places: Vec<(u32, i64)>,
    place_of: HashMap<(u32, i64), u32>,
    /// By rule, then by place.
    pub totals: Vec<Vec<Total>>,
    /// By rule, place and group.
    pub grouped: HashMap<(u32, u32, u32), Total>,
    /// Rule, place, group and text of UNIQUE.
    pub elements: HashSet<(u32, u32, u32, u32)>,
    /// How many cells there are, each element counted as one.
    pub size: usize,
}

impl Cells {
    pub fn place(&mut self, owner: u32, bucket: i64) -> u32 {
        *self.place_of.entry((owner, bucket)).or_insert_with(|| {
            self.places.push((owner, bucket));
            self.places.len() as u32 - 1
        })
    }

    pub fn add(&mut self, kind: Kind, place: u32, new: &Contribution, at: Moment) {
        let rule = new.rule as usize;
        if kind == Kind::Unique {
            let fresh = self.elements.insert((new.rule, place, new.group, new.text));
            self.size += usize::from(fresh);
            return;
        }
        if new.group != 0 {
            let total = self
                .grouped
                .entry((new.rule, place, new.group))
                .or_insert_with(|| {
                    self.size += 1;
                    Total::Nothing
                });
            return total.add(kind, new.value, at);
        }
        if self.totals.len() <= rule {
            self.totals.resize_with(rule + 1, Vec::new);
        }
        let totals = &mut self.totals[rule];
        if totals.len() <= place as usize {
            totals.resize(place as usize + 1, Total::Nothing);
        }
        let total = &mut totals[place as usize];
        self.size += usize::from(matches!(total, Total::Nothing));
        total.add(kind, new.value, at);
    }
}
