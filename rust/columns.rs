//! Networks with at most one hidden layer, evaluated column by column.
//!
//! Where [`dense`](crate::dense) keeps one row's numbers together, here one input's numbers are together: a *column*
//! is one input of many rows, in tiles of [`TILE_ROWS`] rows. A narrow network needs no more than registers between
//! its inputs and its output then. Chains add in the same order as those of `dense`, so results are the same to
//! the bit.

#![expect(clippy::inline_always, reason = "bodies must be compiled inside each instruction set's function")]

use crate::kernel::{Body, Kernel, LANES, Lanes};
use crate::register::Register;

/// Lanes of a tile: with two AVX2 registers each, and two hidden units at a time, 8 of 16 registers hold chains.
const TILE_LANES: usize = 2;
/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = TILE_LANES * LANES;

/// Some rows' numbers of one column.
pub(crate) type Tile = [Lanes; TILE_LANES];

/// The inputs of some rows, one column each. A column is computed from a number that may change from use to use,
/// and only where that number did change.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    tiles: Vec<Tile>,
    places: Vec<Place>,
}

/// Where a column is.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    /// From tile to tile: 0 where all rows have the same number.
    step: usize,
    /// The bits of the number that the column was computed from.
    origin: Option<u32>,
}

impl Columns {
    /// Makes room for columns of `n_tiles` tiles; of those that do not vary from row to row, for one tile.
    pub fn new(do_vary: impl Iterator<Item = bool>, n_tiles: usize) -> Self {
        let mut columns = Self { tiles: Vec::new(), places: Vec::new() };
        for varies in do_vary {
            columns.places.push(Place {
                start: columns.tiles.len(),
                step: usize::from(varies),
                origin: None,
            });
            let n_more = if varies { n_tiles } else { 1 };
            columns.tiles.resize(columns.tiles.len() + n_more, Tile::default());
        }
        columns
    }

    /// Computes a column, tile by tile, unless it was computed from the same number before.
    pub fn update(&mut self, index: usize, origin: f32, tiles: impl Iterator<Item = Tile>) {
        let place = &mut self.places[index];
        if place.origin.replace(origin.to_bits()) != Some(origin.to_bits()) {
            for (old, new) in self.tiles[place.start..].iter_mut().zip(tiles) {
                *old = new;
            }
        }
    }

    /// The columns' numbers of one tile of rows.
    fn at(&self, tile: usize) -> impl Iterator<Item = &Tile> {
        self.places.iter().map(move |place| &self.tiles[place.start + tile * place.step])
    }
}

/// Cuts a column into tiles, zeros after its end.
pub(crate) fn tiles(column: &[f32]) -> impl Iterator<Item = Tile> {
    column.chunks(TILE_ROWS).map(|values| {
        let mut tile = [[0.0; LANES]; TILE_LANES];
        tile.as_flattened_mut()[..values.len()].copy_from_slice(values);
        tile
    })
}

/// Computes `bias + columns w` for some tiles of rows.
pub(crate) fn chains(kernel: Kernel, bias: f32, weights: &[f32], columns: &Columns, out: &mut [Tile]) {
    kernel.run(Chains { bias, weights, columns, out });
}

/// See [`chains`].
struct Chains<'a> {
    bias: f32,
    weights: &'a [f32],
    columns: &'a Columns,
    out: &'a mut [Tile],
}

impl Body for Chains<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        for (index, out) in self.out.iter_mut().enumerate() {
            let start = [[self.bias; LANES]; TILE_LANES];
            store_body(unit_body::<R>(&start, self.weights.iter().zip(self.columns.at(index))), out);
        }
    }
}

/// A network whose first inputs are known in advance.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// For each tile of rows and each unit of the first layer, the chain over its bias and known inputs.
    pub starts: Vec<Tile>,
    /// The weights of the other inputs, `(n_units, n_columns)`.
    pub weights: Vec<f32>,
    /// Weights `(n_units,)` and bias of the output on top of hidden units; none if the first layer is the output.
    pub output: Option<(Vec<f32>, f32)>,
    /// Multiplies the output.
    pub scale: f32,
    /// Added to the scaled output.
    pub shift: f32,
}

