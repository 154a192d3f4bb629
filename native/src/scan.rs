//! The bytes of an event → spans of them, where the event is plain.
//!
//! Plain is a JSON object of the members that an event may have, each once, every text of it UTF-8
//! whose escapes are valid. Whatever else there is, valid or not, is left to Python's decoders
//! (pipeline/core/event.py): this file never rejects and never decides what a text means.

use std::borrow::Cow;

use crate::fields::{CUSTOMER_ID, Fields, HOLDERS, VALUE};

const EVENT_BYTES_MAX: usize = 1_048_576;
const DEPTH_MAX: usize = 32; // containers inside each other, the event itself included
const TRANSACTION_ID_CHARS_MAX: usize = 128;
const CUSTOMER_ID_CHARS_MAX: usize = 256;
const EVENT_TYPE_CHARS_MAX: usize = 256;

/// What stands between the quotes of a text; its escapes are valid.
#[derive(Clone, Copy)]
struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// What it says, in UTF-8.
    #[inline]
    fn read(self) -> Cow<'a, [u8]> {
        if self.escaped {
            unescaped(self.raw)
        } else {
            Cow::Borrowed(self.raw)
        }
    }
}

#[cold]
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut said = Vec::with_capacity(raw.len());
    unescape(raw, |part| said.extend_from_slice(part));
    Cow::Owned(said)
}

/// A value of a property or of the context, as its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Absent,
    Null,
    True,
    False,
    Text(&'a [u8]),
    /// A text with escapes, which are valid.
    Escaped(&'a [u8]),
    /// A number by the grammar of JSON.
    Number(&'a [u8]),
    /// A list, with its brackets.
    List(&'a [u8]),
    Object,
}

impl<'a> Value<'a> {
    /// What a text says; None where it is none.
    #[inline]
    pub fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(raw) => Some(Cow::Borrowed(raw)),
            Self::Escaped(raw) => Some(unescaped(raw)),
            _ => None,
        }
    }
}

impl<'a> From<Text<'a>> for Value<'a> {
    fn from(text: Text<'a>) -> Self {
        if text.escaped {
            Self::Escaped(text.raw)
        } else {
            Self::Text(text.raw)
        }
    }
}

/// The values that somebody reads, each in a slot of its own (fields.rs); the others are not kept.
#[derive(Default)]
pub struct Slots<'a> {
    values: Vec<Value<'a>>,
    filled: Vec<usize>, // of how many slots there may be, an event fills a few
}

impl<'a> Slots<'a> {
    pub fn new(count: usize) -> Self {
        Self {
            values: vec![Value::Absent; count],
            filled: Vec::new(),
        }
    }

    pub fn get(&self, slot: usize) -> Value<'a> {
        self.values[slot]
    }

    fn set(&mut self, slot: usize, value: Value<'a>) {
        self.values[slot] = value; // of several the last one counts, as everywhere
        self.filled.push(slot);
    }

    fn clear(&mut self) {
        for slot in self.filled.drain(..) {
            self.values[slot] = Value::Absent;
        }
    }
}

/// The members of a plain event; what rules read of it is in the slots that `scan` filled.
pub struct Event<'a> {
    pub transaction_id: Cow<'a, [u8]>,
    pub customer_id: Cow<'a, [u8]>,
    pub event_type: Cow<'a, [u8]>,
    pub timestamp: Cow<'a, [u8]>,
}

/// Reads an event; None where it is not plain.
pub fn scan<'a>(bytes: &'a [u8], fields: &Fields, slots: &mut Slots<'a>) -> Option<Event<'a>> {
    slots.clear();
    if bytes.len() > EVENT_BYTES_MAX {
        return None;
    }
    let mut at = Cursor {
        bytes,
        at: 0,
        clean: is_clean(bytes),
    };
    let (mut transaction, mut customer, mut kind_of_event, mut time) = (None, None, None, None);
    let (mut properties, mut context) = (false, false);
    at.begin(b'{')?;
    loop {
        match &*at.key()?.read() {
            b"transaction_id" if transaction.is_none() => transaction = Some(at.text()?),
            b"customer_id" if customer.is_none() => customer = Some(at.text()?),
            b"event_type" if kind_of_event.is_none() => kind_of_event = Some(at.text()?),
            b"timestamp" if time.is_none() => time = Some(at.text()?),
            b"properties" if !properties => {
                properties = true;
                at.begin(b'{')?;
                at.members(2, |key| fields.property(key), slots)?;
            }
            b"context" if !context => {
                context = true;
                at.context(fields, slots)?;
            }
            b"kind" if *at.text()?.read() == *b"usage" => {}
            _ => return None,
        }
        if at.more(b'}')? {
            continue;
        }
        break;
    }
    at.space();
    if at.at != bytes.len() {
        return None;
    }
    let customer = customer?;
    if fields.reads_customer() {
        slots.set(CUSTOMER_ID, customer.into());
    }
    let event = Event {
        transaction_id: transaction?.read(),
        customer_id: customer.read(),
        event_type: kind_of_event?.read(),
        timestamp: time?.read(),
    };
    let plain = !event.customer_id.is_empty()
        && !event.event_type.is_empty()
        && !event.transaction_id.is_empty()
        && !longer(&event.transaction_id, TRANSACTION_ID_CHARS_MAX)
        && !longer(&event.customer_id, CUSTOMER_ID_CHARS_MAX)
        && !longer(&event.event_type, EVENT_TYPE_CHARS_MAX);
    plain.then_some(event)
}

