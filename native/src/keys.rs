//! Where cells lie: their keys, and their fields. pipeline/edges/redis_keys.py is the reference.

use hashbrown::HashMap;

use crate::values::{put_integer, put_natural};

/// Measures whose cells share a hash.
const MEASURES_TOGETHER: u32 = 4;

/// Where the cells of a partition lie.
#[derive(Clone)]
pub struct Layout {
    pub prefix: Vec<u8>,
    /// Base buckets of a day.
    pub per_day: i32,
}

/// Cells, or elements, that share a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub owner: u32,
    pub day: i32,
    /// Of measures: their numbers divided by how many are together.
    pub together: u32,
}

impl Layout {
    pub fn address(&self, owner: u32, bucket: i32, number: u32) -> Address {
        Address {
            owner,
            day: self.day(bucket),
            together: number / MEASURES_TOGETHER,
        }
    }

    pub fn day(&self, bucket: i32) -> i32 {
        bucket.div_euclid(self.per_day)
    }

    /// The key of cells (`c`) or elements (`u`).
    pub fn put_key(&self, kind: u8, address: Address, owner: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&[kind, b':']);
        put_natural(address.together.into(), out);
        out.push(b':');
        put_integer(address.day.into(), out);
        out.push(b':');
        out.extend_from_slice(owner);
    }

    /// The key of the owners (`i`) or the days (`d`) of a measure.
    pub fn put_index_key(&self, kind: u8, measure: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&[kind, b':']);
        out.extend_from_slice(measure.as_bytes());
    }

    /// The field of a cell; `group` is nothing, or `:set:values`.
    pub fn put_field(&self, number: u32, bucket: i32, group: &[u8], out: &mut Vec<u8>) {
        put_natural(number.into(), out);
        out.push(b'.');
        put_integer(bucket.rem_euclid(self.per_day).into(), out);
        out.extend_from_slice(group);
    }
}

/// Rows that share an address, one after another.
pub struct Together {
    addresses: Vec<Address>,
    /// By address: where its rows end.
    ends: Vec<u32>,
    pub rows: Vec<u32>,
}

impl Together {
    pub fn new(of: impl Iterator<Item = Address>) -> Self {
        let mut known: HashMap<Address, u32> = HashMap::new();
        let (mut addresses, mut counts, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        for address in of {
            // Mostly it is that of the row before.
            let group = match last {
                Some((same, group)) if same == address => group,
                _ => *known.entry(address).or_insert_with(|| {
                    addresses.push(address);
                    counts.push(0);
                    addresses.len() as u32 - 1
                }),
            };
            last = Some((address, group));
            counts[group as usize] += 1;
            groups.push(group);
        }
        let mut ends = counts;
        let mut begin: u32 = 0;
        for count in &mut ends {
            (*count, begin) = (begin, begin + *count);
        }
        let mut rows = vec![0; groups.len()];
        for (row, group) in groups.into_iter().enumerate() {
            let end = &mut ends[group as usize];
            rows[*end as usize] = row as u32;
            *end += 1;
        }
        Self {
            addresses,
            ends,
            rows,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Address, &[u32])> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let groups = self.addresses.iter().zip(begins.zip(&self.ends));
        groups.map(|(&address, (begin, &end))| (address, &self.rows[begin as usize..end as usize]))
    }
}

/// What follows the bucket in the field of a group: `:set:values`, lengths in characters.
pub fn suffix<'a>(set: u32, values: impl Iterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut name = format!(":{set}:");
    for value in values {
        match value {
            None => name.push('-'),
            Some(text) => {
                name.push_str(&text.chars().count().to_string());
                name.push(':');
                name.push_str(text);
            }
        }
    }
    name.into_bytes()
}

/// And back; None where it is no such text.
pub fn unsuffix(name: &str) -> Option<(u32, Vec<Option<String>>)> {
    if name.is_empty() {
        return Some((0, Vec::new()));
    }
    let (set, mut rest) = name.strip_prefix(':')?.split_once(':')?;
    let mut values = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('-') {
            values.push(None);
            rest = after;
            continue;
        }
        let (size, after) = rest.split_once(':')?;
        let end = after.char_indices().nth(size.parse().ok()?);
        let (text, after) = after.split_at(end.map_or(after.len(), |(at, _)| at));
        values.push(Some(text.to_owned()));
        rest = after;
    }
    Some((set.parse().ok()?, values))
}
