//! The boundary of [`crate::grid`], [`crate::sweep`] and [`crate::exact`].

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray1,
    PyReadwriteArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use super::{Mlp, ShapeError, Sizes, Space, flat, rows};
use crate::cost::CostModel;
use crate::error::Result;
use crate::exact::Exact;
use crate::grid;
use crate::hunt::Hunt;
use crate::measures::{Bounds, Measures};
use crate::sweep::Sweep;

/// Latencies `(n_rows, n_columns)` in ms, or none; and the task's sizes.
type MeasureArrays<'py> = (Option<PyReadonlyArray2<'py, f32>>, Sizes);

/// Scores `(n_rows, n_columns)`, and which rows were scored, `(n_rows,)`.
type ScoreArrays<'py> = (PyReadonlyArray2<'py, f32>, PyReadonlyArray1<'py, bool>);

/// Upper bounds of latency in ms, FLOPs / 1e9 and parameters / 1e6.
type BoundTuple = (f64, f64, f64);

fn bounds((latency_ms, gflops, params_m): BoundTuple) -> Bounds {
    Bounds { latency_ms, gflops, params_m }
}

fn cells<'py>(py: Python<'py>, cells: &[usize]) -> Bound<'py, PyArray1<u64>> {
    cells.iter().map(|&cell| cell as u64).collect::<Vec<_>>().into_pyarray(py)
}

#[pyclass(frozen, module = "llmpp._core")]
pub(super) struct Grid(grid::Grid);

impl Grid {
    /// Hands the measures of all cells to a task.
    fn measured<T>(
        &self,
        (latencies, sizes): &MeasureArrays<'_>,
        task: impl FnOnce(&Measures) -> PyResult<T>,
    ) -> PyResult<T> {
        let cost = CostModel::new(self.0.space(), sizes.0, sizes.1, sizes.2)?;
        let latencies =
            latencies.as_ref().map(|latencies| self.column(latencies, "latencies")).transpose()?;
        task(&Measures::new(&self.0, latencies, &cost)?)
    }

    /// Answers a question about what was scored, with the GIL released.
    fn exactly<T: Send>(
        &self,
        py: Python<'_>,
        known: &ScoreArrays<'_>,
        measures: &MeasureArrays<'_>,
        limits: BoundTuple,
        question: impl Send + FnOnce(&Exact) -> T,
    ) -> PyResult<T> {
        let (scores, is_scored) = (self.column(&known.0, "scores")?, known.1.as_slice()?);
        self.measured(measures, |measures| {
            let answer =
                || -> Result<T> { Ok(question(&Exact::new(measures, scores, is_scored, bounds(limits))?)) };
            Ok(py.detach(answer)?)
        })
    }

    /// Borrows one number per cell, `(n_rows, n_columns)`.
    fn column<'a>(&self, array: &'a PyReadonlyArray2<'_, f32>, what: &'static str) -> PyResult<&'a [f32]> {
        flat(array, what, self.0.columns().len())
    }

    /// Borrows some rows of one number per cell to write into.
    fn column_mut<'a>(&self, array: &'a mut PyReadwriteArray2<'_, f32>) -> PyResult<&'a mut [f32]> {
        let width = self.0.columns().len();
        if !array.is_c_contiguous() || array.shape()[1] != width {
            return Err(ShapeError::new_err(format!("expected whole rows of {width} numbers, C-contiguous")));
        }
        Ok(array.as_slice_mut()?)
    }

    fn checked(&self, numbers: &PyReadonlyArray1<'_, u64>) -> PyResult<Vec<usize>> {
        let numbers = numbers.as_slice()?;
        self.0.validate(numbers)?;
        Ok(numbers.iter().filter_map(|&number| usize::try_from(number).ok()).collect())
    }
}

#[pymethods]
impl Grid {
    #[new]
    fn new(py: Python<'_>, space: &Space, limit: u64) -> PyResult<Self> {
        Ok(Self(py.detach(|| grid::Grid::new(space.0.clone(), limit))?))
    }

