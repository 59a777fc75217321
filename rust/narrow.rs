//! A narrow MLP on a grid: what depends on a cell's column alone is computed once, and each row at a stroke.

use crate::ceiling::{Ceiling, Range};
use crate::columns::{Columns, Network, TILE_ROWS, Tile, chains, score, tiles};
use crate::grid::{Grid, Half};
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

/// An MLP with at most one hidden layer, prepared for the rows of a grid.
#[derive(Debug, Clone)]
pub(crate) struct Narrow<'a> {
    mlp: &'a Mlp,
    grid: &'a Grid,
    /// The features of the column half, one column each, and their ranges.
    features: Vec<Vec<Tile>>,
    feature_ranges: Vec<Range>,
    /// The inputs that are not part of the prepared chains.
    inputs: Vec<Input>,
    network: Network,
    ceiling: Ceiling,
}

impl<'a> Narrow<'a> {
    /// Prepares an MLP; none if it has more than one hidden layer.
    pub fn new(mlp: &'a Mlp, grid: &'a Grid) -> Option<Self> {
        let weights = mlp.weights();
        let (first, output) = match &weights.layers[..] {
            [output] => (output, None),
            [hidden, output] => (hidden, Some((output.weight.clone(), output.bias[0]))),
            _ => return None,
        };
        let features = features_of(grid);
        let mut known = inputs_of(weights, grid);
        let is_known = |input: &Input| !input.factors.iter().any(|factor| matches!(factor, Factor::OfRow(_)));
        let n_known = known.iter().take_while(|input| is_known(input)).count();
        let inputs = known.split_off(n_known);
        let n_tiles = grid.columns().len().div_ceil(TILE_ROWS);
        let mut columns = columns_of(&known, n_tiles);
        for (index, input) in known.iter().enumerate() {
            input.update(index, &features, &[], &mut columns);
        }
        let n_inputs = n_known + inputs.len();
        let network = Network {
            starts: starts_of(mlp, first, n_inputs, &columns, n_tiles),
            weights: first.weight.chunks(n_inputs).flat_map(|unit| unit[n_known..].to_vec()).collect(),
            output,
            scale: weights.output_std,
            shift: weights.output_mean,
        };
        let n_columns = grid.columns().len();
        let feature_ranges = features.iter().map(|tiles| range_of(tiles.iter(), n_columns)).collect();
        let n_units = first.bias.len();
        let of_unit = |unit| network.starts.iter().skip(unit).step_by(n_units);
        let starts: Vec<Range> = (0..n_units).map(|unit| range_of(of_unit(unit), n_columns)).collect();
        let ceiling = Ceiling::new(&network, &starts);
        Some(Self { mlp, grid, features, feature_ranges, inputs, network, ceiling })
    }

    /// Makes the buffer that [`Self::score_row`] keeps from row to row.
    pub fn columns(&self) -> Columns {
        columns_of(&self.inputs, self.grid.columns().len().div_ceil(TILE_ROWS))
    }

    /// A number that no score of a row exceeds.
    pub fn ceiling(&self, row: usize) -> f64 {
        let features = self.grid.rows().features(row);
        let inputs: Vec<Range> =
            self.inputs.iter().map(|input| input.range(&self.feature_ranges, features)).collect();
        self.ceiling.of(&inputs)
    }

    /// Scores the cells of one row, `(n_columns,)`.
    pub fn score_row(&self, row: usize, columns: &mut Columns, out: &mut [f32]) {
        let row_features = self.grid.rows().features(row);
        for (index, input) in self.inputs.iter().enumerate() {
            input.update(index, &self.features, row_features, columns);
        }
        score(self.mlp.kernel(), &self.network, columns, out);
    }
}

impl Input {
    /// Whether the input changes from column to column.
    fn varies(&self) -> bool {
        self.factors.iter().any(|factor| matches!(factor, Factor::OfColumn(_)))
    }

