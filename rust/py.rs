//! The Python boundary, `llmpp._core`. Only arrays, bytes, numbers, strings and the classes below cross it;
//! wrappers convert, release the GIL, and call the core.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

mod evolution;
mod grid;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::cost::CostModel;
use crate::encoding::{Encoding, Values, genome_of, values_of};
use crate::error::{Error, Result, expect_size};
use crate::kernel::Kernel;
use crate::rng::Stream;
use crate::{mlp, space};

pyo3::create_exception!(
    llmpp,
    SpaceError,
    PyValueError,
    "A search space, architecture or genome is not valid."
);
pyo3::create_exception!(llmpp, ShapeError, PyValueError, "An array does not have the shape that is needed.");

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NoHyperparameters
            | Error::DuplicateName { .. }
            | Error::BadOptions { .. }
            | Error::UnknownDepth { .. }
            | Error::BadDepth { .. }
            | Error::Uncountable
            | Error::TooManyVectors { .. }
            | Error::TooManySums { .. }
            | Error::GeneOutOfRange { .. }
            | Error::NotAnOption { .. }
            | Error::WrongLength { .. }
            | Error::MissingHyperparameter { .. }
            | Error::WrongDepth { .. } => SpaceError::new_err(message),
            Error::Shape { .. } => ShapeError::new_err(message),
            Error::BadSetting { .. } => PyValueError::new_err(message),
            Error::BadWeights { .. } | Error::NotFinite { .. } | Error::OutOfTurn { .. } => {
                PyRuntimeError::new_err(message)
            }
        }
    }
}

/// Sizes of a task that costs depend on: `(qkv_dim, sentence_length, vocabulary)`.
type Sizes = (u32, u32, u32);

fn parse_encoding(name: &str) -> PyResult<Encoding> {
    match name {
        "averaged" => Ok(Encoding::Averaged),
        "per-layer" => Ok(Encoding::PerLayer),
        _ => Err(PyValueError::new_err(format!("encoding must be 'averaged' or 'per-layer', got '{name}'"))),
    }
}

/// Hands a flat vector to numpy as `(n, width)`, without a copy.
fn rows<T: numpy::Element>(py: Python<'_>, flat: Vec<T>, width: usize) -> PyResult<Bound<'_, PyArray2<T>>> {
    let n_rows = flat.len() / width.max(1);
    flat.into_pyarray(py).reshape([n_rows, width])
}

/// Borrows a contiguous array `(n, width)` as a flat slice.
fn flat<'a, T: numpy::Element>(
    array: &'a PyReadonlyArray2<'_, T>,
    what: &'static str,
    width: usize,
) -> PyResult<&'a [T]> {
    expect_size(what, width, array.shape()[1])?;
    // `as_slice` takes Fortran order for contiguous, too, and would read it transposed.
    match array.as_slice() {
        Ok(slice) if array.is_c_contiguous() => Ok(slice),
        _ => Err(ShapeError::new_err(format!("{what}: the array must be C-contiguous"))),
    }
}

#[pyclass(frozen, module = "llmpp._core")]
struct Space(space::Space);

impl Space {
    fn genomes<'a>(&self, genomes: &'a PyReadonlyArray2<'_, u8>) -> PyResult<&'a [u8]> {
        let genomes = flat(genomes, "genes of a genome", self.0.n_genes())?;
        self.0.validate(genomes)?;
        Ok(genomes)
    }

    fn draw(n: usize, seed: u64, draw: impl Fn(usize, &mut Stream) -> Vec<u8>) -> Result<Vec<u8>> {
        let n = u32::try_from(n).map_err(|_| Error::Shape { what: "genomes", expected: 0, got: n })?;
        Ok((0..n).flat_map(|index| draw(index as usize, &mut Stream::new(seed, 0, index))).collect())
    }
}

#[pymethods]
impl Space {
    #[new]
    fn new(descriptions: Vec<(String, Vec<u32>, Option<String>)>) -> PyResult<Self> {
        let describe = |(name, options, depth)| space::Description { name, options, depth };
        let descriptions: Vec<_> = descriptions.into_iter().map(describe).collect();
        Ok(Self(space::Space::new(&descriptions)?))
    }

    #[getter]
    fn n_genes(&self) -> usize {
        self.0.n_genes()
    }

    fn n_features(&self, encoding: &str) -> PyResult<usize> {
        Ok(parse_encoding(encoding)?.n_features(&self.0))
    }

    fn n_architectures(&self) -> PyResult<u128> {
        Ok(self.0.n_architectures()?)
    }

