//! Dense layers on rows: the hidden layers, and the single output of the last.

#![expect(clippy::inline_always, reason = "bodies must be compiled inside each instruction set's function")]

use crate::kernel::{Body, Kernel, LANES, Lanes};
use crate::register::Register;

/// Rows of a tile: with two AVX2 registers per row, 12 of 16 registers hold sums.
const TILE_ROWS: usize = 6;

/// Inputs of a single row that are added together, so that sums are loaded and stored less often.
const ROW_INPUTS: usize = 8;

/// Rows whose output chains are computed side by side, so that none waits for the latency of a multiply-add.
const OUTPUT_ROWS: usize = 8;

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

/// Computes `relu(x W^T + b)` for rows `x` of `stride` floats, into rows of `panels.n_padded()` floats.
///
/// `stride` may exceed the number of inputs; what lies beyond them is not read. The weights must be finite, since
/// inputs of 0 may be skipped.
///
/// # Panics
/// When the slices do not have the same number of rows, or rows are narrower than the inputs.
pub fn relu_layer(kernel: Kernel, panels: &Panels, x: &[f32], stride: usize, out: &mut [f32]) {
    assert!(panels.n_inputs <= stride, "rows are as wide as the layer's inputs");
    assert_eq!(x.len() / stride, out.len() / panels.n_padded(), "as many rows come out as go in");
    kernel.run(ReluLayer { panels, x, stride, out });
}

/// Computes `x w + b` for rows `x` of `stride` floats, one number per row.
///
/// # Panics
/// When rows are narrower than the weights.
pub fn output(kernel: Kernel, weights: &[f32], bias: f32, x: &[f32], stride: usize, out: &mut [f32]) {
    assert!(weights.len() <= stride, "rows are as wide as the weights");
    kernel.run(Output { weights, bias, x, stride, out });
}

/// See [`relu_layer`].
struct ReluLayer<'a> {
    panels: &'a Panels,
    x: &'a [f32],
    stride: usize,
    out: &'a mut [f32],
}

impl Body for ReluLayer<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        dense_body::<R>(self.panels, self.x, self.stride, self.out);
    }
}

/// See [`output`].
struct Output<'a> {
    weights: &'a [f32],
    bias: f32,
    x: &'a [f32],
    stride: usize,
    out: &'a mut [f32],
}

impl Body for Output<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Self { weights, bias, x, stride, out } = self;
        let tiles = x.chunks_exact(OUTPUT_ROWS * stride).zip(out.chunks_exact_mut(OUTPUT_ROWS));
        for (x, out) in tiles {
            out.copy_from_slice(&chains_body::<R, OUTPUT_ROWS>(weights, bias, x, stride));
        }
        let n_tiled = out.len() / OUTPUT_ROWS * OUTPUT_ROWS;
        for (x, out) in x.chunks_exact(stride).zip(out).skip(n_tiled) {
            [*out] = chains_body::<R, 1>(weights, bias, x, stride);
        }
    }
}

/// One chain of multiply-adds for each of some rows.
#[inline(always)]
fn chains_body<R: Register, const ROWS: usize>(
    weights: &[f32],
    bias: f32,
    x: &[f32],
    stride: usize,
) -> [f32; ROWS] {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * stride..][..weights.len()]);
    let mut sums = [bias; ROWS];
    for (input, &weight) in weights.iter().enumerate() {
        for (row, sum) in rows.iter().zip(&mut sums) {
            *sum = R::add_product_of_one(*sum, row[input], weight);
        }
    }
    sums
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
