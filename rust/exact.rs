//! Exact answers about all cells of a grid: the optimum, what ties with it, and the fronts.
//!
//! Rows whose best score and smallest measures cannot matter are skipped; what is skipped is proven not to matter,
//! because no cell of a row exceeds its limits.

#![expect(clippy::float_cmp, reason = "ties are equal to the bit")]

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashSet};

use crate::error::{Result, expect_size};
use crate::front::{Point, Staircase, Step, nondominated};
use crate::measures::{Bounds, Cell, Floor, Measures, extreme};

/// Questions about the cells that keep some bounds.
#[derive(Debug, Clone)]
pub struct Exact<'a> {
    measures: &'a Measures<'a>,
    scores: &'a [f32],
    bounds: Bounds,
    /// The rows that may hold a feasible cell, those of the best scores first.
    rows: Vec<Limits>,
}

/// The largest score and the smallest measures in a row; no cell need have all of them.
#[derive(Debug, Clone, Copy)]
struct Limits {
    row: usize,
    score: f32,
    floor: Floor,
}

/// Points that are gathered before those that others beat are dropped.
const PART: usize = 1 << 17;

/// How many feature vectors share the best score, and how many architectures have one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ties {
    /// Feature vectors.
    pub n_vectors: u64,
    /// Architectures.
    pub n_architectures: u128,
}

