//! A narrow MLP on a grid: what depends on a cell's column alone is computed once, and each row at a stroke.

use crate::columns::{Hidden, add_products, blocks, score};
use crate::grid::{Grid, Half};
use crate::kernel::{LANES, Lanes};
use crate::mlp::Mlp;
use crate::weights::{Layer, Weights};

/// A factor of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Factor {
    One,
    /// A member of the half that changes from column to column.
    OfColumn(usize),
    /// A member of the half that changes from row to row.
    OfRow(usize),
}

/// One input of the MLP: the product of two factors, normalised.
#[derive(Debug, Clone)]
struct Input {
    factors: [Factor; 2],
    mean: f32,
    std: f32,
}

/// What follows the inputs.
#[derive(Debug, Clone)]
enum Layers {
    /// The output alone: the chains over its bias and first inputs, and the weights of the others.
    Output { starts: Vec<Lanes>, weights: Vec<f32> },
    /// One hidden layer and the output.
    Hidden(Hidden),
}

/// An MLP with at most one hidden layer, prepared for the rows of a grid.
#[derive(Debug, Clone)]
pub(crate) struct Narrow<'a> {
    mlp: &'a Mlp,
    grid: &'a Grid,
    /// The features of the column half, one column each.
    columns: Vec<Vec<Lanes>>,
    /// The inputs that are not part of the prepared chains.
    inputs: Vec<Input>,
    layers: Layers,
}

impl<'a> Narrow<'a> {
    /// Prepares an MLP; none if it has more than one hidden layer.
    pub fn new(mlp: &'a Mlp, grid: &'a Grid) -> Option<Self> {
        let weights = mlp.weights();
        let columns: Vec<_> =
            (0..grid.columns().members().len()).map(|member| column(grid, member)).collect();
        let mut inputs = inputs_of(weights, grid);
        let is_known = |input: &Input| !input.factors.iter().any(|factor| matches!(factor, Factor::OfRow(_)));
        let n_known = inputs.iter().take_while(|input| is_known(input)).count();
        let rest = inputs.split_off(n_known);
        let n_blocks = grid.columns().len().div_ceil(LANES);
        let known = input_columns(&inputs, &columns, n_blocks, |_| 1.0);
        let starts = |layer: &Layer| starts_of(mlp, layer, &known, n_blocks);
        let later = |layer: &Layer| -> Vec<f32> {
            let n_inputs = n_known + rest.len();
            layer.weight.chunks_exact(n_inputs).flat_map(|weights| weights[n_known..].to_vec()).collect()
        };
        let layers = match &weights.layers[..] {
            [output] => Layers::Output { starts: starts(output), weights: later(output) },
            [hidden, output] => Layers::Hidden(Hidden {
                starts: starts(hidden),
                weights: later(hidden),
                output: output.weight.clone(),
                bias: output.bias[0],
            }),
            _ => return None,
        };
        Some(Self { mlp, grid, columns, inputs: rest, layers })
    }

    /// Scores the cells of one row, `(n_columns,)`.
    pub fn score_row(&self, row: usize, out: &mut [f32]) {
        let features = self.grid.rows().features(row);
        let n_blocks = out.len().div_ceil(LANES);
        let columns = input_columns(&self.inputs, &self.columns, n_blocks, |member| features[member]);
        let kernel = self.mlp.kernel();
        let mut sums = vec![[0.0; LANES]; n_blocks];
        match &self.layers {
            Layers::Output { starts, weights } => {
                sums.copy_from_slice(starts);
                add_products(kernel, weights, &columns, &mut sums);
            }
            Layers::Hidden(hidden) => score(kernel, hidden, &columns, &mut sums),
        }
        let Weights { output_std, output_mean, .. } = self.mlp.weights();
        for (out, &sum) in out.iter_mut().zip(sums.as_flattened()) {
            *out = sum * output_std + output_mean;
        }
    }
}

/// One feature of the column half, for all columns.
fn column(grid: &Grid, member: usize) -> Vec<Lanes> {
    let half = grid.columns();
    blocks((0..half.len()).map(|vector| half.features(vector)[member]))
}

fn inputs_of(weights: &Weights, grid: &Grid) -> Vec<Input> {
    let place = |half: &Half, feature: usize| half.members().iter().position(|&member| member == feature);
    let factor = |feature: usize| match (place(grid.columns(), feature), place(grid.rows(), feature)) {
        (Some(member), _) => Factor::OfColumn(member),
        (_, Some(member)) => Factor::OfRow(member),
        _ => Factor::One,
    };
    let moments = weights.input_mean.iter().zip(&weights.input_std);
    let input = |(index, (&mean, &std)): (usize, (&f32, &f32))| Input {
        factors: weights.factors(index).map(factor),
        mean,
        std,
    };
    moments.enumerate().map(input).collect()
}

/// The columns of some inputs, `(n_inputs, n_blocks)`, where `of_row` gives the features of the row half.
fn input_columns(
    inputs: &[Input],
    columns: &[Vec<Lanes>],
    n_blocks: usize,
    of_row: impl Fn(usize) -> f32,
) -> Vec<Lanes> {
    let mut all = Vec::with_capacity(inputs.len() * n_blocks);
    for Input { factors, mean, std } in inputs {
        let scalar = |factor: Factor| match factor {
            Factor::OfRow(member) => of_row(member),
            Factor::One | Factor::OfColumn(_) => 1.0,
        };
        let constant = scalar(factors[0]) * scalar(factors[1]);
        match factors.map(|factor| if let Factor::OfColumn(member) = factor { Some(member) } else { None }) {
            [None, None] => all.extend(std::iter::repeat_n([(constant - mean) / std; LANES], n_blocks)),
            [Some(member), None] | [None, Some(member)] => {
                let input = |value: f32| (value * constant - mean) / std;
                all.extend(columns[member].iter().map(|block| block.map(input)));
            }
            [Some(first), Some(second)] => {
                let input = |(a, b): (&Lanes, &Lanes)| -> Lanes {
                    std::array::from_fn(|lane| (a[lane] * b[lane] - mean) / std)
                };
                all.extend(columns[first].iter().zip(&columns[second]).map(input));
            }
        }
    }
    all
}

/// For each output of a layer the chain over its bias and the inputs that are known.
fn starts_of(mlp: &Mlp, layer: &Layer, known: &[Lanes], n_blocks: usize) -> Vec<Lanes> {
    let n_inputs = layer.weight.len() / layer.bias.len();
    let n_known = known.len() / n_blocks;
    let mut starts = Vec::with_capacity(layer.bias.len() * n_blocks);
    for (weights, &bias) in layer.weight.chunks_exact(n_inputs).zip(&layer.bias) {
        let mut chain = vec![[bias; LANES]; n_blocks];
        add_products(mlp.kernel(), &weights[..n_known], known, &mut chain);
        starts.extend(chain);
    }
    starts
}
