//! The plain events of Recount's fold. Python has all of the fold (pipeline/core/fold); this module
//! takes what is plain among the events, gives the same answer sooner, and holds no lock meanwhile.
//!
//! **A partial function.** For each record this module either says exactly what Python would say, or
//! it says nothing and stops there. It rejects nothing: a malformed event and an event that is too old
//! are "not mine". Of an event that it takes, it may leave rules to Python: a pattern, a number of 19
//! digits, a value that cannot be read. Then the event is judged, looked up and counted here, and only
//! those rules are evaluated there. So a rule that is missing here costs speed and never a number, and
//! every rule stands in Python first.
//!
//! **Life of a plan.** `records` finds where the records of a batch of Kafka lie, without an object for
//! each. `begin` takes some of them. `take` goes from a row on: `scan` finds the members of the event without making objects, and keeps the `fields` that
//! rules read; `time` and `decimal` read the timestamp and the numbers; `identity` hashes the pair
//! (customer_id, transaction_id); `index` looks it up in the arrays of Python's IdIndex, and adds it;
//! `rules` evaluates the conditions of the event type; `cells` adds to totals, groups and UNIQUE
//! elements. It stops at the first record that it cannot decide, at the end of a generation, or when
//! the plan has enough cells or Python enough shares; it tells how many it took, what Python's share of
//! them is, and why it stopped. Python adds its share, folds a slice from there and calls `take` again.
//! `end` hands over what was gathered.
//!
//! **Life of a cell.** `flush` keeps the cells of an owner from one commit to the next: it takes those of
//! a plan, joins what Python folded, merges them with what is cached or loaded, and writes the requests
//! to Redis. What it cannot merge it hands to Python as texts, and takes the result back.
//!
//! **The index is shared.** Python owns the arrays and grows them before each call; this module writes
//! into them while Python waits. One index is what makes both halves of a plan agree on duplicates.
//!
//! **Exactness.** A number is an i128 of billionths with at most 18 digits when it is read. A plan has at most
//! 50,000 records, so no sum can overflow. Longer numbers are Python's.
//!
//! **When it fails.** A panic is caught at the border and raised as RuntimeError. The owner then drops the
//! index, opens the partition again and folds in Python from there on: an event is never lost to a bug here.
//!
//! There is no `unsafe`. tests/property/test_native.py compares plans made with and without this module, for any
//! events, metrics, conditions and cuts.

mod cell_cache;
mod cells;
mod decimal;
mod element;
mod fields;
mod flush;
mod identity;
mod index;
mod keys;
mod owner;
mod plan;
mod records;
mod requests;
mod rules;
mod scan;
mod time;
mod values;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use numpy::{PyReadonlyArray1, PyReadwriteArray1, PyReadwriteArray2};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::fields::Fields;
use crate::flush::Store;
use crate::index::{ID_BYTES, Index};
use crate::plan::{Catalogue, Odd, Plan, Stretch, Terms};
use crate::records::{Records, View, no_row};
use crate::rules::{Kind, Rule, Spelled};
use crate::scan::{Slots, Value};

/// What this module and pipeline/core/fold/rust.py agree on; it goes up with every change of either.
const PROTOCOL: u32 = 8;
const TYPES_MAX: usize = 4_096; // event types; others are Python's

/// Folds the plain events of one partition under one set of rules, plan after plan.
#[pyclass]
struct Folder {
    terms: Terms,
    catalogue: Catalogue,
    plan: Plan,
}

type Arrays<'py> = (
    PyReadwriteArray2<'py, u64>,
    PyReadwriteArray2<'py, u32>,
    PyReadwriteArray2<'py, u8>,
    PyReadwriteArray1<'py, u8>,
);

/// Four texts, then kinds and bytes of fields.
type Members<'a> = (Vec<Cow<'a, [u8]>>, Vec<(&'a str, Cow<'a, [u8]>)>);
/// How many were taken, how many ids are new, the log clock, a type to learn, why it stopped, and
/// Python's share: row, event time, log clock, whether a rule matched, rules that are left, and why.
type Took<'py> = (
    usize,
    usize,
    i64,
    Option<String>,
    Option<&'static str>,
    Vec<(usize, i64, i64, bool, Bound<'py, PyTuple>, &'static str)>,
);