/// A cell in the order of preference: by score, then by its expense, then by its number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    score: f32,
    expense: f64,
    index: usize,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.expense.total_cmp(&self.expense)).then(other.index.cmp(&self.index))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Exact<'a> {
    /// Prepares to answer questions about the cells of those rows that were scored, under some bounds.
    ///
    /// # Errors
    /// When there is not one score per cell, or one mark per row.
    pub fn new(
        measures: &'a Measures<'a>,
        scores: &'a [f32],
        is_scored: &[bool],
        bounds: Bounds,
    ) -> Result<Self> {
        expect_size("scores of a grid", measures.grid().len(), scores.len())?;
        expect_size("marks of a grid's rows", measures.grid().rows().len(), is_scored.len())?;
        let marked = is_scored.iter().enumerate().filter(|&(_, &is_scored)| is_scored);
        let rows = marked.map(|(row, _)| (row, measures.floor(row)));
        Ok(Self::of_rows(measures, scores, bounds, rows.filter(|(_, floor)| floor.may_keep(&bounds))))
    }

    /// The same for given rows and their floors.
    pub(crate) fn of_rows(
        measures: &'a Measures<'a>,
        scores: &'a [f32],
        bounds: Bounds,
        rows: impl Iterator<Item = (usize, Floor)>,
    ) -> Self {
        let best_of = |row| extreme(measures.grid().row_of(scores, row), f32::NEG_INFINITY, f32::max);
        let mut rows: Vec<Limits> =
            rows.map(|(row, floor)| Limits { row, score: best_of(row), floor }).collect();
        rows.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        Self { measures, scores, bounds, rows }
    }

    /// The `n` best feasible cells, best first; of equal scores those of the smallest expense.
    #[must_use]
    pub fn best(&self, n: usize) -> Vec<usize> {
        self.best_from(f32::NEG_INFINITY, n)
    }

    /// Those of the `n` best feasible cells that score at least `least`.
    pub(crate) fn best_from(&self, least: f32, n: usize) -> Vec<usize> {
        self.best_between(f64::NEG_INFINITY, f64::INFINITY, least, n)
    }

    /// How many feasible cells share the best score.
    #[must_use]
    pub fn ties(&self) -> Ties {
        let mut ties = Ties { n_vectors: 0, n_architectures: 0 };
        let Some(&best) = self.best(1).first() else { return ties };
        let score = self.scores[best];
        for cell in self.rows.iter().take_while(|row| row.score >= score).flat_map(|row| self.feasible(row)) {
            if self.scores[cell.index] == score {
                ties.n_vectors += 1;
                let more = self.measures.grid().n_architectures(cell.index);
                ties.n_architectures = ties.n_architectures.saturating_add(more);
            }
        }
        ties
    }

    /// The front of score against latency, or against FLOPs without a latency model: cells that no other beats,
    /// from the smallest measure to the largest.
    #[must_use]
    pub fn front(&self) -> Vec<usize> {
        self.staircase().into_steps().into_iter().map(|step| step.index).collect()
    }

    /// The front of score against latency and FLOPs, best score first.
    #[must_use]
    pub fn wide_front(&self) -> Vec<usize> {
        let point = |cell: Cell| Point {
            score: f64::from(self.scores[cell.index]) + 0.0,
            measures: [self.measures.expense(cell), self.measures.costs(cell)[0]],
            index: cell.index,
        };
        // The front of all is that of the fronts of parts, which take less memory.
        let mut points = Vec::new();
        let mut n_enough = PART;
        for row in &self.rows {
            points.extend(self.feasible(row).map(point));
            if points.len() >= n_enough {
                points = nondominated(points);
                n_enough = 2 * points.len() + PART;
            }
        }
        nondominated(points).into_iter().map(|point| point.index).collect()
    }

    /// At most `n` feasible cells along the front: its range of measures is cut into `n_slices` equal parts, of
    /// each of which the best are taken; what a part lacks is taken from the best of all.
    #[must_use]
    pub fn spread(&self, n: usize, n_slices: usize) -> Vec<usize> {
        let front = self.staircase().into_steps();
        let (Some(first), Some(last)) = (front.first(), front.last()) else { return Vec::new() };
        if first.measure == last.measure {
            return self.best(n);
        }
        let width = (last.measure - first.measure) / count(n_slices);
        let edge = |slice: usize| match slice {
            0 => f64::NEG_INFINITY,
            slice if slice == n_slices => f64::INFINITY,
            slice => first.measure + width * count(slice),
        };
        let mut spread = Vec::with_capacity(n);
        for slice in (0..n_slices).rev() {
            let n_of_slice = (n - spread.len()).div_ceil(slice + 1);
            spread.extend(self.best_between(edge(slice), edge(slice + 1), f32::NEG_INFINITY, n_of_slice));
        }
        let taken: HashSet<usize> = spread.iter().copied().collect();
        let others = self.best(n).into_iter().filter(|cell| !taken.contains(cell));
        spread.extend(others.take(n - taken.len()));
        spread
    }

    /// The `n` best feasible cells whose expense is above `low` and not above `high`, and whose score is at least
    /// `least`.
    fn best_between(&self, low: f64, high: f64, mut least: f32, n: usize) -> Vec<usize> {
        let mut best = BinaryHeap::with_capacity(n.min(self.measures.grid().len()) + 1);
        for row in &self.rows {
            if n == 0 || row.score < least {
                break;
            }
            if row.floor.expense() > high {
                continue;
            }
            for cell in self.promising(row, least) {
                let expense = self.measures.expense(cell);
                if expense <= low || expense > high {
                    continue;
                }
                // Zeros of either sign are equal.
                let score = self.scores[cell.index] + 0.0;
                best.push(Reverse(Ranked { score, expense, index: cell.index }));
                if best.len() > n {
                    best.pop();
                    least = best.peek().map_or(least, |Reverse(ranked)| ranked.score);
                }
            }
        }
        best.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked.index).collect()
    }

    fn staircase(&self) -> Staircase {
        let mut front = Staircase::default();
        self.extend_front(&mut front);
        front
    }

    /// Adds the cells to a front of others.
    pub(crate) fn extend_front(&self, front: &mut Staircase) {
        for row in &self.rows {
            // What no cell of the row can pass: the best so far at the row's smallest measure.
            let floor = front.score_at(row.floor.expense());
            if f64::from(row.score) < floor {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "a score, widened before")]
            for cell in self.promising(row, floor as f32) {
                let (measure, score) = (self.measures.expense(cell), f64::from(self.scores[cell.index]));
                front.insert(Step { measure, score, index: cell.index });
            }
        }
    }

    /// The feasible cells of a row.
    fn feasible(&self, row: &Limits) -> impl Iterator<Item = Cell> {
        self.promising(row, f32::NEG_INFINITY)
    }

    /// The feasible cells of a row that score at least `least`.
    fn promising(&self, row: &Limits, least: f32) -> impl Iterator<Item = Cell> {
        let cells = self.measures.cells(row.row).zip(self.measures.grid().row_of(self.scores, row.row));
        let promising = cells.filter(move |&(_, &score)| score >= least);
        promising.map(|(cell, _)| cell).filter(|&cell| self.measures.is_feasible(cell, &self.bounds))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn count(n: usize) -> f64 {
    n as f64
}