    #[staticmethod]
    fn sizes(py: Python<'_>, space: &Space) -> PyResult<[u128; 2]> {
        Ok(py.detach(|| grid::Grid::sizes(&space.0))?)
    }

    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.0.rows().len(), self.0.columns().len())
    }

    fn genomes<'py>(
        &self,
        py: Python<'py>,
        numbers: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let genomes = self.checked(&numbers)?.into_iter().flat_map(|cell| self.0.genome(cell)).collect();
        rows(py, genomes, self.0.space().n_genes())
    }

    #[pyo3(signature = (mlp, first, wanted, out, *, n_threads=1))]
    fn sweep(
        &self,
        py: Python<'_>,
        mlp: &Mlp,
        first: usize,
        wanted: PyReadonlyArray1<'_, bool>,
        mut out: PyReadwriteArray2<'_, f32>,
        n_threads: usize,
    ) -> PyResult<()> {
        let (wanted, out) = (wanted.as_slice()?, self.column_mut(&mut out)?);
        let sweep = Sweep::new(&mlp.mlp, &self.0)?;
        Ok(py.detach(|| sweep.fill(first, wanted, out, n_threads))?)
    }

    fn rows_within<'py>(
        &self,
        py: Python<'py>,
        measures: MeasureArrays<'py>,
        limits: BoundTuple,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        self.measured(&measures, |measures| {
            Ok(py.detach(|| measures.rows_within(&bounds(limits))).into_pyarray(py))
        })
    }

    fn smallest(&self, py: Python<'_>, measures: MeasureArrays<'_>) -> PyResult<Vec<f64>> {
        self.measured(&measures, |measures| Ok(py.detach(|| measures.smallest())))
    }

    /// Scores the rows that may hold one of the `n` best or a point of the front, and marks them.
    #[expect(clippy::too_many_arguments, reason = "arrays by name")]
    #[pyo3(signature = (mlp, scores, is_scored, measures, limits, n, *, n_threads=1))]
    fn hunt(
        &self,
        py: Python<'_>,
        mlp: &Mlp,
        mut scores: PyReadwriteArray2<'_, f32>,
        mut is_scored: PyReadwriteArray1<'_, bool>,
        measures: MeasureArrays<'_>,
        limits: BoundTuple,
        n: usize,
        n_threads: usize,
    ) -> PyResult<()> {
        let sweep = Sweep::new(&mlp.mlp, &self.0)?;
        let (scores, is_scored) = (self.column_mut(&mut scores)?, is_scored.as_slice_mut()?);
        self.measured(&measures, |measures| {
            let mut hunt = py.detach(|| Hunt::new(measures, &sweep, bounds(limits), n));
            while py.detach(|| hunt.step(scores, is_scored, n_threads))? {
                py.check_signals()?;
            }
            Ok(())
        })
    }

    /// The best cells, the front, and how many vectors and architectures tie.
    #[expect(clippy::type_complexity, reason = "what Python unpacks")]
    fn optimum<'py>(
        &self,
        py: Python<'py>,
        known: ScoreArrays<'py>,
        measures: MeasureArrays<'py>,
        limits: BoundTuple,
        n: usize,
    ) -> PyResult<(Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>, u64, u128)> {
        let (best, front, ties) = self
            .exactly(py, &known, &measures, limits, |exact| (exact.best(n), exact.front(), exact.ties()))?;
        Ok((cells(py, &best), cells(py, &front), ties.n_vectors, ties.n_architectures))
    }

    fn wide_front<'py>(
        &self,
        py: Python<'py>,
        known: ScoreArrays<'py>,
        measures: MeasureArrays<'py>,
        limits: BoundTuple,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method fixes a lifetime")]
        let front = self.exactly(py, &known, &measures, limits, |exact| exact.wide_front())?;
        Ok(cells(py, &front))
    }

    fn spread<'py>(
        &self,
        py: Python<'py>,
        known: ScoreArrays<'py>,
        measures: MeasureArrays<'py>,
        limits: BoundTuple,
        n: usize,
        n_slices: usize,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let spread = self.exactly(py, &known, &measures, limits, |exact| exact.spread(n, n_slices))?;
        Ok(cells(py, &spread))
    }
}
