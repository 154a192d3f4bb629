//! The cells of one owned partition, and the flush that changes them: what owner.rs shows to Python.
//!
//! **One cache.** Every cell is cached here and nowhere else, also one whose text only Python reads: so no
//! cell can be held twice with two values.
//!
//! **What may stay.** A flush changes cached cells before the store has accepted it. So after a flush that
//! was not kept this is of no use any more: Python makes another.

use hashbrown::HashMap;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::cell_cache::{CellCache, Key, Names, flags};
use crate::cells::Total;
use crate::element::put_element;
use crate::keys::{Address, Layout, Together, suffix, unsuffix};
use crate::plan::{Plan, group_of};
use crate::records::{View, no_row};
use crate::requests::Lists;
use crate::rules::Kind;
use crate::values::{Partial, Position, Value};

/// A cell for Python: measure, owner, bucket, grouping set, groups.
pub type CellOf = (String, String, i64, u32, Vec<Option<String>>);
const NONE: u32 = u32::MAX;

pub struct Measure {
    pub key: String,
    pub kind: Kind,
    /// Of the partition's layout.
    pub number: u32,
}

#[derive(Default)]
pub struct Flush {
    pub changed: Vec<u32>,
    /// In the order in which they are asked for.
    pub missing: Vec<u32>,
    /// Slot → texts that Python joins to what it holds.
    pub odd: HashMap<u32, Vec<Partial>>,
    pub elements: Vec<(Key, u32)>,
    pub element_names: Names,
}

#[pyclass]
pub struct Store {
    pub partition: i64,
    pub layout: Layout,
    pub bytes_max: usize,
    pub measures: Vec<Measure>,
    pub by_key: HashMap<String, u16>,
    pub cache: CellCache,
    pub flush: Option<Flush>,
}

impl Store {
    pub fn gather_plan(&mut self, plan: &Plan, measures: &[Option<u16>]) -> PyResult<()> {
        let unknown = || PyRuntimeError::new_err("a measure that was not learned");
        let cells = &plan.cells;
        let mut owners = vec![NONE; plan.owners.names.len()];
        let mut places = Vec::with_capacity(cells.places.len());
        for (place, &(owner, bucket)) in cells.places.iter().enumerate() {
            let name = &plan.owners.names[owner as usize];
            let owner = &mut owners[owner as usize];
            if *owner == NONE {
                *owner = self.cache.owners.number(name);
            }
            let (owner, bucket) = (*owner, bucket_of(bucket)?);
            places.push((owner, bucket));
            for (rule, totals) in cells.totals.iter().enumerate() {
                let Some(total) = totals.get(place) else {
                    continue;
                };
                if let Some(change) = self.change(total, &plan.records)? {
                    let measure = measures[rule].ok_or_else(unknown)?;
                    let key = Key {
                        owner,
                        bucket,
                        measure,
                        group: 0,
                    };
                    self.add(key, self.measures[measure as usize].kind, change);
                }
            }
        }
        let mut groups = vec![0]; // 0 is the total's there as here
        for name in &plan.groups.names {
            let (set, values) = group_of(name).ok_or_else(|| PyRuntimeError::new_err("a group"))?;
            groups.push(self.cache.groups.number(&suffix(set, values.into_iter())));
        }
        let key_of = |rule: u32, place: u32, group: u32| {
            let (owner, bucket) = places[place as usize];
            Ok::<_, PyErr>(Key {
                owner,
                bucket,
                measure: measures[rule as usize].ok_or_else(unknown)?,
                group: groups[group as usize],
            })
        };
        for (&(rule, place, group), total) in &cells.grouped {
            let key = key_of(rule, place, group)?;
            if let Some(change) = self.change(total, &plan.records)? {
                self.add(key, self.measures[key.measure as usize].kind, change);
            }
        }
        let flush = self.flush.as_mut().ok_or_else(no_flush)?;
        let (mut names, mut element) = (Vec::with_capacity(plan.texts.names.len()), Vec::new());
        for text in &plan.texts.names {
            element.clear();
            put_element(text, &mut element);
            names.push(flush.element_names.number(&element));
        }
        for &(rule, place, group, text) in &cells.elements {
            let key = key_of(rule, place, group)?;
            flush.elements.push((key, names[text as usize]));
        }
        Ok(())
    }

