//! Random numbers that are the same on every machine and for any number of threads.
//!
//! Each candidate draws from a stream of its own, addressed by (seed, generation, index), so the order
//! in which candidates are made does not matter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// An independent stream of random numbers (`ChaCha8`).
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Opens the stream of one candidate.
    #[must_use]
    pub fn new(seed: u64, generation: u32, index: u32) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream((u64::from(generation) << 32) | u64::from(index));
        Self(rng)
    }

    /// Draws uniformly from `0..n`, by multiply-shift: the bias is below n / 2^32.
    ///
    /// Returns 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Is true with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        f64::from(self.0.next_u32()) < p * 4_294_967_296.0
    }
}