/// The elements of a list that was read whole before.
pub fn elements(list: &[u8]) -> Vec<Value<'_>> {
    let mut at = Cursor {
        bytes: list,
        at: 1,
        clean: is_clean(list),
    };
    let mut found = Vec::new();
    if at.is_empty(b']') == Some(false) {
        // The depth was judged where it was read.
        while let Some(value) = at.value(0) {
            found.push(value);
            if at.more(b']') != Some(true) {
                break;
            }
        }
    }
    found
}

/// Whether a valid text has more characters.
fn longer(text: &[u8], chars: usize) -> bool {
    text.len() > chars && text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() > chars
}

/// Where the first quote is. Eight bytes at a time: most texts are too short for anything wider.
fn quote(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (number, chunk) in chunks.iter().enumerate() {
        let other = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'"'));
        // A byte's top bit is set where the byte is a quote. What is above the first one may be set
        // wrongly, the first one never is.
        let found = other.wrapping_sub(ONES) & !other & TOPS;
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == b'"')?;
    Some(chunks.len() * 8 + at)
}

/// Whether no byte can make a text anything but what stands there: printable ASCII, no backslash.
fn is_clean(bytes: &[u8]) -> bool {
    // Without a way out in the middle, so that many bytes are looked at together.
    !bytes.iter().fold(false, |odd, &byte| {
        odd | !(0x20..0x80).contains(&byte) | (byte == b'\\')
    })
}

/// Whether a text is UTF-8 without control characters.
fn is_text(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| *byte < 0x20) && std::str::from_utf8(bytes).is_ok()
}

