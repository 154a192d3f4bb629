//! The records of Kafka's batches, format 2, where they lie: no object of Python for each.
//!
//! A reader that accepts or abstains, as all of this module: a batch that it cannot read to its last byte
//! just as aiokafka reads it, or whose offsets do not rise, is left to Python, which reads it or says
//! what is wrong with it. What a batch is packed with, its checksum, transactions and control batches
//! were judged before it comes here (pipeline/edges/kafka_batches.py).
//!
//! Rule 1: of a length that a batch says nothing is believed before it was compared with the bytes that
//! there are. Rule 2: memory is 24 bytes a record, and a record has at least 7.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

const RECORD_BYTES_MIN: usize = 7; // one for each of its lengths and numbers
const NUMBER_BITS_MAX: u32 = 63; // longer ones are Python's
const APPEND_TIME: i64 = 1;

/// Bytes of a batch; the length of what is absent is NONE.
#[derive(Clone, Copy)]
struct Span {
    begin: u32,
    length: u32,
}

const NONE: u32 = u32::MAX;

/// A record: its batch, its distance from the first offset of it, its key and its value.
#[derive(Clone, Copy)]
struct Row {
    batch: u32,
    delta: u32,
    key: Span,
    value: Span,
}

/// What the records of a batch share. stamp: their append time.
struct Batch {
    data: PyBackedBytes,
    base_offset: i64,
    stamp: i64,
}

/// Records of some batches, in the order of the log.
#[derive(Default)]
pub struct Rows {
    batches: Vec<Arc<Batch>>,
    rows: Vec<Row>,
}

impl Rows {
    fn batch(&self, row: Row) -> &Batch {
        &self.batches[row.batch as usize]
    }

    fn bytes(&self, row: Row, span: Span) -> Option<&[u8]> {
        let begin = span.begin as usize;
        let data: &[u8] = &self.batch(row).data;
        (span.length != NONE).then(|| &data[begin..begin + span.length as usize])
    }

    /// The value of a record, empty where it has none, and its append time.
    #[inline]
    pub fn at(&self, row: usize) -> (&[u8], i64) {
        let row = self.rows[row];
        let value = self.bytes(row, row.value).unwrap_or_default();
        (value, self.batch(row).stamp)
    }

    pub fn offset(&self, row: usize) -> Option<i64> {
        let row = *self.rows.get(row)?;
        Some(self.batch(row).base_offset + i64::from(row.delta))
    }
}

/// Some of the records that follow each other there: those that a plan is made of.
#[derive(Clone, Default)]
pub struct View {
    pub rows: Arc<Rows>,
    pub begin: usize,
    pub length: usize,
}

impl View {
    pub fn offset(&self, row: usize) -> Option<i64> {
        self.rows.offset(self.begin + row)
    }
}

/// Offset, append time, the kind of it, key and value.
type Fields<'py> = (
    i64,
    i64,
    i64,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
);

/// Records as Python holds them (pipeline/core/raw.py).
#[pyclass(frozen)]
pub struct Records {
    rows: Arc<Rows>,
}

#[pymethods]
impl Records {
    /// Read the records of a batch that has append times; None where Python has to.
    ///
    /// data: holds them from begin to end, unpacked. count: how many the batch says that there are.
    #[staticmethod]
    fn read(
        data: PyBackedBytes,
        begin: usize,
        end: usize,
        base_offset: i64,
        stamp: i64,
        count: i64,
    ) -> Option<Self> {
        // A panic is a fault of this module, and Python reads the batch.
        let read = || rows_of(&data, begin, end, count);
        let rows = catch_unwind(AssertUnwindSafe(read)).ok()??;
        base_offset.checked_add(i64::from(rows.last()?.delta))?;
        let batch = Batch {
            data,
            base_offset,
            stamp,
        };
        Some(Self::new(vec![Arc::new(batch)], rows))
    }

