//! An MLP's score for every cell of a grid.

use std::sync::{Mutex, PoisonError};

use crate::error::{Result, check_finite, expect_size};
use crate::grid::Grid;
use crate::mlp::Mlp;
use crate::narrow::Narrow;

/// Rows of a grid that a thread takes at a time.
const ROWS: usize = 32;

/// An MLP over the cells of a grid.
#[derive(Debug, Clone)]
pub struct Sweep<'a> {
    mlp: &'a Mlp,
    grid: &'a Grid,
    narrow: Option<Narrow<'a>>,
}

impl<'a> Sweep<'a> {
    /// Prepares an MLP that reads the averaged features.
    ///
    /// # Errors
    /// When it does not read as many features as the grid's space has hyperparameters.
    pub fn new(mlp: &'a Mlp, grid: &'a Grid) -> Result<Self> {
        expect_size("averaged features", grid.space().hyperparameters().len(), mlp.n_features())?;
        Ok(Self { mlp, grid, narrow: Narrow::new(mlp, grid) })
    }

    /// A number that no score of a row exceeds; infinite where none is known.
    #[must_use]
    pub fn ceiling(&self, row: usize) -> f64 {
        self.narrow.as_ref().map_or(f64::INFINITY, |narrow| narrow.ceiling(row))
    }

    /// Scores the rows `first..` of the grid, as many as `out` holds: `(n_rows, n_columns)` row by row.
    ///
    /// A score is to the bit that of [`Mlp::forward`]. Rows for which `wanted` is false are left as they are.
    ///
    /// # Errors
    /// When `out` is not whole rows of the grid, `wanted` has not one entry per row, or a score is not finite.
    pub fn fill(&self, first: usize, wanted: &[bool], out: &mut [f32], n_threads: usize) -> Result<()> {
        let width = self.grid.columns().len();
        expect_size("cells left over after whole rows", 0, out.len() % width)?;
        expect_size("rows wanted or not", out.len() / width, wanted.len())?;
        expect_size(
            "rows beyond the grid",
            0,
            (first + wanted.len()).saturating_sub(self.grid.rows().len()),
        )?;
        let shares = wanted.chunks(ROWS).zip(out.chunks_mut(ROWS * width));
        let queue = Mutex::new((first..).step_by(ROWS).zip(shares));
        let failure = Mutex::new(Ok(()));
        let work = || {
            while let Some((first, (wanted, out))) = next(&queue) {
                if let Err(error) = self.fill_share(first, wanted, out) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..n_threads.min(wanted.len().div_ceil(ROWS)) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill_share(&self, first: usize, wanted: &[bool], out: &mut [f32]) -> Result<()> {
        let width = self.grid.columns().len();
        let n_features = self.mlp.n_features();
        let mut features = vec![0.0; if self.narrow.is_some() { 0 } else { width * n_features }];
        let mut columns = self.narrow.as_ref().map(Narrow::columns);
        for ((row, &is_wanted), out) in (first..).zip(wanted).zip(out.chunks_exact_mut(width)) {
            if !is_wanted {
                continue;
            }
            if let (Some(narrow), Some(columns)) = (&self.narrow, &mut columns) {
                narrow.score_row(row, columns, out);
            } else {
                self.grid.write_features(row, &mut features);
                out.copy_from_slice(&self.mlp.forward(&features, 1)?);
            }
            if !are_finite(out) {
                let scores = out.iter().copied().map(f64::from);
                check_finite("score of a feature vector, column", scores)?;
            }
        }
        Ok(())
    }
}

/// Whether all numbers are finite, many of them looked at together: 0 times anything else is not 0.
fn are_finite(numbers: &[f32]) -> bool {
    let (chunks, rest) = numbers.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += number * 0.0;
        }
    }
    sums.iter().chain(rest).all(|number| number.is_finite())
}

/// Takes the next item of a queue that threads share.
fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}
