//! The cells that a partition wrote last, and those of the flush under way, within a bound in bytes.
//!
//! A cell takes 32 bytes in one list, and about 8 more in the table that finds it. What is seldom or
//! large (MEAN, LATEST, FIRST, unreadable values, texts that only Python reads) lies in a second list.
//! Names of owners and groups are kept once each.
//!
//! **What goes first.** Cells that fit stay. Some are young: touched since the last turn. When the young
//! ones are half the bound, all turn old. When not all fit, the old ones go, and of more young ones than
//! half the bound those of the last flush stay first. So what is touched again and again stays. What stays
//! is copied: for that moment up to two thirds as much again is held.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::rules::Kind;
use crate::values::{Partial, Value};

const NONE: u32 = u32::MAX;
/// What the allocator adds to a text, at most.
const TEXT_BYTES: usize = 32;

/// Numbers for names, in the order in which they were met; all their bytes lie in one list.
#[derive(Default)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    pub fn number(&mut self, name: &[u8]) -> u32 {
        let Self {
            bytes,
            ends,
            table,
            hasher,
        } = self;
        let hash = hasher.hash_one(name);
        if let Some(&number) = table.find(hash, |&number| part(bytes, ends, number) == name) {
            return number;
        }
        let number = ends.len() as u32;
        grow(bytes, name.len());
        bytes.extend_from_slice(name);
        grow(ends, 1);
        ends.push(u32::try_from(bytes.len()).expect("names of less than 4 GiB"));
        let again = |&number: &u32| hasher.hash_one(part(bytes, ends, number));
        table.insert_unique(hash, number, again);
        number
    }

    pub fn name(&self, number: u32) -> &[u8] {
        part(&self.bytes, &self.ends, number)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn nbytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.table.allocation_size()
    }
}

fn part<'a>(bytes: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let begin = match number {
        0 => 0,
        _ => ends[number as usize - 1],
    };
    &bytes[begin as usize..ends[number as usize] as usize]
}

/// Makes room for more by a quarter, not by as much again: the room counts towards the bound.
fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 4).max(64));
    }
}

/// Which cell. group 0 is the total.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub owner: u32,
    pub bucket: i32,
    pub measure: u16,
    pub group: u32,
}

impl Key {
    /// The numbers are ours, so nobody can choose them to collide.
    fn hash(&self) -> u64 {
        let mixed = |value: u64, by: u64| {
            let product = u128::from(value) * u128::from(by);
            (product as u64) ^ ((product >> 64) as u64)
        };
        let place = (u64::from(self.owner) << 32) | u64::from(self.bucket as u32);
        let series = (u64::from(self.group) << 16) | u64::from(self.measure);
        let place = mixed(place ^ 0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93);
        mixed(place ^ series, 0x9E37_79B9_7F4A_7C15)
    }
}

/// What is known of a cell beside its value.
pub mod flags {
    /// A flush touched it since the last turn.
    pub const YOUNG: u8 = 1;
    /// The flush under way changes it.
    pub const CHANGED: u8 = 2;
    /// What the store holds is not known: the value is the change alone.
    pub const MISSING: u8 = 4;
    /// The store held nothing.
    pub const NEW: u8 = 8;
    /// Python has to merge it.
    pub const ODD: u8 = 16;
}

#[derive(Clone, Copy)]
struct Cell {
    owner: u32,
    bucket: i32,
    group: u32,
    measure: u16,
    flags: u8,
    /// Whether `value` is a place in the list of wide ones.
    wide: bool,
    value: [u64; 2],
}

impl Cell {
    fn key(&self) -> Key {
        Key {
            owner: self.owner,
            bucket: self.bucket,
            measure: self.measure,
            group: self.group,
        }
    }
}

#[derive(Default)]
pub struct CellCache {
    pub owners: Names,
    /// Of each group what follows the bucket in its field: nothing, or `:set:values`.
    pub groups: Names,
    cells: Vec<Cell>,
    table: HashTable<u32>,
    wide: Vec<Partial>,
    text_bytes: usize,
    young: usize,
}

impl CellCache {
    pub fn new() -> Self {
        let mut made = Self::default();
        made.groups.number(b"");
        made
    }

    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn nbytes(&self) -> usize {
        let lists = self.cells.capacity() * size_of::<Cell>()
            + self.wide.capacity() * size_of::<Partial>()
            + self.table.allocation_size();
        lists + self.text_bytes + self.owners.nbytes() + self.groups.nbytes()
    }

    /// The slot of a cell, and whether it is new: then it holds nothing yet.
    pub fn slot(&mut self, key: Key) -> (u32, bool) {
        let Self { cells, table, .. } = self;
        let hash = key.hash();
        if let Some(&slot) = table.find(hash, |&slot| cells[slot as usize].key() == key) {
            return (slot, false);
        }
        let slot = cells.len() as u32;
        grow(cells, 1);
        cells.push(Cell {
            owner: key.owner,
            bucket: key.bucket,
            group: key.group,
            measure: key.measure,
            flags: 0,
            wide: false,
            value: [0; 2],
        });
        table.insert_unique(hash, slot, |&slot| cells[slot as usize].key().hash());
        (slot, true)
    }

