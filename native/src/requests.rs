//! The bytes that Redis is sent: its protocol, and the packed body of a script.
//!
//! The order of KEYS and ARGV is that of pipeline/edges/lua/apply.lua and load.lua, with all that is no
//! cell handed over by pipeline/edges/requests.py.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::values::put_natural;

/// All of a request but the cells, as pipeline/edges/requests.py says it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Frame {
    /// The command and the script.
    pub command: Vec<PyBackedBytes>,
    /// KEYS before those of cells, and after all others.
    pub keys_first: Vec<PyBackedBytes>,
    pub keys_last: Vec<PyBackedBytes>,
    /// More hashes, after those of cells: key and fields with texts.
    pub hashes: Vec<(PyBackedBytes, Vec<PyBackedBytes>)>,
    /// ARGV before the body and after it.
    pub args_first: Vec<PyBackedBytes>,
    pub args_last: Vec<PyBackedBytes>,
    /// Whether the hashes of cells are known: read, or written, since the partition was opened.
    pub are_known: bool,
    /// What else is in the body: a packed map of at most 12 members.
    pub body: PyBackedBytes,
}

/// Lists under keys, as they gather: the keys as a request has them, and the packed lists.
#[derive(Default)]
pub struct Lists {
    pub count: usize,
    pub keys: Vec<u8>,
    pub packed: Vec<u8>,
}

impl Lists {
    /// Makes room for so many items of the usual size.
    pub fn reserve(&mut self, items: usize) {
        self.keys.reserve(items * 32);
        self.packed.reserve(items * 24);
    }

    /// Begins a list of so many items, under a key.
    pub fn begin(&mut self, key: &[u8], items: usize) {
        self.count += 1;
        put_bulk(key, &mut self.keys);
        put_array(items, &mut self.packed);
    }

    pub fn item(&mut self, text: &[u8]) {
        put_text(text, &mut self.packed);
    }

    pub fn all(&mut self, key: &[u8], items: &[PyBackedBytes]) {
        self.begin(key, items.len());
        for item in items {
            self.item(item);
        }
    }
}

/// A commit: KEYS first, hashes, sets, last; ARGV first, body, last.
///
/// The hashes of cells come first: those are the known ones.
pub fn commit(frame: &Frame, cells: &Lists, sets: &Lists) -> Vec<u8> {
    let mut hashes = Lists::default();
    for (key, items) in &frame.hashes {
        hashes.all(key, items);
    }
    let mut body = Vec::with_capacity(cells.packed.len() + sets.packed.len() + 4096);
    let more = frame.body.first().map_or(0, |head| head & 0x0F);
    body.push(0x80 | (more + 3));
    body.extend_from_slice(frame.body.get(1..).unwrap_or_default());
    put_text(b"cells", &mut body);
    put_array(cells.count + hashes.count, &mut body);
    body.extend_from_slice(&cells.packed);
    body.extend_from_slice(&hashes.packed);
    put_text(b"sets", &mut body);
    put_array(sets.count, &mut body);
    body.extend_from_slice(&sets.packed);
    put_text(b"known", &mut body);
    put_count(if frame.are_known { cells.count } else { 0 }, &mut body);
    request(frame, &[cells, &hashes, sets], &body)
}

/// A load: KEYS first, hashes; ARGV first, the fields of each.
pub fn load(frame: &Frame, wanted: &Lists) -> Vec<u8> {
    let mut body = Vec::with_capacity(wanted.packed.len() + 8);
    put_array(wanted.count, &mut body);
    body.extend_from_slice(&wanted.packed);
    request(frame, &[wanted], &body)
}

fn request(frame: &Frame, lists: &[&Lists], body: &[u8]) -> Vec<u8> {
    let listed: usize = lists.iter().map(|list| list.count).sum();
    let keys = frame.keys_first.len() + listed + frame.keys_last.len();
    let args = frame.args_first.len() + 1 + frame.args_last.len();
    let size: usize = lists.iter().map(|list| list.keys.len()).sum();
    let mut out = Vec::with_capacity(size + body.len() + 65_536);
    out.push(b'*');
    put_natural((frame.command.len() + 1 + keys + args) as u64, &mut out);
    out.extend_from_slice(b"\r\n");
    put_bulks(&frame.command, &mut out);
    let mut count = Vec::new();
    put_natural(keys as u64, &mut count);
    put_bulk(&count, &mut out);
    put_bulks(&frame.keys_first, &mut out);
    for list in lists {
        out.extend_from_slice(&list.keys);
    }
    put_bulks(&frame.keys_last, &mut out);
    put_bulks(&frame.args_first, &mut out);
    put_bulk(body, &mut out);
    put_bulks(&frame.args_last, &mut out);
    out
}

fn put_bulks(texts: &[PyBackedBytes], out: &mut Vec<u8>) {
    for text in texts {
        put_bulk(text, out);
    }
}

/// A string of the protocol of Redis.
fn put_bulk(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    put_natural(text.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// A string of msgpack.
pub fn put_text(text: &[u8], out: &mut Vec<u8>) {
    match text.len() {
        size @ 0..32 => out.push(0xA0 | size as u8),
        size @ 32..256 => out.extend_from_slice(&[0xD9, size as u8]),
        size @ 256..65_536 => {
            out.push(0xDA);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(0xDB);
            out.extend_from_slice(&(size as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// A whole number of msgpack.
fn put_count(number: usize, out: &mut Vec<u8>) {
    out.push(0xCE);
    out.extend_from_slice(&(number as u32).to_be_bytes());
}

/// The head of an array of msgpack.
fn put_array(items: usize, out: &mut Vec<u8>) {
    match items {
        0..16 => out.push(0x90 | items as u8),
        16..65_536 => {
            out.push(0xDC);
            out.extend_from_slice(&(items as u16).to_be_bytes());
        }
        _ => {
            out.push(0xDD);
            out.extend_from_slice(&(items as u32).to_be_bytes());
        }
    }
}
