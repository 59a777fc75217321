//! Sixteen floats in the registers of one instruction set.
//!
//! The implementations for an instruction set may only be used inside functions that are compiled for it, which
//! run only where it was detected: `kernel.rs` sees to that.

#![allow(unsafe_code, reason = "vector instructions of an instruction set that was detected")]
#![expect(
    clippy::inline_always,
    reason = "operations must be compiled inside each instruction set's function"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

/// Floats computed side by side: one AVX-512 register, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// A row of [`LANES`] weights, biases or sums in memory.
pub type Lanes = [f32; LANES];

/// [`LANES`] floats in registers.
pub(crate) trait Register: Copy {
    /// Reads the lanes.
    fn load(lanes: &Lanes) -> Self;
    /// Sets every lane to one value.
    fn splat(value: f32) -> Self;
    /// Writes the lanes.
    fn store(self, lanes: &mut Lanes);
    /// Adds `a * b` lane by lane.
    fn add_product(self, a: Self, b: Self) -> Self;
    /// Replaces what is below 0 by 0.
    fn relu(self) -> Self;
    /// Adds `a * b` to `sum`, rounded as [`Self::add_product`] rounds.
    fn add_product_of_one(sum: f32, a: f32, b: f32) -> f32;
}

/// Whether the plain implementation may fuse: only where that is one instruction of the base architecture.
const PLAIN_FUSES: bool = cfg!(target_arch = "aarch64");

/// What every processor of the architecture has. On 64-bit Arm this is NEON with fused multiply-adds.
#[derive(Clone, Copy)]
pub(crate) struct Plain(Lanes);

impl Register for Plain {
    #[inline(always)]
    fn load(lanes: &Lanes) -> Self {
        Self(*lanes)
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn store(self, lanes: &mut Lanes) {
        *lanes = self.0;
    }

    #[inline(always)]
    fn add_product(mut self, a: Self, b: Self) -> Self {
        for (lane, sum) in self.0.iter_mut().enumerate() {
            *sum = Self::add_product_of_one(*sum, a.0[lane], b.0[lane]);
        }
        self
    }

    #[inline(always)]
    fn relu(self) -> Self {
        Self(self.0.map(|lane| lane.max(0.0)))
    }

    #[inline(always)]
    fn add_product_of_one(sum: f32, a: f32, b: f32) -> f32 {
        if PLAIN_FUSES { a.mul_add(b, sum) } else { a * b + sum }
    }
}

/// Two registers of AVX2, with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

#[cfg(target_arch = "x86_64")]
impl Register for Avx2 {
    #[inline(always)]
    fn load(lanes: &Lanes) -> Self {
        // SAFETY: the sixteen floats are borrowed, need not be aligned, and AVX was detected.
        unsafe { Self(_mm256_loadu_ps(lanes.as_ptr()), _mm256_loadu_ps(lanes[8..].as_ptr())) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX was detected.
        let register = unsafe { _mm256_set1_ps(value) };
        Self(register, register)
    }

    #[inline(always)]
    fn store(self, lanes: &mut Lanes) {
        // SAFETY: the sixteen floats are borrowed, need not be aligned, and AVX was detected.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), self.0);
            _mm256_storeu_ps(lanes[8..].as_mut_ptr(), self.1);
        }
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: FMA was detected.
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }

    #[inline(always)]
    fn relu(self) -> Self {
        // SAFETY: AVX was detected.
        unsafe {
            let zero = _mm256_setzero_ps();
            Self(_mm256_max_ps(self.0, zero), _mm256_max_ps(self.1, zero))
        }
    }

    #[inline(always)]
    fn add_product_of_one(sum: f32, a: f32, b: f32) -> f32 {
        a.mul_add(b, sum)
    }
}

/// One register of AVX-512 Foundation.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Register for Avx512 {
    #[inline(always)]
    fn load(lanes: &Lanes) -> Self {
        // SAFETY: the sixteen floats are borrowed, need not be aligned, and AVX-512F was detected.
        unsafe { Self(_mm512_loadu_ps(lanes.as_ptr())) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX-512F was detected.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn store(self, lanes: &mut Lanes) {
        // SAFETY: the sixteen floats are borrowed, need not be aligned, and AVX-512F was detected.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: AVX-512F was detected.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }

    #[inline(always)]
    fn relu(self) -> Self {
        // SAFETY: AVX-512F was detected.
        unsafe { Self(_mm512_max_ps(self.0, _mm512_setzero_ps())) }
    }

    #[inline(always)]
    fn add_product_of_one(sum: f32, a: f32, b: f32) -> f32 {
        a.mul_add(b, sum)
    }
}
