//! Dense layers, one source for every instruction set.
//!
//! The bodies below are generic over [`Register`], which holds [`LANES`] floats in registers of one instruction
//! set. Each instruction set is one `#[target_feature]` function around the same bodies, chosen at run time, so
//! a portable build is as fast as a native one. Every output is one chain of multiply-adds over the inputs in
//! order: its value depends neither on the batch around it nor on the width of the registers, only on whether
//! multiply-adds are fused.

#![allow(unsafe_code, reason = "calls into functions compiled for an instruction set that was detected")]
#![expect(clippy::inline_always, reason = "bodies must be compiled inside each instruction set's function")]

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::register::{Avx2, Avx512};
use crate::register::{Plain, Register};

pub use crate::register::{LANES, Lanes};

/// Rows of a tile: with two AVX2 registers per row, 12 of 16 registers hold sums.
const TILE_ROWS: usize = 6;

/// Inputs of a single row that are added together, so that sums are loaded and stored less often.
const ROW_INPUTS: usize = 8;

/// Weights of a dense layer, in panels of [`LANES`] outputs, each panel input by input.
#[derive(Debug, Clone)]
pub struct Panels {
    n_inputs: usize,
    weights: Vec<Lanes>,
    /// The same weights input by input, for single rows.
    by_input: Vec<Lanes>,
    biases: Vec<Lanes>,
}

impl Panels {
    /// Packs weights `(n_outputs, n_inputs)` row by row, and biases `(n_outputs,)`; pads with zeros.
    #[must_use]
    pub fn pack(weights: &[f32], biases: &[f32], n_inputs: usize) -> Self {
        let n_panels = biases.len().div_ceil(LANES);
        let mut packed = vec![[0.0; LANES]; n_panels * n_inputs];
        let mut padded = vec![[0.0; LANES]; n_panels];
        for (output, (row, &bias)) in weights.chunks_exact(n_inputs).zip(biases).enumerate() {
            let (panel, lane) = (output / LANES, output % LANES);
            padded[panel][lane] = bias;
            for (input, &weight) in row.iter().enumerate() {
                packed[panel * n_inputs + input][lane] = weight;
            }
        }
        let by_input =
            (0..n_inputs).flat_map(|input| packed.iter().skip(input).step_by(n_inputs).copied()).collect();
        Self { n_inputs, weights: packed, by_input, biases: padded }
    }

    /// The number of outputs, padding included.
    #[must_use]
    pub fn n_padded(&self) -> usize {
        self.biases.len() * LANES
    }

    fn panel(&self, index: usize) -> &[Lanes] {
        &self.weights[index * self.n_inputs..(index + 1) * self.n_inputs]
    }
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

