//! What the cells of a grid take and cost, and upper bounds on it.

use crate::cost::{CostModel, Counts, Sizes};
use crate::error::{Result, expect_size};
use crate::grid::{Grid, Half};

/// Upper bounds, infinite where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Of the latency in ms.
    pub latency_ms: f64,
    /// Of the FLOPs / 1e9.
    pub gflops: f64,
    /// Of the parameters / 1e6.
    pub params_m: f64,
}

impl Bounds {
    /// No bound at all.
    pub const NONE: Self = Self { latency_ms: f64::INFINITY, gflops: f64::INFINITY, params_m: f64::INFINITY };
}

/// A cell with the numbers that are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub index: usize,
    pub row: usize,
    pub column: usize,
}

/// Latency in ms (where there is a model), FLOPs / 1e9 and parameters / 1e6 of every cell of a grid.
#[derive(Debug, Clone)]
pub struct Measures<'a> {
    grid: &'a Grid,
    latencies: Option<&'a [f32]>,
    cost: &'a CostModel,
    column_sizes: Vec<Sizes<f64>>,
    row_sizes: Vec<Sizes<f64>>,
    /// The smallest sizes of all columns.
    least_sizes: Sizes<f64>,
}

impl<'a> Measures<'a> {
    /// Joins the latencies of all cells, where there is a latency model, and their costs.
    ///
    /// # Errors
    /// When there is not one latency per cell.
    pub fn new(grid: &'a Grid, latencies: Option<&'a [f32]>, cost: &'a CostModel) -> Result<Self> {
        expect_size("latencies of a grid", grid.len(), latencies.map_or(grid.len(), <[f32]>::len))?;
        let column_sizes = sizes_of(grid.columns(), cost.roles());
        let row_sizes = sizes_of(grid.rows(), cost.roles());
        let least_sizes = column_sizes.iter().fold([f64::INFINITY; _], |least, sizes| {
            std::array::from_fn(|role| f64::min(least[role], sizes[role]))
        });
        Ok(Self { grid, latencies, cost, column_sizes, row_sizes, least_sizes })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        self.grid
    }

    /// For each row whether some cell of it may keep the bounds.
    #[must_use]
    pub fn rows_within(&self, bounds: &Bounds) -> Vec<bool> {
        (0..self.grid.rows().len()).map(|row| self.floor(row).may_keep(bounds)).collect()
    }

    /// The latency of a cell in ms, where it is known.
    pub(crate) fn latency(&self, index: usize) -> Option<f64> {
        self.latencies.map(|latencies| f64::from(latencies[index]))
    }

    /// FLOPs / 1e9 and parameters / 1e6 of a cell.
    pub(crate) fn costs(&self, cell: Cell) -> [f64; 2] {
        self.costs_of(&self.column_sizes[cell.column], &self.row_sizes[cell.row])
    }

    /// What is weighed against a cell's score: latency where it is known, else FLOPs / 1e9.
    pub(crate) fn expense(&self, cell: Cell) -> f64 {
        self.latency(cell.index).unwrap_or_else(|| self.costs(cell)[0])
    }

    /// The cells of one row.
    pub(crate) fn cells(&self, row: usize) -> impl Iterator<Item = Cell> {
        let width = self.grid.columns().len();
        (0..width).map(move |column| Cell { index: row * width + column, row, column })
    }

    /// Whether a cell keeps all bounds.
    pub(crate) fn is_feasible(&self, cell: Cell, bounds: &Bounds) -> bool {
        if self.latency(cell.index).is_some_and(|latency| latency > bounds.latency_ms) {
            return false;
        }
        if bounds.gflops == f64::INFINITY && bounds.params_m == f64::INFINITY {
            return true;
        }
        let [gflops, params_m] = self.costs(cell);
        gflops <= bounds.gflops && params_m <= bounds.params_m
    }

    /// What no cell of a row falls below.
    pub(crate) fn floor(&self, row: usize) -> Floor {
        let [gflops, params_m] = self.costs_of(&self.least_sizes, &self.row_sizes[row]);
        let latencies = self.latencies.map(|latencies| self.grid.row_of(latencies, row));
        let latency_ms = latencies.map(|latencies| f64::from(extreme(latencies, f32::INFINITY, f32::min)));
        Floor { latency_ms, gflops, params_m }
    }

    /// The smallest latency (where it is known), FLOPs / 1e9 and parameters / 1e6 of all cells.
    #[must_use]
    pub fn smallest(&self) -> Vec<f64> {
        let mut smallest = vec![f64::INFINITY; 2 + usize::from(self.latencies.is_some())];
        for floor in (0..self.grid.rows().len()).map(|row| self.floor(row)) {
            let measures = floor.latency_ms.into_iter().chain([floor.gflops, floor.params_m]);
            for (least, measure) in smallest.iter_mut().zip(measures) {
                *least = least.min(measure);
            }
        }
        smallest
    }

    fn costs_of(&self, column: &Sizes<f64>, row: &Sizes<f64>) -> [f64; 2] {
        let sizes = std::array::from_fn(|role| column[role] + row[role]);
        let Counts { body_macs, head_macs, params } = self.cost.counts(sizes);
        [2.0 * (body_macs + head_macs) / 1e9, params / 1e6]
    }
}

/// The smallest measures in a row; no cell need have all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    latency_ms: Option<f64>,
    gflops: f64,
    params_m: f64,
}

impl Floor {
    /// Whether some cell of the row may keep the bounds.
    pub fn may_keep(&self, bounds: &Bounds) -> bool {
        self.latency_ms.is_none_or(|latency| latency <= bounds.latency_ms)
            && self.gflops <= bounds.gflops
            && self.params_m <= bounds.params_m
    }

    /// The smallest [`Measures::expense`] that a cell of the row may have.
    pub fn expense(&self) -> f64 {
        self.latency_ms.unwrap_or(self.gflops)
    }
}

/// The extreme of some values, many compared at a time.
pub(crate) fn extreme(values: &[f32], start: f32, of: fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut extremes = [start; 16];
    for chunk in chunks {
        for (extreme, &value) in extremes.iter_mut().zip(chunk) {
            *extreme = of(*extreme, value);
        }
    }
    extremes.into_iter().chain(rest.iter().copied()).fold(start, of)
}

/// The sizes that enter costs, for each vector of a half; 0 for what the other half holds.
#[expect(clippy::cast_precision_loss, reason = "sums of at most 2^10 values below 2^32 are exact")]
fn sizes_of(half: &Half, roles: &[usize]) -> Vec<Sizes<f64>> {
    let sizes = |vector: usize| {
        std::array::from_fn(|role| {
            let member = half.members().iter().position(|&member| member == roles[role]);
            member.map_or(0.0, |member| half.totals(vector)[member] as f64)
        })
    };
    (0..half.len()).map(sizes).collect()
}
