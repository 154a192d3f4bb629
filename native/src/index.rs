//! The index of identities that Python owns (pipeline/core/id_index.py), asked and written in
//! place: buckets of eight slots; an id whose bucket is full lies in the next one that was not.

pub const SLOTS: usize = 8;
pub const ID_BYTES: usize = 12;
const BLOCK: usize = 64;

pub struct Index<'a> {
    pub high: &'a mut [u64],
    pub low: &'a mut [u32],
    pub tag: &'a mut [u8],
    /// By bucket: how many of its slots are taken.
    pub filled: &'a mut [u8],
}

impl Index<'_> {
    /// Whether the arrays can be those of an index.
    pub fn is_whole(&self) -> bool {
        let slots = self.filled.len() * SLOTS;
        self.filled.len().is_power_of_two()
            && [self.high.len(), self.low.len(), self.tag.len()] == [slots; 3]
    }

    /// Reads what `add` will ask for, so that many ids wait for memory together, not in turn.
    pub fn touch(&self, id: &[u8; ID_BYTES]) {
        self.touch_bucket(self.bucket(halves(id).0));
    }

    fn touch_bucket(&self, bucket: usize) {
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
            let filled = usize::from(self.filled[bucket]);
            let here = bucket * SLOTS..bucket * SLOTS + filled;
            let held = self.high[here.clone()].iter().zip(&self.low[here]);
            if held.into_iter().any(|held| held == (&high, &low)) {
                return false;
            }
            if filled < SLOTS {
                self.put(bucket, (high, low), tag);
                return true;
            }
            bucket = (bucket + 1) % self.filled.len();
        }
    }

    /// Adds ids that are distinct and not in the index. There must be room.
    pub fn insert(&mut self, high: &[u64], low: &[u32], tag: &[u8]) {
        let ids = high.iter().zip(low).zip(tag);
        let mut ids = ids.map(|((&high, &low), &tag)| (high, low, tag));
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            block.extend(ids.by_ref().take(BLOCK));
            if block.is_empty() {
                return;
            }
            for &(high, _, _) in &block {
                self.touch_bucket(self.bucket(high));
            }
            for &(high, low, tag) in &block {
                let (first, buckets) = (self.bucket(high), self.filled.len());
                let mut following = (0..buckets).map(|step| (first + step) % buckets);
                let free = following.find(|&bucket| usize::from(self.filled[bucket]) < SLOTS);
                self.put(free.expect("there is room"), (high, low), tag);
            }
        }
    }

    fn put(&mut self, bucket: usize, (high, low): (u64, u32), tag: u8) {
        let slot = bucket * SLOTS + usize::from(self.filled[bucket]);
        (self.high[slot], self.low[slot], self.tag[slot]) = (high, low, tag);
        self.filled[bucket] += 1;
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
