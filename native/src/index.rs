//! The index of identities that Python owns (pipeline/core/dedup.py, IdIndex), asked and written in
//! place: buckets of eight slots; an id whose bucket is full lies in the next one that was not.

pub const SLOTS: usize = 8;
pub const ID_BYTES: usize = 12;

pub struct Index<'a> {
    pub high: &'a mut [u64],
    pub low: &'a mut [u32],
    pub tag: &'a mut [u8],
    /// By bucket: how many of its slots are taken.
    pub filled: &'a mut [u8],
}

impl Index<'_> {
    /// Reads what `add` will ask for, so that many ids wait for memory together, not in turn.
    pub fn touch(&self, id: &[u8; ID_BYTES]) {
        let bucket = self.bucket(halves(id).0);
        let slot = bucket * SLOTS;
        std::hint::black_box((
            self.filled[bucket],
            self.high[slot],
            self.low[slot],
            self.tag[slot],
        ));
    }

    /// Adds an id that the index does not hold; says whether it did not. There must be room.
    pub fn add(&mut self, id: &[u8; ID_BYTES], tag: u8) -> bool {
        let (high, low) = halves(id);
        let mut bucket = self.bucket(high);
        loop {
            let (first, filled) = (bucket * SLOTS, usize::from(self.filled[bucket]));
            if (first..first + filled).any(|at| self.high[at] == high && self.low[at] == low) {
                return false;
            }
            if filled < SLOTS {
                let slot = first + filled;
                (self.high[slot], self.low[slot], self.tag[slot]) = (high, low, tag);
                self.filled[bucket] += 1;
                return true;
            }
            bucket = (bucket + 1) % self.filled.len();
        }
    }

    /// The number of buckets is a power of two.
    fn bucket(&self, high: u64) -> usize {
        (high & (self.filled.len() as u64 - 1)) as usize
    }
}

fn halves(id: &[u8; ID_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *id;
    (
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    )
}