#[pymethods]
impl Folder {
    #[new]
    #[pyo3(signature = (*, bucket_ns, seed, partition, homes, max_age_ms, max_ahead_ms))]
    fn new(
        bucket_ns: i64,
        seed: u64,
        partition: u32,
        homes: u32,
        max_age_ms: i64,
        max_ahead_ms: i64,
    ) -> PyResult<Self> {
        if bucket_ns < 1 || homes < 1 {
            return Err(PyValueError::new_err("bucket_ns and homes are at least 1"));
        }
        let terms = Terms {
            bucket_ns,
            seed,
            partition,
            homes,
            max_age_ms,
            max_ahead_ms,
        };
        Ok(Self {
            terms,
            catalogue: Catalogue::default(),
            plan: Plan::default(),
        })
    }

    /// Learn the rules that an event type can match; return their numbers.
    fn learn(&mut self, event_type: &str, rules: Vec<Spelled>) -> PyResult<Vec<u32>> {
        let numbers = rules.into_iter().map(|rule| self.catalogue.number(rule));
        let numbers: Option<Vec<u32>> = numbers.collect();
        let numbers = numbers.ok_or_else(|| PyValueError::new_err("a rule of another release"))?;
        let types = &mut self.catalogue.types;
        let number = types.len() as u32;
        types.insert(event_type.as_bytes().into(), (number, numbers.clone()));
        Ok(numbers)
    }

    /// Begin a plan of some records.
    fn begin(&mut self, records: &Records, begin: usize, end: usize) -> PyResult<()> {
        self.plan = Plan::new(records.view(begin, end)?);
        Ok(())
    }

    /// Take records from a row on, up to the first that is not plain, that another generation
    /// begins with, or after which there are enough cells or shares of Python's.
    ///
    /// Returns how many were taken, how many ids are new, the log clock after the last one, the
    /// event type of the next one, where it has to be learned, why the next one is Python's, where it
    /// is, and Python's share of what was taken.
    #[pyo3(signature = (*, row, clock_ms, last_ms, tag, cells_max, shares_max, index))]
    #[allow(clippy::too_many_arguments)]
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        row: usize,
        clock_ms: i64,
        last_ms: i64,
        tag: u8,
        cells_max: usize,
        shares_max: usize,
        index: Arrays<'_>,
    ) -> PyResult<Took<'py>> {
        let mut arrays = index;
        let mut index = view(&mut arrays)?;
        if row > self.plan.records.length {
            return Err(PyValueError::new_err("the plan has no such row"));
        }
        let Self {
            terms,
            catalogue,
            plan,
        } = self;
        let known = plan.new_ids.len();
        let stretch = Stretch { row, last_ms, tag };
        plan.clock_ms = clock_ms;
        // A panic is a fault of this module. Python can go on without it, if it is told.
        let take = || {
            plan.take(
                catalogue,
                terms,
                stretch,
                (cells_max, shares_max),
                &mut index,
            )
        };
        let taken = py
            .detach(|| catch_unwind(AssertUnwindSafe(take)))
            .map_err(|_| PyRuntimeError::new_err("native/ is broken: see the panic above"))?;
        let new = (plan.new_ids.len() - known) / ID_BYTES;
        let unknown = plan
            .unknown
            .take()
            .filter(|_| catalogue.types.len() < TYPES_MAX);
        let shares = plan.shares.drain(..).map(|share| {
            let at = share.at;
            let rules = PyTuple::new(py, share.rules)?;
            Ok((
                at.row,
                at.event_ns,
                at.clock_ms,
                share.matched,
                rules,
                share.why.word(),
            ))
        });
        let shares = shares.collect::<PyResult<_>>()?;
        let odd = plan.odd.map(Odd::word);
        Ok((taken, new, plan.clock_ms, unknown, odd, shares))
    }

    /// How many cells and elements are touched so far.
    #[getter]
    fn size(&self) -> usize {
        self.plan.cells.size
    }

    /// End the plan; return what it took, by name. Its cells stay, for a store of cells.
    fn end<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (plan, taken) = (&self.plan, PyDict::new(py));
        let offset = |&row: &usize| plan.records.offset(row);
        let duplicates: Option<Vec<i64>> = plan.duplicates.iter().map(offset).collect();
        taken.set_item("counted", plan.counted)?;
        taken.set_item("duplicates", duplicates.ok_or_else(no_row)?)?;
        taken.set_item("new_ids", PyBytes::new(py, &plan.new_ids))?;
        taken.set_item("first", self.first(plan)?)?;
        if !self.has_readings() {
            self.plan.records = View::default(); // nobody asks for an offset any more
        }
        Ok(taken)
    }
}

impl Folder {
    fn take_plan(&mut self) -> Plan {
        std::mem::take(&mut self.plan)
    }

