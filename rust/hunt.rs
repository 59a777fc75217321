//! The best cells and the front without scoring every cell: rows are scored in the order of what they cannot
//! exceed, until what is left can neither be among the best nor on the front.

use crate::error::{Result, expect_size};
use crate::exact::Exact;
use crate::measures::{Bounds, Floor, Measures};
use crate::sweep::Sweep;

/// Rows that are scored first; later as many at a time as half of those scored before.
const FIRST_ROWS: usize = 128;

/// A row that may hold a feasible cell.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    row: usize,
    floor: Floor,
    /// What no score of the row exceeds.
    ceiling: f64,
}

/// A hunt for the `n` best feasible cells and the front.
#[derive(Debug, Clone)]
pub struct Hunt<'a> {
    measures: &'a Measures<'a>,
    sweep: &'a Sweep<'a>,
    bounds: Bounds,
    n: usize,
    /// Rows that may still matter, those of the largest ceilings first.
    pending: Vec<Candidate>,
    scored: Vec<Candidate>,
}

impl<'a> Hunt<'a> {
    /// Finds what each row cannot exceed.
    #[must_use]
    pub fn new(measures: &'a Measures<'a>, sweep: &'a Sweep<'a>, bounds: Bounds, n: usize) -> Self {
        let rows = (0..measures.grid().rows().len()).map(|row| (row, measures.floor(row)));
        let feasible = rows.filter(|(_, floor)| floor.may_keep(&bounds));
        let candidate = |(row, floor)| Candidate { row, floor, ceiling: sweep.ceiling(row) };
        let mut pending: Vec<Candidate> = feasible.map(candidate).collect();
        pending.sort_unstable_by(|a, b| b.ceiling.total_cmp(&a.ceiling).then(a.row.cmp(&b.row)));
        Self { measures, sweep, bounds, n, pending, scored: Vec::new() }
    }

    /// Scores some more rows into the scores of the whole grid, and marks them. False when nothing is left that may
    /// matter.
    ///
    /// # Errors
    /// When the arrays are not those of the grid, or a score is not finite.
    pub fn step(&mut self, scores: &mut [f32], is_scored: &mut [bool], n_threads: usize) -> Result<bool> {
        let n_rows = self.measures.grid().rows().len();
        expect_size("marks of a grid's rows", n_rows, is_scored.len())?;
        expect_size("scores of a grid", self.measures.grid().len(), scores.len())?;
        let n_next = FIRST_ROWS.max(self.scored.len() / 2).min(self.pending.len());
        if n_next == 0 {
            return Ok(false);
        }
        let mut wanted = vec![false; n_rows];
        for candidate in &self.pending[..n_next] {
            wanted[candidate.row] = true;
        }
        self.sweep.fill(0, &wanted, scores, n_threads)?;
        for (mark, is_wanted) in is_scored.iter_mut().zip(&wanted) {
            *mark |= is_wanted;
        }
        self.scored.extend(self.pending.drain(..n_next));
        self.drop_hopeless(scores);
        Ok(!self.pending.is_empty())
    }

    /// Drops the rows that can hold neither one of the best nor a point of the front.
    fn drop_hopeless(&mut self, scores: &[f32]) {
        let rows = self.scored.iter().map(|candidate| (candidate.row, candidate.floor));
        let exact = Exact::of_rows(self.measures, scores, self.bounds, rows);
        let best = exact.best(self.n);
        let weakest = best.last().filter(|_| best.len() == self.n);
        let least = weakest.map_or(f64::NEG_INFINITY, |&cell| f64::from(scores[cell]));
        let front = exact.staircase();
        self.pending.retain(|candidate| {
            let on_front = front.score_at(candidate.floor.expense());
            let is_hopeless = candidate.ceiling < least && candidate.ceiling < on_front;
            !is_hopeless
        });
    }
}