    /// The range of the input on a row. Products and normalisation are monotone in each factor, also when rounded,
    /// so the extremes are at the extremes of the factors.
    #[expect(clippy::cast_possible_truncation, reason = "extremes of float32 numbers")]
    fn range(&self, ranges: &[Range], row_features: &[f32]) -> Range {
        let ends = self.factors.map(|factor| match factor {
            Factor::One => [1.0; 2],
            Factor::OfRow(member) => [row_features[member]; 2],
            Factor::OfColumn(member) => [ranges[member].low as f32, ranges[member].high as f32],
        });
        if !self.varies() {
            return Range::of(std::iter::once((ends[0][0] * ends[1][0] - self.mean) / self.std));
        }
        let corners = ends[0].into_iter().flat_map(|first| ends[1].map(|second| first * second));
        Range::of(corners.map(|value| (value - self.mean) / self.std))
    }

    /// Computes the input's column from the features of the column half and of one row.
    fn update(&self, index: usize, features: &[Vec<Tile>], row_features: &[f32], columns: &mut Columns) {
        let scalar =
            |factor: Factor| if let Factor::OfRow(member) = factor { row_features[member] } else { 1.0 };
        let constant = scalar(self.factors[0]) * scalar(self.factors[1]);
        let normalize = |value: f32| (value - self.mean) / self.std;
        match self.factors {
            [Factor::OfColumn(first), Factor::OfColumn(second)] => {
                let pairs = features[first].iter().zip(&features[second]);
                columns.update(index, constant, pairs.map(|(a, b)| zip_map(a, b, |a, b| normalize(a * b))));
            }
            [Factor::OfColumn(member), _] | [_, Factor::OfColumn(member)] => {
                let tiles = features[member].iter();
                columns.update(
                    index,
                    constant,
                    tiles.map(|tile| map(tile, |value| normalize(value * constant))),
                );
            }
            _ => {
                let tile = map(&Tile::default(), |_| normalize(constant));
                columns.update(index, constant, std::iter::once(tile));
            }
        }
    }
}

fn columns_of(inputs: &[Input], n_tiles: usize) -> Columns {
    Columns::new(inputs.iter().map(Input::varies), n_tiles)
}

/// The range of the first numbers of a column.
fn range_of<'a>(tiles: impl Iterator<Item = &'a Tile>, n: usize) -> Range {
    Range::of(tiles.flat_map(|tile| tile.as_flattened().iter().copied()).take(n))
}

fn map(tile: &Tile, of: impl Fn(f32) -> f32) -> Tile {
    tile.map(|lanes| lanes.map(&of))
}

fn zip_map(first: &Tile, second: &Tile, of: impl Fn(f32, f32) -> f32) -> Tile {
    std::array::from_fn(|at| std::array::from_fn(|lane| of(first[at][lane], second[at][lane])))
}

/// The features of the column half, one column each.
fn features_of(grid: &Grid) -> Vec<Vec<Tile>> {
    let half = grid.columns();
    let column =
        |member| -> Vec<f32> { (0..half.len()).map(|vector| half.features(vector)[member]).collect() };
    (0..half.members().len()).map(|member| tiles(&column(member)).collect()).collect()
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

/// For each tile and each output of a layer, the chain over its bias and the inputs that are known.
fn starts_of(mlp: &Mlp, layer: &Layer, n_inputs: usize, known: &Columns, n_tiles: usize) -> Vec<Tile> {
    let n_units = layer.bias.len();
    let mut starts = vec![Tile::default(); n_tiles * n_units];
    let mut chain = vec![Tile::default(); n_tiles];
    for (unit, (weights, &bias)) in layer.weight.chunks(n_inputs).zip(&layer.bias).enumerate() {
        chains(mlp.kernel(), bias, weights, known, &mut chain);
        for (start, &tile) in starts.iter_mut().skip(unit).step_by(n_units).zip(&chain) {
            *start = tile;
        }
    }
    starts
}