    /// Whether a cell needs the offset of its record.
    fn has_readings(&self) -> bool {
        let mut kinds = self.catalogue.rules.iter().map(|rule| rule.kind);
        kinds.any(|kind| matches!(kind, Kind::Latest | Kind::First))
    }

    fn rules(&self) -> &[Rule] {
        &self.catalogue.rules
    }

    /// Event type → the offset of its first new event.
    fn first(&self, plan: &Plan) -> PyResult<Vec<(&str, i64)>> {
        let types = &self.catalogue.types;
        types
            .iter()
            .filter_map(|(name, (number, _))| Some((name, *plan.first.get(number)?)))
            .map(|(name, row)| Ok((text(name)?, plan.records.offset(row).ok_or_else(no_row)?)))
            .collect()
    }
}

fn text(bytes: &[u8]) -> PyResult<&str> {
    std::str::from_utf8(bytes).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// The index that lies in Python's arrays.
fn view<'a>(arrays: &'a mut Arrays<'_>) -> PyResult<Index<'a>> {
    let (high, low, tag, filled) = arrays;
    let index = Index {
        high: high.as_slice_mut()?,
        low: low.as_slice_mut()?,
        tag: tag.as_slice_mut()?,
        filled: filled.as_slice_mut()?,
    };
    if index.is_whole() {
        Ok(index)
    } else {
        Err(PyValueError::new_err("the arrays do not belong together"))
    }
}

/// Add ids that are distinct and not in an index to its arrays, in which there is room.
#[pyfunction]
fn insert(
    py: Python<'_>,
    high: PyReadonlyArray1<'_, u64>,
    low: PyReadonlyArray1<'_, u32>,
    tag: PyReadonlyArray1<'_, u8>,
    index: Arrays<'_>,
) -> PyResult<()> {
    let mut arrays = index;
    let mut index = view(&mut arrays)?;
    let (high, low, tag) = (high.as_slice()?, low.as_slice()?, tag.as_slice()?);
    py.detach(|| index.insert(high, low, tag));
    Ok(())
}

/// An RFC 3339 text → nanoseconds since 1970; None where Python has to read it.
#[pyfunction]
fn time_of(text: &[u8]) -> Option<i64> {
    time::parse(text)
}

/// A number's text → its canonical text; None where Python has to read it.
#[pyfunction]
fn decimal_of(text: &[u8]) -> Option<String> {
    decimal::parse(text).map(decimal::text)
}

/// A text → what a UNIQUE set holds for it.
#[pyfunction]
fn element_of(text: &str) -> String {
    let mut element = Vec::new();
    element::put_element(text.as_bytes(), &mut element);
    String::from_utf8_lossy(&element).into_owned()
}

/// A plain event → its four texts, and of each field asked for its kind and bytes.
#[pyfunction]
fn members_of(value: &[u8], fields: Vec<fields::Spelled>) -> Option<Members<'_>> {
    let mut known = Fields::default();
    let asked: Option<Vec<_>> = fields.iter().map(|field| known.learn(field)).collect();
    let mut slots = Slots::new(known.len());
    let event = scan::scan(value, &known, &mut slots)?;
    let members = vec![
        event.transaction_id,
        event.customer_id,
        event.event_type,
        event.timestamp,
    ];
    let nothing = Cow::Borrowed(&b""[..]);
    let found = asked?.into_iter().map(|field| match field.of(&slots) {
        Value::Absent => ("absent", nothing.clone()),
        Value::Null => ("null", nothing.clone()),
        Value::True => ("true", nothing.clone()),
        Value::False => ("false", nothing.clone()),
        Value::Text(_) | Value::Escaped(_) => ("text", field.of(&slots).text().unwrap_or_default()),
        Value::Number(token) => ("number", Cow::Borrowed(token)),
        Value::List(list) => ("list", Cow::Borrowed(list)),
        Value::Object => ("object", nothing.clone()),
    });
    Some((members, found.collect()))
}

#[pymodule]
fn recount_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PROTOCOL", PROTOCOL)?;
    module.add_class::<Folder>()?;
    module.add_class::<Store>()?;
    module.add_class::<Records>()?;
    module.add_function(wrap_pyfunction!(insert, module)?)?;
    // For the laws of tests/property/test_native.py only.
    module.add_function(wrap_pyfunction!(time_of, module)?)?;
    module.add_function(wrap_pyfunction!(decimal_of, module)?)?;
    module.add_function(wrap_pyfunction!(element_of, module)?)?;
    module.add_function(wrap_pyfunction!(members_of, module)?)
}
