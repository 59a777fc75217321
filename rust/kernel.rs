//! Dense layers, one source for every instruction set.
//!
//! The bodies below are plain safe Rust on arrays of [`LANES`] floats, which the compiler turns into whole
//! vector registers. Each instruction set is one `#[target_feature]` function around the same bodies, chosen
//! at run time, so a portable build is as fast as a native one. Every output is one chain of multiply-adds
//! over the inputs in order: its value depends neither on the batch around it nor on the width of the
//! registers, only on whether multiply-adds are fused.

#![allow(unsafe_code, reason = "calls into functions compiled for an instruction set that was detected")]
#![expect(clippy::inline_always, reason = "bodies must be compiled inside each instruction set's function")]
#![allow(clippy::needless_range_loop, reason = "loops of fixed length over arrays become vector registers")]

use std::sync::OnceLock;

/// Outputs computed side by side: one AVX-512 register, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// A row of [`LANES`] weights, biases or sums.
pub type Lanes = [f32; LANES];

/// Rows of a tile: with two AVX2 registers per row, 12 of 16 registers hold sums.
const TILE_ROWS: usize = 6;

/// Weights of a dense layer, in panels of [`LANES`] outputs, each panel input by input.
#[derive(Debug, Clone)]
pub struct Panels {
    n_inputs: usize,
    weights: Vec<Lanes>,
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
        Self { n_inputs, weights: packed, biases: padded }
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

/// Whether the plain bodies may fuse: only where that is one instruction of the base architecture.
const PLAIN_FUSES: bool = cfg!(target_arch = "aarch64");

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
            InstructionSet::Plain => dense_body::<PLAIN_FUSES>(panels, x, stride, out),
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
            InstructionSet::Plain => dot_body::<PLAIN_FUSES>(weights, bias, x, stride, out),
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
    dense_body::<true>(panels, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn dense_avx512(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    dense_body::<true>(panels, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    dot_body::<true>(weights, bias, x, stride, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn dot_avx512(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    dot_body::<true>(weights, bias, x, stride, out);
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn dense_body<const FUSED: bool>(panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    let width = panels.n_padded();
    let n_tiled = x.len() / stride / TILE_ROWS * TILE_ROWS;
    let (tiled_in, rest_in) = x.split_at(n_tiled * stride);
    let (tiled_out, rest_out) = out.split_at_mut(n_tiled * width);
    // A panel stays in the first-level cache while all tiles pass it.
    for panel in 0..panels.biases.len() {
        let outputs = tiled_out.chunks_exact_mut(TILE_ROWS * width);
        for (tile_in, tile_out) in tiled_in.chunks_exact(TILE_ROWS * stride).zip(outputs) {
            tile_body::<FUSED>(panels, panel, tile_in, stride, tile_out);
        }
    }
    let mut nonzero = Vec::with_capacity(panels.n_inputs);
    for (row_in, row_out) in rest_in.chunks_exact(stride).zip(rest_out.chunks_exact_mut(width)) {
        nonzero.clear();
        nonzero.extend((0..panels.n_inputs).filter(|&input| row_in[input] != 0.0));
        row_body::<FUSED>(panels, row_in, &nonzero, row_out);
    }
}

/// One panel of outputs for [`TILE_ROWS`] rows: the sums stay in registers.
#[inline(always)]
fn tile_body<const FUSED: bool>(panels: &Panels, panel: usize, x: &[f32], stride: usize, out: &mut [f32]) {
    let rows: [&[f32]; TILE_ROWS] = std::array::from_fn(|row| &x[row * stride..][..panels.n_inputs]);
    let mut sums = [panels.biases[panel]; TILE_ROWS];
    for (input, weights) in panels.panel(panel).iter().enumerate() {
        for row in 0..TILE_ROWS {
            let value = rows[row][input];
            for lane in 0..LANES {
                sums[row][lane] = multiply_add::<FUSED>(value, weights[lane], sums[row][lane]);
            }
        }
    }
    let outs = rows_at(out, panel * LANES, panels.n_padded());
    for row in 0..TILE_ROWS {
        for lane in 0..LANES {
            outs[row][lane] = sums[row][lane].max(0.0);
        }
    }
}

/// Borrows [`LANES`] floats at `offset` of each row. Fixed sizes let the sums stay in registers.
#[inline(always)]
fn rows_at(out: &mut [f32], offset: usize, width: usize) -> [&mut Lanes; TILE_ROWS] {
    let mut rest = &mut out[offset..];
    std::array::from_fn(|row| {
        let step = if row + 1 == TILE_ROWS { LANES } else { width };
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(step);
        rest = tail;
        lanes_mut(head)
    })
}

#[inline(always)]
fn lanes_mut(slice: &mut [f32]) -> &mut Lanes {
    match slice.first_chunk_mut() {
        Some(lanes) => lanes,
        None => unreachable!("rows are whole panels wide"),
    }
}

/// All panels for one row, several at a time so that their sums do not wait for each other.
#[inline(always)]
fn row_body<const FUSED: bool>(panels: &Panels, x: &[f32], nonzero: &[usize], out: &mut [f32]) {
    let n_panels = panels.biases.len();
    let mut panel = 0;
    while panel < n_panels {
        let out = &mut out[panel * LANES..];
        panel += match n_panels - panel {
            1 => group_body::<FUSED, 1>(panels, panel, x, nonzero, out),
            2 => group_body::<FUSED, 2>(panels, panel, x, nonzero, out),
            3 => group_body::<FUSED, 3>(panels, panel, x, nonzero, out),
            4 => group_body::<FUSED, 4>(panels, panel, x, nonzero, out),
            _ => group_body::<FUSED, 5>(panels, panel, x, nonzero, out),
        };
    }
}

#[inline(always)]
fn group_body<const FUSED: bool, const N: usize>(
    panels: &Panels,
    first: usize,
    x: &[f32],
    nonzero: &[usize],
    out: &mut [f32],
) -> usize {
    let group: [&[Lanes]; N] = std::array::from_fn(|offset| panels.panel(first + offset));
    let mut sums: [Lanes; N] = std::array::from_fn(|offset| panels.biases[first + offset]);
    for &input in nonzero {
        let value = x[input];
        for panel in 0..N {
            for lane in 0..LANES {
                sums[panel][lane] =
                    multiply_add::<FUSED>(value, group[panel][input][lane], sums[panel][lane]);
            }
        }
    }
    let out = &mut out[..N * LANES];
    for panel in 0..N {
        for lane in 0..LANES {
            out[panel * LANES + lane] = sums[panel][lane].max(0.0);
        }
    }
    N
}

#[inline(always)]
fn dot_body<const FUSED: bool>(weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    let (whole, rest) = weights.as_chunks::<LANES>();
    for (row, out) in x.chunks_exact(stride).zip(out) {
        let (row, row_rest) = row[..weights.len()].as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (weights, values) in whole.iter().zip(row) {
            for ((sum, &weight), &value) in sums.iter_mut().zip(weights).zip(values) {
                *sum = multiply_add::<FUSED>(value, weight, *sum);
            }
        }
        for ((sum, &weight), &value) in sums.iter_mut().zip(rest).zip(row_rest) {
            *sum = multiply_add::<FUSED>(value, weight, *sum);
        }
        *out = bias + pairwise(sums);
    }
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