    /// A total of a plan as a change.
    fn change(&self, total: &Total, records: &View) -> PyResult<Option<Partial>> {
        let value = match *total {
            Total::Nothing => return Ok(None),
            Total::Count(count) => Value::Count(count),
            Total::Number(number) => Value::Number(number),
            Total::Mean(sum, count) => Value::Mean(sum, count),
            Total::Reading(at, number) => {
                let offset = records.offset(at.row).ok_or_else(no_row)?;
                let position = Position {
                    event_ns: at.event_ns,
                    clock_ms: at.clock_ms,
                    partition: self.partition,
                    offset,
                };
                Value::Reading(position, number)
            }
        };
        Ok(Some(Partial {
            value,
            unreadable: 0,
        }))
    }

    pub fn kind_of(&self, slot: u32) -> Kind {
        self.measures[self.cache.key(slot).measure as usize].kind
    }

    /// Join a change to a cell.
    pub fn add(&mut self, key: Key, kind: Kind, change: Partial) {
        let flush = self.flush.as_mut().expect("a flush has begun");
        let (slot, is_fresh) = self.cache.slot(key);
        if is_fresh {
            *self.cache.flags(slot) = flags::CHANGED | flags::MISSING;
            self.cache.set(slot, change);
            flush.missing.push(slot);
            flush.changed.push(slot);
            return;
        }
        let known = self.cache.flags(slot);
        if *known & flags::CHANGED == 0 {
            *known |= flags::CHANGED;
            flush.changed.push(slot);
        }
        self.merge(slot, kind, change).expect("a flush has begun");
    }

    /// Join a change to what a slot holds, now or by Python later.
    pub fn merge(&mut self, slot: u32, kind: Kind, change: Partial) -> PyResult<()> {
        if !self.cache.has(slot, flags::ODD) && self.cache.merge(slot, kind, &change) {
            return Ok(());
        }
        *self.cache.flags(slot) |= flags::ODD;
        let flush = self.flush.as_mut().ok_or_else(no_flush)?;
        flush.odd.entry(slot).or_default().push(change);
        Ok(())
    }

    pub fn key_of(
        &mut self,
        measure: &str,
        owner: &str,
        bucket: i64,
        set: u32,
        groups: &[Option<String>],
    ) -> PyResult<Key> {
        let measure = self.by_key.get(measure);
        let measure = measure.ok_or_else(|| PyRuntimeError::new_err("an unknown measure"))?;
        let group = match set {
            0 => 0,
            _ => {
                let name = suffix(set, groups.iter().map(Option::as_deref));
                self.cache.groups.number(&name)
            }
        };
        Ok(Key {
            owner: self.cache.owners.number(owner.as_bytes()),
            bucket: bucket_of(bucket)?,
            measure: *measure,
            group,
        })
    }

    pub fn cell_of(&self, key: Key) -> PyResult<CellOf> {
        let measure = self.measures[key.measure as usize].key.clone();
        let owner = string(self.cache.owners.name(key.owner))?;
        let group = string(self.cache.groups.name(key.group))?;
        let (set, groups) = unsuffix(&group).ok_or_else(|| PyRuntimeError::new_err("a group"))?;
        Ok((measure, owner, key.bucket.into(), set, groups))
    }

    /// Whether the store holds no text of a cell, or none that this flush knows of.
    pub fn is_new(&self, key: Key) -> bool {
        let slot = self.cache.find(key);
        !slot.is_some_and(|slot| {
            self.cache.has(slot, flags::CHANGED) && !self.cache.has(slot, flags::NEW)
        })
    }

    /// The flush, with nothing missing and nothing odd in it.
    pub fn settled_flush(&self) -> PyResult<&Flush> {
        let flush = self.flush.as_ref().ok_or_else(no_flush)?;
        if flush.missing.is_empty() && flush.odd.is_empty() {
            return Ok(flush);
        }
        Err(PyRuntimeError::new_err("the flush is not settled"))
    }

    fn address(&self, key: Key) -> Address {
        let number = self.measures[key.measure as usize].number;
        self.layout.address(key.owner, key.bucket, number)
    }

    pub fn put_field(&self, key: Key, out: &mut Vec<u8>) {
        let number = self.measures[key.measure as usize].number;
        let group = self.cache.groups.name(key.group);
        self.layout.put_field(number, key.bucket, group, out);
    }