    /// Take values, append times and offsets of records that Python has read.
    #[staticmethod]
    fn of(
        py: Python<'_>,
        values: Vec<Option<PyBackedBytes>>,
        stamps: Vec<i64>,
        offsets: Vec<i64>,
    ) -> PyResult<Self> {
        if values.len() != stamps.len() || values.len() != offsets.len() {
            return Err(PyValueError::new_err(
                "a value, a time and an offset of each record are due",
            ));
        }
        let (mut batches, mut rows) = (Vec::new(), Vec::with_capacity(values.len()));
        let begin = 0;
        for ((value, stamp), base_offset) in values.into_iter().zip(stamps).zip(offsets) {
            // Python keeps the records themselves: that a value is absent, and what the key is.
            let data = value.unwrap_or_else(|| PyBytes::new(py, b"").into());
            let length = u32::try_from(data.len()).ok().filter(|&size| size != NONE);
            let length = length.ok_or_else(|| PyValueError::new_err("a value is too long"))?;
            rows.push(Row {
                batch: batches.len() as u32,
                delta: 0,
                key: Span {
                    begin,
                    length: NONE,
                },
                value: Span { begin, length },
            });
            batches.push(Arc::new(Batch {
                data,
                base_offset,
                stamp,
            }));
        }
        Ok(Self::new(batches, rows))
    }

    /// One after the other: records, from which row, to which.
    #[staticmethod]
    fn joined(parts: Vec<(PyRef<'_, Self>, usize, usize)>) -> PyResult<Self> {
        let (mut batches, mut rows) = (Vec::<Arc<Batch>>::new(), Vec::new());
        rows.reserve(
            parts
                .iter()
                .map(|(_, begin, end)| end.saturating_sub(*begin))
                .sum(),
        );
        for (part, begin, end) in &parts {
            let part = &part.rows;
            let taken = part.rows.get(*begin..*end).ok_or_else(no_row)?;
            let before = match taken.first() {
                Some(first) => first.batch,
                None => continue,
            };
            let first = batches.len() as u32;
            for row in taken {
                let batch = first + (row.batch - before);
                if batch as usize == batches.len() {
                    batches.push(Arc::clone(&part.batches[row.batch as usize]));
                }
                rows.push(Row { batch, ..*row });
            }
        }
        Ok(Self::new(batches, rows))
    }

    fn __len__(&self) -> usize {
        self.rows.rows.len()
    }

    fn offset(&self, row: usize) -> PyResult<i64> {
        self.rows.offset(row).ok_or_else(no_row)
    }

    fn offsets(&self, begin: usize, end: usize) -> PyResult<Vec<i64>> {
        let taken = self.rows.rows.get(begin..end).ok_or_else(no_row)?;
        let offset = |&row: &Row| self.rows.batch(row).base_offset + i64::from(row.delta);
        Ok(taken.iter().map(offset).collect())
    }

    /// The first row at or after an offset.
    fn find(&self, offset: i64) -> usize {
        let rows = &self.rows;
        let before = |&row: &Row| rows.batch(row).base_offset + i64::from(row.delta) < offset;
        rows.rows.partition_point(before)
    }

    /// The records but for some, none appended before one that was before it in the log.
    ///
    /// clock_ms: the latest append time before them. left_out: offsets, rising.
    fn without(
        &self,
        py: Python<'_>,
        begin: usize,
        end: usize,
        clock_ms: i64,
        left_out: Vec<i64>,
    ) -> PyResult<Self> {
        let taken = self.rows.rows.get(begin..end).ok_or_else(no_row)?;
        let (mut batches, mut rows) = (Vec::<Arc<Batch>>::new(), Vec::with_capacity(taken.len()));
        let (mut latest, mut seen, mut out) = (clock_ms, None, left_out.into_iter().peekable());
        for row in taken {
            let batch = self.rows.batch(*row);
            let offset = batch.base_offset + i64::from(row.delta);
            if seen != Some(row.batch) {
                seen = Some(row.batch);
                latest = latest.max(batch.stamp);
                batches.push(Arc::new(Batch {
                    data: batch.data.clone_ref(py),
                    stamp: latest,
                    ..*batch
                }));
            }
            while out.next_if(|&each| each < offset).is_some() {}
            if out.next_if_eq(&offset).is_none() {
                let batch = batches.len() as u32 - 1;
                rows.push(Row { batch, ..*row });
            }
        }
        Ok(Self::new(batches, rows))
    }

    /// The latest append time; None where there is no record.
    fn latest(&self, begin: usize, end: usize) -> PyResult<Option<i64>> {
        let taken = self.rows.rows.get(begin..end).ok_or_else(no_row)?;
        Ok(taken.iter().map(|&row| self.rows.batch(row).stamp).max())
    }

    /// What Python makes records of.
    fn fields<'py>(&self, py: Python<'py>, begin: usize, end: usize) -> PyResult<Vec<Fields<'py>>> {
        let rows = &self.rows;
        let taken = rows.rows.get(begin..end).ok_or_else(no_row)?;
        let bytes = |row, span| rows.bytes(row, span).map(|bytes| PyBytes::new(py, bytes));
        let fields = |&row: &Row| {
            let batch = rows.batch(row);
            let offset = batch.base_offset + i64::from(row.delta);
            let (key, value) = (bytes(row, row.key), bytes(row, row.value));
            (offset, batch.stamp, APPEND_TIME, key, value)
        };
        Ok(taken.iter().map(fields).collect())
    }
}