    fn sample<'py>(&self, py: Python<'py>, n: usize, seed: u64) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let drawn = py.detach(|| Self::draw(n, seed, |_, stream| self.0.sample(stream)))?;
        rows(py, drawn, self.0.n_genes())
    }

    fn mutate<'py>(
        &self,
        py: Python<'py>,
        parents: PyReadonlyArray2<'py, u8>,
        prob: f64,
        seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let (parents, width) = (self.genomes(&parents)?, self.0.n_genes());
        let parent = |index: usize| &parents[index * width..(index + 1) * width];
        let mutate = |index, stream: &mut Stream| self.0.mutate(parent(index), prob, stream);
        let drawn = py.detach(|| Self::draw(parents.len() / width, seed, mutate))?;
        rows(py, drawn, width)
    }

    fn cross<'py>(
        &self,
        py: Python<'py>,
        first: PyReadonlyArray2<'py, u8>,
        second: PyReadonlyArray2<'py, u8>,
        seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let (first, second, width) = (self.genomes(&first)?, self.genomes(&second)?, self.0.n_genes());
        expect_size("second parents", first.len() / width, second.len() / width)?;
        let of = |parents: &'_ [u8], index: usize| parents[index * width..(index + 1) * width].to_vec();
        let cross = |index, stream: &mut Stream| self.0.cross(&of(first, index), &of(second, index), stream);
        let drawn = py.detach(|| Self::draw(first.len() / width, seed, cross))?;
        rows(py, drawn, width)
    }

    fn genomes_of<'py>(
        &self,
        py: Python<'py>,
        architectures: Vec<Values>,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let genomes: Result<Vec<_>> = architectures.iter().map(|values| genome_of(&self.0, values)).collect();
        rows(py, genomes?.concat(), self.0.n_genes())
    }

    fn values_of(&self, genomes: PyReadonlyArray2<'_, u8>) -> PyResult<Vec<Values>> {
        let genomes = self.genomes(&genomes)?.chunks_exact(self.0.n_genes());
        Ok(genomes.map(|genome| values_of(&self.0, genome)).collect())
    }

    fn encode<'py>(
        &self,
        py: Python<'py>,
        genomes: PyReadonlyArray2<'py, u8>,
        encoding: &str,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (genomes, encoding) = (self.genomes(&genomes)?, parse_encoding(encoding)?);
        let features = py.detach(|| encoding.features(&self.0, genomes));
        rows(py, features, encoding.n_features(&self.0))
    }

    fn cost<'py>(
        &self,
        py: Python<'py>,
        genomes: PyReadonlyArray2<'py, u8>,
        sizes: Sizes,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let model = CostModel::new(&self.0, sizes.0, sizes.1, sizes.2)?;
        let genomes = self.genomes(&genomes)?.chunks_exact(self.0.n_genes());
        let costs = genomes.map(|genome| model.cost(&self.0, genome));
        let flat =
            costs.flat_map(|c| [c.flops, c.flops_without_head, c.params, c.embedding_params]).collect();
        rows(py, flat, 4)
    }
}

#[pyclass(frozen, module = "llmpp._core")]
struct Mlp {
    mlp: mlp::Mlp,
    safetensors: Vec<u8>,
}

#[pymethods]
impl Mlp {
    #[new]
    fn new(safetensors: &[u8]) -> PyResult<Self> {
        Ok(Self { mlp: mlp::Mlp::from_safetensors(safetensors)?, safetensors: safetensors.to_vec() })
    }

    /// The bytes it was read from.
    #[getter]
    fn safetensors(&self) -> &[u8] {
        &self.safetensors
    }

    #[getter]
    fn n_features(&self) -> usize {
        self.mlp.n_features()
    }

    #[getter]
    fn widths(&self) -> Vec<usize> {
        self.mlp.widths()
    }

    #[pyo3(signature = (features, n_threads=1))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray2<'py, f32>,
        n_threads: usize,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let features = flat(&features, "features of a row", self.mlp.n_features())?;
        let scores = py.detach(|| self.mlp.forward(features, n_threads))?;
        Ok(scores.into_pyarray(py))
    }
}

/// The name of the instruction set that inference runs on.
#[pyfunction]
fn kernel() -> &'static str {
    Kernel::best().name()
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Space>()?;
    module.add_class::<Mlp>()?;
    module.add_class::<evolution::Evolution>()?;
    module.add_class::<grid::Grid>()?;
    module.add("SpaceError", module.py().get_type::<SpaceError>())?;
    module.add("ShapeError", module.py().get_type::<ShapeError>())?;
    module.add_function(wrap_pyfunction!(kernel, module)?)
}
