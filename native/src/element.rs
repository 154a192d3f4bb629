//! What a UNIQUE set holds for a text (pipeline/core/aggregations.py, element_of()).

const ELEMENT_BYTES_MAX: usize = 15;
const DIGEST_BYTES: usize = 16;
const BLOCK_BYTES: usize = 128;
const START: [u64; 8] = [
    0x6A09_E667_F3BC_C908,
    0xBB67_AE85_84CA_A73B,
    0x3C6E_F372_FE94_F82B,
    0xA54F_F53A_5F1D_36F1,
    0x510E_527F_ADE6_82D1,
    0x9B05_688C_2B3E_6C1F,
    0x1F83_D9AB_FB41_BD6B,
    0x5BE0_CD19_137E_2179,
];
const ORDER: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const MIXED: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// Appends the text itself, or of a longer one its digest in 24 characters of base64.
pub fn put_element(text: &[u8], out: &mut Vec<u8>) {
    if text.len() <= ELEMENT_BYTES_MAX {
        return out.extend_from_slice(text);
    }
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digest = digest(text);
    let mut digits = [b'='; 24];
    for (chunk, four) in digest.chunks(3).zip(digits.chunks_exact_mut(4)) {
        let bits = chunk
            .iter()
            .zip([16, 8, 0])
            .fold(0, |bits, (&byte, shift)| bits | u32::from(byte) << shift);
        for (digit, shift) in four.iter_mut().zip([18, 12, 6, 0]).take(chunk.len() + 1) {
            *digit = DIGITS[(bits >> shift) as usize & 63];
        }
    }
    out.extend_from_slice(&digits);
}

/// BLAKE2b (RFC 7693) of 16 bytes, without a key.
fn digest(text: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut state = START;
    state[0] ^= 0x0101_0000 ^ DIGEST_BYTES as u64;
    let mut done = 0;
    let mut rest = text;
    while rest.len() > BLOCK_BYTES {
        let (block, after) = rest.split_at(BLOCK_BYTES);
        done += BLOCK_BYTES;
        compress(&mut state, block, done, false);
        rest = after;
    }
    compress(&mut state, rest, done + rest.len(), true);
    let mut digest = [0; DIGEST_BYTES];
    for (bytes, word) in digest.chunks_exact_mut(8).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

fn compress(state: &mut [u64; 8], block: &[u8], done: usize, is_last: bool) {
    let mut padded = [0; BLOCK_BYTES];
    padded[..block.len()].copy_from_slice(block);
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(padded.chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
    let mut v = [0; 16];
    v[..8].copy_from_slice(state);
    v[8..].copy_from_slice(&START);
    v[12] ^= done as u64;
    if is_last {
        v[14] = !v[14];
    }
    for round in 0..12 {
        let order = &ORDER[round % 10];
        for (pair, [a, b, c, d]) in order.chunks_exact(2).zip(MIXED) {
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[pair[0]]);
            v[d] = (v[d] ^ v[a]).rotate_right(32);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(24);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[pair[1]]);
            v[d] = (v[d] ^ v[a]).rotate_right(16);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(63);
        }
    }
    for (at, word) in state.iter_mut().enumerate() {
        *word ^= v[at] ^ v[at + 8];
    }
}
