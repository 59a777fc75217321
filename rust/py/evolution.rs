//! The boundary of [`crate::evolution`] and [`crate::search`].

use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use super::{Mlp, ShapeError, Sizes, Space, flat, parse_encoding, rows};
use crate::cost::CostModel;
use crate::evolution::{self, Settings};
use crate::search::{Meter, Scorer, run};
use crate::space;

/// Genomes `(n, n_genes)`, measures `(n, n_bounds)`, scores, iterations and phases `(n,)`.
type ScoredArrays<'py> = (
    Bound<'py, PyArray2<u8>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
);

/// An MLP and the name of the encoding that it reads.
type EncodedMlp<'py> = (Bound<'py, Mlp>, String);

fn bind<'a>((mlp, encoding): &'a EncodedMlp<'_>, space: &space::Space) -> PyResult<Scorer<'a>> {
    Ok(Scorer::new(&mlp.get().mlp, parse_encoding(encoding)?, space)?)
}

#[pyclass(module = "llmpp._core")]
pub(super) struct Evolution(evolution::Evolution);

#[pymethods]
impl Evolution {
    #[new]
    #[pyo3(signature = (space, encoding, bounds, seed, *, n_population, n_parents, n_mutants, n_children, mutation_prob, max_draws))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        space: &Space,
        encoding: &str,
        bounds: Vec<f64>,
        seed: u64,
        n_population: usize,
        n_parents: usize,
        n_mutants: usize,
        n_children: usize,
        mutation_prob: f64,
        max_draws: usize,
    ) -> PyResult<Self> {
        let settings = Settings { n_population, n_parents, n_mutants, n_children, mutation_prob, max_draws };
        let encoding = parse_encoding(encoding)?;
        Ok(Self(evolution::Evolution::new(space.0.clone(), encoding, bounds, settings, seed)?))
    }

    fn propose<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let genomes = py.detach(|| self.0.propose())?;
        rows(py, genomes, self.0.space().n_genes())
    }

    fn admit(&mut self, measures: PyReadonlyArray2<'_, f64>) -> PyResult<()> {
        let width = self.0.n_bounds();
        Ok(self.0.admit(flat(&measures, "measures of a candidate", width)?)?)
    }

    fn ask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u8>>> {
        rows(py, self.0.ask()?, self.0.space().n_genes())
    }

    fn tell(&mut self, scores: PyReadonlyArray1<'_, f32>) -> PyResult<()> {
        let scores =
            scores.as_slice().map_err(|_| ShapeError::new_err("scores: the array must be contiguous"))?;
        Ok(self.0.tell(scores)?)
    }

    fn begin_phase(&mut self, encoding: &str) -> PyResult<()> {
        self.0.begin_phase(parse_encoding(encoding)?);
        Ok(())
    }

    #[pyo3(signature = (scorer, latency, sizes, *, n_threads=1))]
    fn run(
        &mut self,
        py: Python<'_>,
        scorer: EncodedMlp<'_>,
        latency: Option<EncodedMlp<'_>>,
        sizes: Sizes,
        n_threads: usize,
    ) -> PyResult<()> {
        let space = self.0.space().clone();
        let cost = CostModel::new(&space, sizes.0, sizes.1, sizes.2)?;
        let scorer = bind(&scorer, &space)?;
        let latency = latency.as_ref().map(|latency| bind(latency, &space)).transpose()?;
        let meter = Meter { latency, cost: &cost };
        py.detach(|| run(&mut self.0, &scorer, &meter, 1, n_threads))?;
        Ok(())
    }

    #[getter]
    fn is_infeasible(&self) -> bool {
        self.0.is_infeasible()
    }

    fn smallest<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.smallest().into_pyarray(py)
    }

    #[pyo3(signature = (start=0))]
    fn history(&self, start: usize) -> Vec<(usize, usize, f32)> {
        self.0
            .history()
            .iter()
            .skip(start)
            .map(|it| (it.n_evaluations, it.n_cache_hits, it.best_score))
            .collect()
    }

    fn scored<'py>(&self, py: Python<'py>) -> PyResult<ScoredArrays<'py>> {
        let scored = self.0.scored();
        let genomes = scored.iter().flat_map(|s| self.0.genome(s.candidate).to_vec()).collect();
        let measures = scored.iter().flat_map(|s| self.0.measures(s.candidate).to_vec()).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok((
            rows(py, genomes, self.0.space().n_genes())?,
            rows(py, measures, self.0.n_bounds())?,
            scored.iter().map(|s| s.score).collect::<Vec<_>>().into_pyarray(py),
            scored.iter().map(|s| count(s.iteration)).collect::<Vec<_>>().into_pyarray(py),
            scored.iter().map(|s| count(s.phase)).collect::<Vec<_>>().into_pyarray(py),
        ))
    }
}