/// Computes a network's output for rows whose other inputs are `columns`.
pub(crate) fn score(kernel: Kernel, network: &Network, columns: &Columns, out: &mut [f32]) {
    kernel.run(Score { network, columns, out });
}

/// See [`score`].
struct Score<'a> {
    network: &'a Network,
    columns: &'a Columns,
    out: &'a mut [f32],
}

impl Body for Score<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Network { starts, weights, output, scale, shift } = self.network;
        let n_units = output.as_ref().map_or(1, |(weights, _)| weights.len());
        let mut inputs = Vec::with_capacity(self.columns.places.len());
        let tiles = starts.chunks_exact(n_units).zip(self.out.chunks_mut(TILE_ROWS));
        for (index, (starts, out)) in tiles.enumerate() {
            let sums = match output {
                None => unit_body::<R>(&starts[0], weights.iter().zip(self.columns.at(index))),
                Some((output, bias)) => {
                    inputs.clear();
                    inputs.extend(self.columns.at(index));
                    hidden_body::<R>(starts, weights, &inputs, output, *bias)
                }
            };
            let mut tile = [[0.0; LANES]; TILE_LANES];
            store_body(sums, &mut tile);
            for (out, sum) in out.iter_mut().zip(tile.as_flattened()) {
                *out = sum * scale + shift;
            }
        }
    }
}

/// A single unit.
#[inline(always)]
fn unit_body<'a, R: Register>(
    start: &Tile,
    terms: impl Iterator<Item = (&'a f32, &'a Tile)>,
) -> [R; TILE_LANES] {
    let mut chain = load_body(start);
    for (&weight, input) in terms {
        add_product_body(&mut chain, weight, &load_body(input));
    }
    chain
}

/// Hidden units, two at a time so that inputs are loaded half as often, and the output's chain over them. They
/// never leave the registers.
#[inline(always)]
fn hidden_body<R: Register>(
    starts: &[Tile],
    weights: &[f32],
    inputs: &[&Tile],
    output: &[f32],
    bias: f32,
) -> [R; TILE_LANES] {
    let n_inputs = inputs.len();
    let mut sums = [R::splat(bias); TILE_LANES];
    let (pairs, last_start) = starts.as_chunks::<2>();
    let (output_pairs, last_output) = output.as_chunks::<2>();
    for (index, (starts, output)) in pairs.iter().zip(output_pairs).enumerate() {
        let (first, second) = weights[2 * index * n_inputs..][..2 * n_inputs].split_at(n_inputs);
        let mut units: [[R; TILE_LANES]; 2] = [load_body(&starts[0]), load_body(&starts[1])];
        for ((input, first), second) in inputs.iter().zip(first).zip(second) {
            let input = load_body(input);
            add_product_body(&mut units[0], *first, &input);
            add_product_body(&mut units[1], *second, &input);
        }
        for (unit, &weight) in units.iter().zip(output) {
            add_product_body(&mut sums, weight, &unit.map(R::relu));
        }
    }
    if let ([start], [output]) = (last_start, last_output) {
        let weights = &weights[weights.len() - n_inputs..];
        let unit = unit_body::<R>(start, weights.iter().zip(inputs.iter().copied()));
        add_product_body(&mut sums, *output, &unit.map(R::relu));
    }
    sums
}

#[inline(always)]
fn add_product_body<R: Register>(chain: &mut [R; TILE_LANES], weight: f32, input: &[R; TILE_LANES]) {
    let weight = R::splat(weight);
    for (chain, &input) in chain.iter_mut().zip(input) {
        *chain = chain.add_product(input, weight);
    }
}

#[inline(always)]
fn load_body<R: Register>(tile: &Tile) -> [R; TILE_LANES] {
    [R::load(&tile[0]), R::load(&tile[1])]
}

#[inline(always)]
fn store_body<R: Register>(registers: [R; TILE_LANES], tile: &mut Tile) {
    for (register, lanes) in registers.into_iter().zip(tile) {
        register.store(lanes);
    }
}