    pub fn begin_list(&self, lists: &mut Lists, kind: u8, address: Address, items: usize) {
        let mut key = Vec::with_capacity(64);
        let owner = self.cache.owners.name(address.owner);
        self.layout.put_key(kind, address, owner, &mut key);
        lists.begin(&key, items);
    }

    /// Put missing cells that share a key together; how many have each.
    pub fn order_missing(&mut self) -> PyResult<Vec<(Address, usize)>> {
        let flush = self.flush.as_ref().ok_or_else(no_flush)?;
        let keys = flush.missing.iter().map(|&slot| self.cache.key(slot));
        let together = Together::new(keys.map(|key| self.address(key)));
        let groups = together.iter().map(|(address, rows)| (address, rows.len()));
        let groups = groups.collect();
        let ordered = together.rows.iter().map(|&row| flush.missing[row as usize]);
        let ordered = ordered.collect();
        self.flush.as_mut().ok_or_else(no_flush)?.missing = ordered;
        Ok(groups)
    }

    /// The hashes of a flush.
    pub fn cells_of(&self, flush: &Flush) -> Lists {
        let keys = flush.changed.iter().map(|&slot| self.cache.key(slot));
        let together = Together::new(keys.map(|key| self.address(key)));
        let (mut lists, mut text) = (Lists::default(), Vec::new());
        lists.reserve(together.rows.len());
        for (address, rows) in together.iter() {
            self.begin_list(&mut lists, b'c', address, rows.len() * 2);
            for &row in rows {
                let slot = flush.changed[row as usize];
                let key = self.cache.key(slot);
                text.clear();
                self.put_field(key, &mut text);
                lists.item(&text);
                text.clear();
                self.cache.get(slot, self.kind_of(slot)).encode(&mut text);
                lists.item(&text);
            }
        }
        lists
    }

    /// The sets of a flush: elements, then owners and days of measures that have new cells.
    pub fn sets_of(&self, flush: &Flush) -> Lists {
        let keys = flush.elements.iter().map(|&(key, _)| key);
        let together = Together::new(keys.clone().map(|key| self.address(key)));
        let (mut lists, mut text) = (Lists::default(), Vec::new());
        for (address, rows) in together.iter() {
            self.begin_list(&mut lists, b'u', address, rows.len());
            for &row in rows {
                let (key, element) = flush.elements[row as usize];
                text.clear();
                self.put_field(key, &mut text);
                text.push(b'=');
                text.extend_from_slice(flush.element_names.name(element));
                lists.item(&text);
            }
        }
        let changed = flush
            .changed
            .iter()
            .filter(|&&slot| self.cache.has(slot, flags::NEW));
        let new = changed.map(|&slot| self.cache.key(slot));
        let new: Vec<_> = new.chain(keys.filter(|&key| self.is_new(key))).collect();
        let mut owners: Vec<_> = new.iter().map(|key| (key.measure, key.owner)).collect();
        owners.sort_unstable();
        owners.dedup();
        for same in owners.chunk_by(|left, right| left.0 == right.0) {
            self.begin_index(&mut lists, b'i', same[0].0, same.len());
            for &(_, owner) in same {
                lists.item(self.cache.owners.name(owner));
            }
        }
        let days = new
            .iter()
            .map(|key| (key.measure, self.layout.day(key.bucket)));
        let mut days: Vec<_> = days.collect();
        days.sort_unstable();
        days.dedup();
        for same in days.chunk_by(|left, right| left.0 == right.0) {
            self.begin_index(&mut lists, b'd', same[0].0, same.len());
            for &(_, day) in same {
                lists.item(day.to_string().as_bytes());
            }
        }
        lists
    }

    fn begin_index(&self, lists: &mut Lists, kind: u8, measure: u16, items: usize) {
        let (measure, mut key) = (&self.measures[measure as usize].key, Vec::new());
        self.layout.put_index_key(kind, measure, &mut key);
        lists.begin(&key, items);
    }
}

fn bucket_of(bucket: i64) -> PyResult<i32> {
    i32::try_from(bucket).map_err(|_| PyValueError::new_err("a bucket of no calendar"))
}

pub fn string(bytes: &[u8]) -> PyResult<String> {
    let text = std::str::from_utf8(bytes);
    Ok(text
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?
        .to_owned())
}

pub fn no_flush() -> PyErr {
    PyRuntimeError::new_err("no flush has begun")
}