/// How long a text with escapes is up to its closing quote.
fn escaped_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes
            .get(at..)?
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Gives the parts of what a text with escapes says; None where an escape is none, or is half of a
/// pair of surrogates.
fn unescape(mut raw: &[u8], mut said: impl FnMut(&[u8])) -> Option<()> {
    while let Some(at) = raw.iter().position(|&byte| byte == b'\\') {
        said(&raw[..at]);
        let (&mark, rest) = raw[at + 1..].split_first()?;
        raw = rest;
        match mark {
            b'"' | b'\\' | b'/' => said(&[mark]),
            b'b' => said(b"\x08"),
            b'f' => said(b"\x0C"),
            b'n' => said(b"\n"),
            b'r' => said(b"\r"),
            b't' => said(b"\t"),
            b'u' => {
                let mut code = hex(&mut raw)?;
                if (0xD800..0xDC00).contains(&code) {
                    raw = raw.strip_prefix(b"\\u")?;
                    let low = hex(&mut raw)?;
                    if !(0xDC00..0xE000).contains(&low) {
                        return None;
                    }
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                let mut buffer = [0; 4];
                said(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
            }
            _ => return None,
        }
    }
    said(raw);
    Some(())
}

/// Takes four hexadecimal digits.
fn hex(raw: &mut &[u8]) -> Option<u32> {
    let (digits, rest) = raw.split_first_chunk::<4>()?;
    *raw = rest;
    digits.iter().try_fold(0, |code, &digit| {
        Some(code * 16 + char::from(digit).to_digit(16)?)
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    clean: bool,
}

impl<'a> Cursor<'a> {
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The opening of a container.
    fn begin(&mut self, opening: u8) -> Option<()> {
        (self.next()? == opening).then_some(())
    }

    /// Whether a container goes on: a comma, or its closing.
    fn more(&mut self, closing: u8) -> Option<bool> {
        match self.next()? {
            b',' => Some(true),
            byte if byte == closing => Some(false),
            _ => None,
        }
    }

    /// Whether a container is empty; its closing is taken then.
    fn is_empty(&mut self, closing: u8) -> Option<bool> {
        self.space();
        let empty = *self.bytes.get(self.at)? == closing;
        self.at += usize::from(empty);
        Some(empty)
    }

    /// A key and its colon.
    fn key(&mut self) -> Option<Text<'a>> {
        let key = self.text()?;
        (self.next()? == b':').then_some(key)
    }

    /// A text, the quotes around it taken.
    fn text(&mut self) -> Option<Text<'a>> {
        if self.next()? != b'"' {
            return None;
        }
        self.rest_of_text()
    }

    /// The rest of a text after its first quote.
    fn rest_of_text(&mut self) -> Option<Text<'a>> {
        let rest = &self.bytes[self.at..];
        let mut raw = &rest[..quote(rest)?];
        let escaped = !self.clean && raw.contains(&b'\\');
        if escaped {
            raw = &rest[..escaped_length(rest)?];
            unescape(raw, |_| {})?;
        }
        self.at += raw.len() + 1;
        (self.clean || is_text(raw)).then_some(Text { raw, escaped })
    }

    /// A number by the grammar of JSON, its first byte at hand.
    fn number(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.at += usize::from(self.bytes[self.at] == b'-');
        let whole = self.digits()?;
        if whole > 1 && self.bytes[self.at - whole] == b'0' {
            return None;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(&self.bytes[start..self.at])
    }

    /// How many digits there are; at least one.
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        (self.at > start).then_some(self.at - start)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..]
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    /// Any value. `depth` containers are around it.
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.space();
        Some(match *self.bytes.get(self.at)? {
            b'"' => {
                self.at += 1;
                self.rest_of_text()?.into()
            }
            b'-' | b'0'..=b'9' => Value::Number(self.number()?),
            b't' => self.word(b"true").map(|()| Value::True)?,
            b'f' => self.word(b"false").map(|()| Value::False)?,
            b'n' => self.word(b"null").map(|()| Value::Null)?,
            b'{' => {
                self.at += 1;
                self.nested(true, depth + 1)?;
                Value::Object
            }
            b'[' => {
                let start = self.at;
                self.at += 1;
                self.nested(false, depth + 1)?;
                Value::List(&self.bytes[start..self.at])
            }
            _ => return None,
        })
    }

    /// The rest of a list or an object that nobody reads.
    fn nested(&mut self, object: bool, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let closing = if object { b'}' } else { b']' };
        if self.is_empty(closing)? {
            return Some(());
        }
        loop {
            if object {
                self.key()?;
            }
            self.value(depth)?;
            if !self.more(closing)? {
                return Some(());
            }
        }
    }

    /// The rest of an object of which some members are wanted. It is inside `depth - 1` others.
    fn members(
        &mut self,
        depth: usize,
        slot_of: impl Fn(&[u8]) -> Option<usize>,
        slots: &mut Slots<'a>,
    ) -> Option<()> {
        if self.is_empty(b'}')? {
            return Some(());
        }
        loop {
            let slot = slot_of(&self.key()?.read());
            let value = self.value(depth)?;
            if let Some(slot) = slot {
                slots.set(slot, value);
            }
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    /// The context: an object, or null.
    fn context(&mut self, fields: &Fields, slots: &mut Slots<'a>) -> Option<()> {
        self.space();
        if !fields.reads_context() || self.bytes.get(self.at) != Some(&b'{') {
            return matches!(self.value(1)?, Value::Null | Value::Object).then_some(());
        }
        self.at += 1;
        if self.is_empty(b'}')? {
            return Some(());
        }
        let mut met = [false; HOLDERS.len()];
        loop {
            let key = self.key()?.read();
            if let Some(holder) = HOLDERS.iter().position(|name| **name == *key) {
                // Of two the last one counts as a whole: rare enough to be Python's.
                if std::mem::replace(&mut met[holder], true) {
                    return None;
                }
                self.space();
                if self.bytes.get(self.at) == Some(&b'{') {
                    self.at += 1;
                    self.members(3, |key| fields.member(holder, key), slots)?;
                } else {
                    self.value(2)?;
                }
            } else {
                let value = self.value(2)?;
                if *key == *b"value" {
                    slots.set(VALUE, value);
                }
            }
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }
}
