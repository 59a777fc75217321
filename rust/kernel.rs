//! One source for every instruction set, chosen at run time.
//!
//! A [`Body`] is a computation that is generic over [`Register`], which holds [`LANES`] floats in registers of one
//! instruction set. It is compiled once inside one `#[target_feature]` function per instruction set, so a portable
//! build is as fast as a native one. Every output of every body is one chain of multiply-adds over its inputs in
//! order: its value depends neither on what is computed beside it nor on the width of the registers, only on
//! whether multiply-adds are fused.

#![allow(unsafe_code, reason = "calls into functions compiled for an instruction set that was detected")]

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::register::{Avx2, Avx512};
use crate::register::{Plain, Register};

pub use crate::register::{LANES, Lanes};

/// A computation to be run on the registers of any instruction set.
pub(crate) trait Body {
    /// Runs it. Implementations are `#[inline(always)]`, so that they are compiled for the instruction set.
    fn run<R: Register>(self);
}

/// The instruction set that runs the bodies. Made only by detection, so holding one proves it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(InstructionSet);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstructionSet {
    /// What every processor of the architecture has. On 64-bit Arm this is NEON with fused multiply-adds.
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The kernels that this processor can run, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only x86-64 has more than one")]
        let mut kernels = vec![Self(InstructionSet::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if has_avx2 {
                kernels.push(Self(InstructionSet::Avx2));
            }
            if has_avx2 && is_x86_feature_detected!("avx512f") {
                kernels.push(Self(InstructionSet::Avx512));
            }
        }
        kernels
    }

    /// The fastest kernel that this processor can run, detected once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self(InstructionSet::Plain)))
    }

    /// The name of the instruction set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            InstructionSet::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => "avx512",
        }
    }

    /// Runs a body on this kernel's instruction set.
    pub(crate) fn run<B: Body>(self, body: B) {
        match self.0 {
            InstructionSet::Plain => body.run::<Plain>(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX2 and FMA were detected.
            InstructionSet::Avx2 => unsafe { run_avx2(body) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX-512F, AVX2 and FMA were detected.
            InstructionSet::Avx512 => unsafe { run_avx512(body) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<B: Body>(body: B) {
    body.run::<Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn run_avx512<B: Body>(body: B) {
    body.run::<Avx512>();
}
