//! Which values of an event rules read, and the slot of each (definitions/metric.py, Field).

use hashbrown::HashMap;

use crate::scan::{Slots, Value};

/// The slots that always are; those of names follow.
const NOTHING: usize = 0; // never filled
pub const CUSTOMER_ID: usize = 1;
pub const VALUE: usize = 2;
const FIRST: usize = 3;

/// The objects of the context that have members of their own, and the sources that name them.
pub const HOLDERS: [&[u8]; 3] = [b"user", b"custom", b"custom_ids"];
const SOURCES: [&str; 3] = ["user", "user_custom", "custom_id"];

/// A field as Python spells it: its source, and its key where it has one.
pub type Spelled = (String, Option<String>);

/// Where a field is read.
#[derive(Clone, Copy)]
pub struct Field {
    slot: usize,
    /// What is read where that is absent or null: an event's own value can be given otherwise.
    otherwise: Option<usize>,
}

impl Field {
    #[inline]
    pub fn of<'a>(self, slots: &Slots<'a>) -> Value<'a> {
        match (slots.get(self.slot), self.otherwise) {
            (Value::Absent | Value::Null, Some(otherwise)) => slots.get(otherwise),
            (value, _) => value,
        }
    }
}

/// Names, and the slot of each.
#[derive(Default)]
struct Names {
    slots: HashMap<Box<[u8]>, usize>,
    few: Vec<(Box<[u8]>, usize)>, // the same, while looking at each is sooner than a hash
}

impl Names {
    const FEW: usize = 6;

    fn learn(&mut self, name: &str, next: usize) -> usize {
        let slot = *self.slots.entry(name.as_bytes().into()).or_insert(next);
        if slot == next && self.slots.len() <= Self::FEW {
            self.few.push((name.as_bytes().into(), slot));
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

/// The fields that some rule reads.
#[derive(Default)]
pub struct Fields {
    properties: Names,
    members: [Names; HOLDERS.len()],
    names: usize,
    context: bool,
    customer: bool,
}

impl Fields {
    /// How many slots there are.
    pub fn len(&self) -> usize {
        FIRST + self.names
    }

    pub fn reads_context(&self) -> bool {
        self.context
    }

    pub fn reads_customer(&self) -> bool {
        self.customer
    }

    /// Learns a field; None where there is no such source.
    pub fn learn(&mut self, (source, key): &Spelled) -> Option<Field> {
        let plain = |slot| Field {
            slot,
            otherwise: None,
        };
        match (source.as_str(), key) {
            ("customer_id", _) => {
                self.customer = true;
                Some(plain(CUSTOMER_ID))
            }
            ("property", Some(key)) => Some(plain(self.property_slot(key))),
            ("value", key) => {
                self.context = true;
                let property = key.as_ref().map(|key| self.property_slot(key));
                Some(Field {
                    slot: VALUE,
                    otherwise: Some(property.unwrap_or(NOTHING)),
                })
            }
            (source, Some(key)) => {
                let holder = SOURCES.iter().position(|known| *known == source)?;
                self.context = true;
                let (next, names) = (self.len(), &mut self.members[holder]);
                let slot = names.learn(key, next);
                self.names += usize::from(slot == next);
                Some(plain(slot))
            }
            _ => None,
        }
    }

    fn property_slot(&mut self, key: &str) -> usize {
        let next = self.len();
        let slot = self.properties.learn(key, next);
        self.names += usize::from(slot == next);
        slot
    }

    #[inline]
    pub fn property(&self, name: &[u8]) -> Option<usize> {
        self.properties.find(name)
    }

    pub fn member(&self, holder: usize, name: &[u8]) -> Option<usize> {
        self.members[holder].find(name)
    }
}
