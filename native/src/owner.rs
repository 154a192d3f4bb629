//! The cells of one owned partition, for Python (pipeline/core/cell_cache.py).
//!
//! **Life of a flush.** `begin`; `gather` takes what the plan's plain events change, and `join` what
//! Python's half of it does. What the cache does not hold is missing: `load_request` asks for it,
//! `loaded` takes the answer. `odd` gives Python what only Python can merge, `settled` takes it back.
//! `commit_request` is the commit. `keep` says that the store has accepted it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hashbrown::HashMap;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::Folder;
use crate::cell_cache::{CellCache, flags};
use crate::flush::{CellOf, Flush, Measure, Store, no_flush, string};
use crate::keys::Layout;
use crate::requests::{self, Frame, Lists};
use crate::rules::kind_of;
use crate::values::Partial;

/// What Python's half adds to it: a text, or elements.
type Joined<T> = (String, String, i64, u32, Vec<Option<String>>, T);

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (*, partition, prefix, per_day, bytes_max))]
    fn new(partition: i64, prefix: Vec<u8>, per_day: i32, bytes_max: usize) -> PyResult<Self> {
        if per_day < 1 {
            return Err(PyValueError::new_err("per_day is at least 1"));
        }
        Ok(Self {
            partition,
            layout: Layout { prefix, per_day },
            bytes_max,
            measures: Vec::new(),
            by_key: HashMap::new(),
            cache: CellCache::new(),
            flush: None,
        })
    }

    /// Learn a measure: its key, its aggregation and its number in the partition.
    fn learn(&mut self, key: String, kind: &str, number: u32) -> PyResult<()> {
        let kind = kind_of(kind).ok_or_else(|| PyValueError::new_err("an aggregation"))?;
        let own = u16::try_from(self.measures.len());
        let own = own.map_err(|_| PyRuntimeError::new_err("more than 65,536 measures"))?;
        if self.by_key.insert(key.clone(), own).is_some() {
            return Err(PyValueError::new_err("the measure is known"));
        }
        self.measures.push(Measure { key, kind, number });
        Ok(())
    }

    /// How many cells are kept.
    fn __len__(&self) -> usize {
        self.cache.len()
    }

    /// The bytes that they take.
    #[getter]
    fn nbytes(&self) -> usize {
        self.cache.nbytes()
    }

    fn begin(&mut self) -> PyResult<()> {
        if self.flush.is_some() {
            return Err(PyRuntimeError::new_err("the last flush was not kept"));
        }
        self.flush = Some(Flush::default());
        Ok(())
    }

    /// Take what the plain events of a plan change.
    fn gather(&mut self, py: Python<'_>, folder: &mut Folder) -> PyResult<()> {
        let plan = folder.take_plan();
        let rules = folder.rules();
        guarded(py, || {
            let measures = rules.iter().map(|rule| self.by_key.get(&rule.key).copied());
            let measures: Vec<_> = measures.collect();
            self.gather_plan(&plan, &measures)
        })
    }

    /// Take what Python's half of a plan changes: cells with texts, cells with elements.
    fn join(
        &mut self,
        py: Python<'_>,
        cells: Vec<Joined<String>>,
        elements: Vec<Joined<Vec<String>>>,
    ) -> PyResult<()> {
        guarded(py, || {
            for (measure, owner, bucket, set, groups, text) in cells {
                let key = self.key_of(&measure, &owner, bucket, set, &groups)?;
                let kind = self.measures[key.measure as usize].kind;
                self.add(key, kind, Partial::parse(kind, text.as_bytes()));
            }
            for (measure, owner, bucket, set, groups, members) in elements {
                let key = self.key_of(&measure, &owner, bucket, set, &groups)?;
                let flush = self.flush.as_mut().ok_or_else(no_flush)?;
                for member in members {
                    let element = flush.element_names.number(member.as_bytes());
                    flush.elements.push((key, element));
                }
            }
            Ok(())
        })
    }

    /// The cells that have to be loaded, in the order of `loaded`.
    fn missing(&mut self) -> PyResult<Vec<CellOf>> {
        self.order_missing()?;
        let flush = self.flush.as_ref().ok_or_else(no_flush)?;
        let cells = flush
            .missing
            .iter()
            .map(|&slot| self.cell_of(self.cache.key(slot)));
        cells.collect()
    }

    /// How many cells have to be loaded.
    #[getter]
    fn missing_count(&self) -> usize {
        self.flush.as_ref().map_or(0, |flush| flush.missing.len())
    }

    /// The request that loads them.
    fn load_request<'py>(
        &mut self,
        py: Python<'py>,
        frame: Frame,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let groups = self.order_missing()?;
        let this = &*self;
        let bytes = guarded(py, || {
            let flush = this.flush.as_ref().ok_or_else(no_flush)?;
            let (mut wanted, mut text) = (Lists::default(), Vec::new());
            let mut slots = flush.missing.iter();
            for (address, count) in groups {
                this.begin_list(&mut wanted, b'c', address, count);
                for &slot in slots.by_ref().take(count) {
                    text.clear();
                    this.put_field(this.cache.key(slot), &mut text);
                    wanted.item(&text);
                }
            }
            Ok(requests::load(&frame, &wanted))
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Take what the store holds for the missing cells.
    fn loaded(&mut self, py: Python<'_>, texts: Vec<Option<PyBackedBytes>>) -> PyResult<()> {
        let flush = self.flush.as_mut().ok_or_else(no_flush)?;
        let missing = std::mem::take(&mut flush.missing);
        if missing.len() != texts.len() {
            return Err(PyValueError::new_err("a text of each missing cell is due"));
        }
        guarded(py, || {
            for (slot, text) in missing.into_iter().zip(texts) {
                let known = self.cache.flags(slot);
                *known &= !flags::MISSING;
                let Some(text) = text else {
                    *known |= flags::NEW;
                    continue;
                };
                let kind = self.kind_of(slot);
                let change = self.cache.get(slot, kind);
                self.cache.set(slot, Partial::parse(kind, &text));
                self.merge(slot, kind, change)?;
            }
            Ok(())
        })
    }

    /// What only Python can merge: of each cell the texts to join, in order.
    fn odd(&self) -> PyResult<Vec<(CellOf, Vec<String>)>> {
        let flush = self.flush.as_ref().ok_or_else(no_flush)?;
        let odd = sorted(&flush.odd).into_iter().map(|slot| {
            let held = self.cache.get(slot, self.kind_of(slot));
            let texts = std::iter::once(&held).chain(&flush.odd[&slot]);
            let texts = texts.map(|partial| {
                let mut text = Vec::new();
                partial.encode(&mut text);
                string(&text)
            });
            Ok((
                self.cell_of(self.cache.key(slot))?,
                texts.collect::<PyResult<_>>()?,
            ))
        });
        odd.collect()
    }

    /// Take the texts that they have become, in the same order.
    fn settled(&mut self, py: Python<'_>, texts: Vec<String>) -> PyResult<()> {
        let flush = self.flush.as_mut().ok_or_else(no_flush)?;
        let slots = sorted(&std::mem::take(&mut flush.odd));
        if slots.len() != texts.len() {
            return Err(PyValueError::new_err("a text of each odd cell is due"));
        }
        guarded(py, || {
            for (slot, text) in slots.into_iter().zip(texts) {
                *self.cache.flags(slot) &= !flags::ODD;
                let partial = Partial::parse(self.kind_of(slot), text.as_bytes());
                self.cache.set(slot, partial);
            }
            Ok(())
        })
    }

    /// The request that writes the flush.
    fn commit_request<'py>(&self, py: Python<'py>, frame: Frame) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = guarded(py, || {
            let flush = self.settled_flush()?;
            Ok(requests::commit(
                &frame,
                &self.cells_of(flush),
                &self.sets_of(flush),
            ))
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The same for a store that takes no requests: each cell, its text, and whether it is new.
    fn cells(&self) -> PyResult<Vec<(CellOf, String, bool)>> {
        let changed = self.settled_flush()?.changed.iter();
        let cells = changed.map(|&slot| {
            let (key, mut text) = (self.cache.key(slot), Vec::new());
            self.cache.get(slot, self.kind_of(slot)).encode(&mut text);
            Ok((
                self.cell_of(key)?,
                string(&text)?,
                self.cache.has(slot, flags::NEW),
            ))
        });
        cells.collect()
    }

    /// Likewise each element, and whether its cell is new.
    fn elements(&self) -> PyResult<Vec<(CellOf, String, bool)>> {
        let flush = self.settled_flush()?;
        let elements = flush.elements.iter().map(|&(key, element)| {
            let text = string(flush.element_names.name(element))?;
            Ok((self.cell_of(key)?, text, self.is_new(key)))
        });
        elements.collect()
    }

    /// The store has accepted the flush: what it changed may stay.
    fn keep(&mut self, py: Python<'_>) -> PyResult<()> {
        let flush = self.flush.take().ok_or_else(no_flush)?;
        guarded(py, || {
            self.cache.keep(&flush.changed, self.bytes_max);
            Ok(())
        })
    }
}

fn sorted(odd: &HashMap<u32, Vec<Partial>>) -> Vec<u32> {
    let mut slots: Vec<_> = odd.keys().copied().collect();
    slots.sort_unstable();
    slots
}

/// Works without Python's lock; a panic is a fault of this module, and Python is told.
fn guarded<T: Send>(py: Python<'_>, work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work)))
        .map_err(|_| PyRuntimeError::new_err("native/ is broken: see the panic above"))?
}
