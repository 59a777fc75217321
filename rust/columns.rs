//! Networks with at most one hidden layer, evaluated column by column.
//!
//! Where [`dense`](crate::dense) keeps one row's numbers together, here one input's numbers are together: a *column*
//! is one input of many rows, in blocks of [`LANES`] rows. A narrow network needs no more than registers between
//! its inputs and its output then. Chains add in the same order as those of `dense`, so results are the same to
//! the bit.

#![expect(clippy::inline_always, reason = "bodies must be compiled inside each instruction set's function")]

use crate::kernel::{Body, Kernel, LANES, Lanes};
use crate::register::Register;

/// Blocks that are computed together.
const BLOCKS: usize = 2;
/// Hidden units that are computed together, so that inputs are loaded half as often.
const UNITS: usize = 2;

/// Cuts a column into blocks, zeros after its end.
#[must_use]
pub fn blocks(column: impl ExactSizeIterator<Item = f32>) -> Vec<Lanes> {
    let mut blocks = vec![[0.0; LANES]; column.len().div_ceil(LANES)];
    for (value, place) in column.zip(blocks.as_flattened_mut()) {
        *place = value;
    }
    blocks
}

/// Continues a chain for each row of a block: `out += sum_k weights[k] * columns[k]`.
///
/// `columns` holds `(n_weights, n_blocks)`, `out` the chains so far, `(n_blocks,)`.
///
/// # Panics
/// When there is not one column per weight.
pub fn add_products(kernel: Kernel, weights: &[f32], columns: &[Lanes], out: &mut [Lanes]) {
    assert_eq!(columns.len(), weights.len() * out.len(), "one column per weight");
    kernel.run(Products { weights, columns, out });
}

/// See [`add_products`].
struct Products<'a> {
    weights: &'a [f32],
    columns: &'a [Lanes],
    out: &'a mut [Lanes],
}

impl Body for Products<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let n_blocks = self.out.len();
        for (&weight, column) in self.weights.iter().zip(self.columns.chunks_exact(n_blocks.max(1))) {
            let weight = R::splat(weight);
            for (sum, values) in self.out.iter_mut().zip(column) {
                R::load(sum).add_product(R::load(values), weight).store(sum);
            }
        }
    }
}

/// A hidden layer whose first inputs are known in advance, and the output on top of it.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// For each unit the chain over its bias and first inputs, `(n_units, n_blocks)`.
    pub starts: Vec<Lanes>,
    /// The weights of the other inputs, `(n_units, n_columns)`.
    pub weights: Vec<f32>,
    /// The weights of the output, `(n_units,)`.
    pub output: Vec<f32>,
    /// The bias of the output.
    pub bias: f32,
}

/// Computes `relu(starts + columns W^T) w + b` for each row.
///
/// `columns` holds `(n_columns, n_blocks)`, `out` receives `(n_blocks,)`.
///
/// # Panics
/// When the sizes do not fit together.
pub fn score(kernel: Kernel, hidden: &Hidden, columns: &[Lanes], out: &mut [Lanes]) {
    let n_units = hidden.output.len();
    assert_eq!(hidden.starts.len(), n_units * out.len(), "one start per unit and block");
    assert_eq!(hidden.weights.len() * out.len(), n_units * columns.len(), "one column per weight");
    kernel.run(Score { hidden, columns, out });
}

/// See [`score`].
struct Score<'a> {
    hidden: &'a Hidden,
    columns: &'a [Lanes],
    out: &'a mut [Lanes],
}

impl Body for Score<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Self { hidden, columns, out } = self;
        let n_tiled = out.len() / BLOCKS * BLOCKS;
        let n_blocks = out.len();
        for first in (0..n_tiled).step_by(BLOCKS) {
            let sums = tile_body::<R, BLOCKS>(hidden, columns, n_blocks, first);
            for (sum, out) in sums.into_iter().zip(&mut out[first..]) {
                sum.store(out);
            }
        }
        for (block, out) in out.iter_mut().enumerate().skip(n_tiled) {
            let [sum] = tile_body::<R, 1>(hidden, columns, n_blocks, block);
            sum.store(out);
        }
    }
}

/// The scores of some blocks: hidden units never leave the registers.
#[inline(always)]
fn tile_body<R: Register, const N: usize>(
    hidden: &Hidden,
    columns: &[Lanes],
    n_blocks: usize,
    first: usize,
) -> [R; N] {
    let n_units = hidden.output.len();
    let n_paired = n_units / UNITS * UNITS;
    let mut sums = [R::splat(hidden.bias); N];
    for unit in (0..n_paired).step_by(UNITS) {
        add_units_body::<R, N, UNITS>(hidden, columns, n_blocks, first, unit, &mut sums);
    }
    for unit in n_paired..n_units {
        add_units_body::<R, N, 1>(hidden, columns, n_blocks, first, unit, &mut sums);
    }
    sums
}

/// Adds what some hidden units give to the scores of some blocks.
#[inline(always)]
fn add_units_body<R: Register, const N: usize, const M: usize>(
    hidden: &Hidden,
    columns: &[Lanes],
    n_blocks: usize,
    first: usize,
    unit: usize,
    sums: &mut [R; N],
) {
    let n_columns = hidden.weights.len() / hidden.output.len();
    let weights: [&[f32]; M] =
        std::array::from_fn(|m| &hidden.weights[(unit + m) * n_columns..][..n_columns]);
    let mut units: [[R; N]; M] = std::array::from_fn(|m| {
        let starts = &hidden.starts[(unit + m) * n_blocks + first..][..N];
        std::array::from_fn(|n| R::load(&starts[n]))
    });
    for (index, column) in columns.chunks_exact(n_blocks).enumerate() {
        let inputs: [R; N] = std::array::from_fn(|n| R::load(&column[first + n]));
        for (unit, weights) in units.iter_mut().zip(&weights) {
            let weight = R::splat(weights[index]);
            for (chain, &input) in unit.iter_mut().zip(&inputs) {
                *chain = chain.add_product(input, weight);
            }
        }
    }
    for (unit, &weight) in units.iter().zip(&hidden.output[unit..]) {
        let weight = R::splat(weight);
        for (sum, &chain) in sums.iter_mut().zip(unit) {
            *sum = sum.add_product(chain.relu(), weight);
        }
    }
}