    pub fn find(&self, key: Key) -> Option<u32> {
        let found = self
            .table
            .find(key.hash(), |&slot| self.cells[slot as usize].key() == key);
        found.copied()
    }

    pub fn key(&self, slot: u32) -> Key {
        self.cells[slot as usize].key()
    }

    pub fn flags(&mut self, slot: u32) -> &mut u8 {
        &mut self.cells[slot as usize].flags
    }

    pub fn has(&self, slot: u32, flag: u8) -> bool {
        self.cells[slot as usize].flags & flag != 0
    }

    /// What a cell holds; `kind` is that of its measure.
    pub fn get(&self, slot: u32, kind: Kind) -> Partial {
        let cell = &self.cells[slot as usize];
        if cell.wide {
            return self.wide[cell.value[0] as usize].clone();
        }
        let value = match kind {
            Kind::Count => Value::Count(cell.value[0]),
            _ => {
                Value::Number((i128::from(cell.value[1] as i64) << 64) | i128::from(cell.value[0]))
            }
        };
        Partial {
            value,
            unreadable: 0,
        }
    }

    pub fn set(&mut self, slot: u32, partial: Partial) {
        let partial = partial.fitted();
        let cell = &mut self.cells[slot as usize];
        if cell.wide {
            let held = &mut self.wide[cell.value[0] as usize];
            self.text_bytes += text_bytes(&partial);
            self.text_bytes -= text_bytes(held);
            *held = partial;
            return;
        }
        cell.value = match (&partial.value, partial.unreadable) {
            (Value::Count(count), 0) => [*count, 0],
            (Value::Number(number), 0) => [*number as u64, (*number >> 64) as u64],
            _ => {
                cell.wide = true;
                self.text_bytes += text_bytes(&partial);
                grow(&mut self.wide, 1);
                self.wide.push(partial);
                [self.wide.len() as u64 - 1, 0]
            }
        };
    }

    /// Joins a change to what a cell holds; says no, and changes nothing, where Python has to.
    pub fn merge(&mut self, slot: u32, kind: Kind, change: &Partial) -> bool {
        let cell = self.cells[slot as usize];
        if cell.wide {
            let held = &mut self.wide[cell.value[0] as usize];
            return held.merge(kind, change); // neither was a text, and none comes of it
        }
        let mut held = self.get(slot, kind);
        let merged = held.merge(kind, change);
        if merged {
            self.set(slot, held);
        }
        merged
    }

    /// Ends a flush that changed these cells, and keeps within a bound; see "What goes first".
    pub fn keep(&mut self, changed: &[u32], bytes_max: usize) {
        for &slot in changed {
            let known = self.flags(slot);
            let was_young = *known & flags::YOUNG;
            *known = flags::YOUNG;
            self.young += usize::from(was_young == 0);
        }
        let young_bytes = self.nbytes() as u128 * self.young as u128 / self.len().max(1) as u128;
        if self.nbytes() > bytes_max {
            self.sweep(changed, bytes_max);
        } else if young_bytes > bytes_max as u128 / 2 {
            for cell in &mut self.cells {
                cell.flags = 0;
            }
            self.young = 0;
        }
    }

    /// Lets the old cells go. The others are old then.
    fn sweep(&mut self, changed: &[u32], bytes_max: usize) {
        let mut kept = Self::new();
        let mut owners = vec![NONE; self.owners.len()];
        let mut groups = vec![NONE; self.groups.len()];
        let all = 0..self.cells.len() as u32;
        // Lists grow by a quarter, and more than the bound may not be kept.
        let enough = bytes_max / 8 * 5;
        for slot in changed.iter().copied().chain(all.rev()) {
            if kept.nbytes() > enough {
                break;
            }
            let cell = self.cells[slot as usize];
            if cell.flags & flags::YOUNG == 0 {
                continue;
            }
            self.cells[slot as usize].flags = 0;
            let key = Key {
                owner: renamed(&mut kept.owners, &self.owners, &mut owners, cell.owner),
                group: renamed(&mut kept.groups, &self.groups, &mut groups, cell.group),
                ..cell.key()
            };
            let (slot, _) = kept.slot(key);
            if cell.wide {
                let value = &mut self.wide[cell.value[0] as usize];
                let nothing = Partial {
                    value: Value::Nothing,
                    unreadable: 0,
                };
                kept.set(slot, std::mem::replace(value, nothing));
            } else {
                kept.cells[slot as usize].value = cell.value;
            }
        }
        if kept.nbytes() > bytes_max {
            kept = Self::new(); // one cell is more than all that may be kept
        }
        *self = kept;
    }
}

/// The number that a name has among new names; `known` are those that have one.
fn renamed(new: &mut Names, old: &Names, known: &mut [u32], number: u32) -> u32 {
    let known = &mut known[number as usize];
    if *known == NONE {
        *known = new.number(old.name(number));
    }
    *known
}

fn text_bytes(partial: &Partial) -> usize {
    match &partial.value {
        Value::Text(text) => text.len() + TEXT_BYTES,
        _ => 0,
    }
}