impl Records {
    fn new(batches: Vec<Arc<Batch>>, rows: Vec<Row>) -> Self {
        let rows = Arc::new(Rows { batches, rows });
        Self { rows }
    }

    pub fn view(&self, begin: usize, end: usize) -> PyResult<View> {
        if begin > end || end > self.rows.rows.len() {
            return Err(no_row());
        }
        Ok(View {
            rows: Arc::clone(&self.rows),
            begin,
            length: end - begin,
        })
    }
}

pub fn no_row() -> PyErr {
    PyIndexError::new_err("there is no such record")
}

/// The records of a batch: exactly `count`, up to the last byte, each further than the one before.
fn rows_of(data: &[u8], begin: usize, end: usize, count: i64) -> Option<Vec<Row>> {
    let bytes = data.get(..end)?;
    let count = usize::try_from(count).ok()?;
    if bytes.len() >= NONE as usize || count > bytes.len().checked_sub(begin)? / RECORD_BYTES_MIN {
        return None;
    }
    let mut rows = Vec::with_capacity(count);
    let (mut at, mut least) = (Cursor { bytes, at: begin }, 0);
    for _ in 0..count {
        let row = at.record()?;
        if row.delta < least {
            return None;
        }
        least = row.delta + 1;
        rows.push(row);
    }
    (at.at == end).then_some(rows)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn record(&mut self) -> Option<Row> {
        let length = usize::try_from(self.number()?).ok()?;
        let end = self.at.checked_add(length)?;
        self.number()?; // attributes: none has a meaning
        self.number()?; // its own time, which the broker's append time stands for
        let delta = u32::try_from(self.number()?).ok()?;
        if delta > i32::MAX as u32 {
            return None;
        }
        let (key, value) = (self.span()?, self.span()?);
        let headers = self.number()?;
        if headers < 0 {
            return None;
        }
        for _ in 0..headers {
            let name = self.span()?;
            let begin = name.begin as usize;
            if name.length == NONE {
                return None;
            }
            std::str::from_utf8(&self.bytes[begin..begin + name.length as usize]).ok()?;
            self.span()?;
        }
        (self.at == end).then_some(Row {
            batch: 0,
            delta,
            key,
            value,
        })
    }

    /// Bytes after their length; a length below zero says that there are none.
    #[inline]
    fn span(&mut self) -> Option<Span> {
        let length = self.number()?;
        let begin = self.at as u32;
        if length < 0 {
            return Some(Span {
                begin,
                length: NONE,
            });
        }
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(Span {
            begin,
            length: length as u32,
        })
    }

    /// A signed number, zigzag.
    #[inline]
    fn number(&mut self) -> Option<i64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
            shift += 7;
            if shift >= NUMBER_BITS_MAX {
                return None;
            }
        }
    }
}