    /// Computes `relu(x W^T + b)` for rows `x` of `stride` floats, into rows of `panels.n_padded()` floats.
    ///
    /// `stride` may exceed the number of inputs; what lies beyond them is not read. The weights must be
    /// finite, since inputs of 0 may be skipped.
    ///
    /// # Panics
    /// When the slices do not have the same number of rows, or rows are narrower than the inputs.
    pub fn dense_relu(self, panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
        assert!(panels.n_inputs <= stride, "rows are as wide as the layer's inputs");
        assert_eq!(x.len() / stride, out.len() / panels.n_padded(), "as many rows come out as go in");
        match self.0 {
            InstructionSet::Plain => dense_body::<Plain>(panels, x, stride, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX2 and FMA were detected.
            InstructionSet::Avx2 => unsafe { dense_avx2(panels, x, stride, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX-512F, AVX2 and FMA were detected.
            InstructionSet::Avx512 => unsafe { dense_avx512(panels, x, stride, out) },
        }
    }

    /// Computes `x w + b` for rows `x` of `stride` floats, one number per row.
    ///
    /// # Panics
    /// When rows are narrower than the weights.
    pub fn dot(self, weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
        assert!(weights.len() <= stride, "rows are as wide as the weights");
        match self.0 {
            InstructionSet::Plain => dot_body::<Plain>(weights, bias, x, stride, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX2 and FMA were detected.
            InstructionSet::Avx2 => unsafe { dot_avx2(weights, bias, x, stride, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this variant only where AVX-512F, AVX2 and FMA were detected.
            InstructionSet::Avx512 => unsafe { dot_avx512(weights, bias, x, stride, out) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dense_avx2(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    dense_body::<Avx2>(panels, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn dense_avx512(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    dense_body::<Avx512>(panels, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    dot_body::<Avx2>(weights, bias, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn dot_avx512(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    dot_body::<Avx512>(weights, bias, x, stride, out);
}

#[inline(always)]
fn dense_body<R: Register>(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    let width = panels.n_padded();
    let n_tiled = x.len() / stride / TILE_ROWS * TILE_ROWS;
    let (tiled_in, rest_in) = x.split_at(n_tiled * stride);
    let (tiled_out, rest_out) = out.split_at_mut(n_tiled * width);
    tiles_body::<R, TILE_ROWS>(panels, tiled_in, stride, tiled_out);
    match rest_in.len() / stride {
        0 => {}
        1 => row_body::<R>(panels, rest_in, rest_out),
        2 => tiles_body::<R, 2>(panels, rest_in, stride, rest_out),
        3 => tiles_body::<R, 3>(panels, rest_in, stride, rest_out),
        4 => tiles_body::<R, 4>(panels, rest_in, stride, rest_out),
        _ => tiles_body::<R, 5>(panels, rest_in, stride, rest_out),
    }
}

/// All rows, in tiles. A panel stays in the first-level cache while all tiles pass it.
#[inline(always)]
fn tiles_body<R: Register, const ROWS: usize>(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    let width = panels.n_padded();
    for panel in 0..panels.biases.len() {
        let outputs = out.chunks_exact_mut(ROWS * width);
        for (tile_in, tile_out) in x.chunks_exact(ROWS * stride).zip(outputs) {
            let sums = tile_body::<R, ROWS>(panels, panel, tile_in, stride);
            for (row, sum) in tile_out.chunks_exact_mut(width).zip(sums) {
                if let Some(lanes) = row[panel * LANES..].first_chunk_mut() {
                    sum.relu().store(lanes);
                }
            }
        }
    }
}

/// One panel of outputs for a tile of rows: the sums stay in registers.
#[inline(always)]
fn tile_body<R: Register, const ROWS: usize>(
    panels: &Panels,
    panel: usize,
    x: &[f32],
    stride: usize,
) -> [R; ROWS] {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * stride..][..panels.n_inputs]);
    let mut sums = [R::load(&panels.biases[panel]); ROWS];
    for (input, weights) in panels.panel(panel).iter().enumerate() {
        let weights = R::load(weights);
        for (row, sum) in rows.iter().zip(&mut sums) {
            *sum = sum.add_product(R::splat(row[input]), weights);
        }
    }
    sums
}

/// All outputs of one row, a few inputs at a time.
///
/// One row is bound by reading the weights, so those of inputs that are 0 (half of them, after a ReLU) are
/// not read, and the others are read in order.
#[inline(always)]
fn row_body<R: Register>(panels: &Panels, x: &[f32], out: &mut [f32]) {
    let nonzero: Vec<usize> = (0..panels.n_inputs).filter(|&input| x[input] != 0.0).collect();
    let (sums, _) = out.as_chunks_mut::<LANES>();
    sums.copy_from_slice(&panels.biases);
    let (groups, rest) = nonzero.as_chunks::<ROW_INPUTS>();
    for group in groups {
        inputs_body::<R, ROW_INPUTS>(panels, x, group, sums);
    }
    for &input in rest {
        inputs_body::<R, 1>(panels, x, &[input], sums);
    }
    for sum in sums {
        R::load(sum).relu().store(sum);
    }
}

/// Adds the products of `N` inputs to all sums of a row.
#[inline(always)]
fn inputs_body<R: Register, const N: usize>(
    panels: &Panels,
    x: &[f32],
    inputs: &[usize; N],
    sums: &mut [Lanes],
) {
    let n_panels = sums.len();
    let rows: [&[Lanes]; N] = inputs.map(|input| &panels.by_input[input * n_panels..][..n_panels]);
    let values = inputs.map(|input| R::splat(x[input]));
    for (panel, lanes) in sums.iter_mut().enumerate() {
        let mut sum = R::load(lanes);
        for (row, &value) in rows.iter().zip(&values) {
            sum = sum.add_product(value, R::load(&row[panel]));
        }
        sum.store(lanes);
    }
}

#[inline(always)]
fn dot_body<R: Register>(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    let (whole, rest) = weights.as_chunks::<LANES>();
    let rest_weights = padded(rest);
    for (row, out) in x.chunks_exact(stride).zip(out) {
        let (row, row_rest) = row[..weights.len()].as_chunks::<LANES>();
        let mut sum = R::splat(0.0);
        for (weights, values) in whole.iter().zip(row) {
            sum = sum.add_product(R::load(values), R::load(weights));
        }
        sum = sum.add_product(R::load(&padded(row_rest)), R::load(&rest_weights));
        let mut lanes = [0.0; LANES];
        sum.store(&mut lanes);
        *out = bias + pairwise(lanes);
    }
}

/// Copies less than a register's floats, zeros after them.
#[inline(always)]
fn padded(values: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// Adds lanes in a fixed tree, the same for every register width.
#[inline(always)]
fn pairwise(mut sums: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}
