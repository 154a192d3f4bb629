//! Who an event is, and where it lives (docs/design.md 2 and 5).

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::index::ID_BYTES;

/// The id of the pair (customer_id, transaction_id): the first 96 bits of a hash of both, the first
/// one with its length before it. `scratch` is only a place to work in.
pub fn id(customer: &[u8], transaction: &[u8], seed: u64, scratch: &mut Vec<u8>) -> [u8; ID_BYTES] {
    scratch.clear();
    scratch.extend_from_slice(&(customer.len() as u32).to_be_bytes());
    scratch.extend_from_slice(customer);
    scratch.extend_from_slice(transaction);
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&xxh3_128_with_seed(scratch, seed).to_be_bytes()[..ID_BYTES]);
    id
}

/// The home partition of a customer: Kafka's murmur2, as its default partitioner takes it.
pub fn home(customer: &[u8], homes: u32) -> u32 {
    (murmur2(customer) & 0x7FFF_FFFF) % homes
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5BD1_E995;
    let mut hash = 0x9747_B28C ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest
            .iter()
            .rev()
            .fold(0, |word, &byte| (word << 8) | u32::from(byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
