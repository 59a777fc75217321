//! The best cells and the front without scoring every cell: rows are scored in the order of what they cannot
//! exceed, until what is left can neither be among the best nor on the front.

use crate::error::{Result, expect_size};
use crate::exact::Exact;
use crate::front::Staircase;
use crate::measures::{Bounds, Floor, Measures};
use crate::sweep::Sweep;

/// Rows that are scored at a time, at least; or else this share of those scored before.
const LEAST_ROWS: usize = 128;
const SHARE: usize = 4;

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
    n_scored: usize,
    /// The best scores, up to `n`, best first.
    best: Vec<f32>,
    front: Staircase,
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
        let (best, front) = (Vec::new(), Staircase::default());
        Self { measures, sweep, bounds, n, pending, n_scored: 0, best, front }
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
        let n_next = LEAST_ROWS.max(self.n_scored / SHARE).min(self.pending.len());
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
        self.n_scored += n_next;
        let rows: Vec<Candidate> = self.pending.drain(..n_next).collect();
        self.learn(&rows, scores);
        self.drop_hopeless();
        Ok(!self.pending.is_empty())
    }

    /// Takes rows that were just scored into account.
    fn learn(&mut self, rows: &[Candidate], scores: &[f32]) {
        let rows = rows.iter().map(|candidate| (candidate.row, candidate.floor));
        let exact = Exact::of_rows(self.measures, scores, self.bounds, rows);
        let best = exact.best_from(self.least(), self.n);
        self.best.extend(best.into_iter().map(|cell| scores[cell]));
        self.best.sort_unstable_by(|a, b| b.total_cmp(a));
        self.best.truncate(self.n);
        exact.extend_front(&mut self.front);
    }

    /// What the weakest of the `n` best scores so far; nothing less can be among them.
    fn least(&self) -> f32 {
        let weakest = self.best.last().filter(|_| self.best.len() == self.n);
        weakest.copied().unwrap_or(f32::NEG_INFINITY)
    }

    /// Drops the rows that can hold neither one of the best nor a point of the front.
    fn drop_hopeless(&mut self) {
        let (least, front) = (f64::from(self.least()), &self.front);
        self.pending.retain(|candidate| {
            let is_hopeless =
                candidate.ceiling < least && candidate.ceiling < front.score_at(candidate.floor.expense());
            !is_hopeless
        });
    }
}
