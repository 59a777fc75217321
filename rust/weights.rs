//! Reading an [`Mlp`](crate::mlp::Mlp)'s weights from safetensors, and checking them.
//!
//! | tensor | dtype, shape | meaning |
//! |---|---|---|
//! | `input.products` | i32 `(p, 2)`, optional | pairs of features to multiply; the index `d` stands for 1 |
//! | `input.mean`, `input.std` | f32 `(p,)`, or `(d,)` without products | inputs enter as `(x - mean) / std` |
//! | `layers.I.weight`, `layers.I.bias` | f32 `(out, in)`, `(out,)` | dense layers, ReLU between them |
//! | `output.mean`, `output.std` | f32 `(1,)` | the last layer's output leaves as `y * std + mean` |

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};

/// A dense layer as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `(n_outputs, n_inputs)`, row by row.
    pub weight: Vec<f32>,
    /// `(n_outputs,)`.
    pub bias: Vec<f32>,
}

/// All numbers of an MLP, checked to fit together.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The number of features that go in.
    pub n_features: usize,
    /// Pairs of features to multiply, or none to use the features themselves.
    pub products: Option<Vec<[usize; 2]>>,
    /// Subtracted from the inputs.
    pub input_mean: Vec<f32>,
    /// Divides the inputs.
    pub input_std: Vec<f32>,
    /// The dense layers; the last has one output.
    pub layers: Vec<Layer>,
    /// Added to the output.
    pub output_mean: f32,
    /// Multiplies the output.
    pub output_std: f32,
}

impl Weights {
    /// The two features that an input is the product of; the index `n_features` stands for 1.
    #[must_use]
    pub fn factors(&self, input: usize) -> [usize; 2] {
        self.products.as_ref().map_or([input, self.n_features], |products| products[input])
    }

    /// Reads weights from the bytes of a safetensors file.
    ///
    /// # Errors
    /// When the bytes are no such file, a tensor is missing, misshapen or not finite, or layers do not fit.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| bad(format!("not a safetensors file ({error})")))?;
        let input_mean = floats(&tensors, "input.mean", 1)?;
        let input_std = floats(&tensors, "input.std", 1)?;
        let n_inputs = input_mean.len();
        check(input_std.len() == n_inputs, || {
            format!("input.std has {} values, input.mean {n_inputs}", input_std.len())
        })?;
        check(n_inputs > 0, || "input.mean is empty".to_owned())?;
        check(input_std.iter().all(|&std| std.recip().is_finite()), || {
            "input.std has a zero, or a number too small to divide by".to_owned()
        })?;
        let (products, n_features) = read_products(&tensors, n_inputs)?;
        let layers = read_layers(&tensors, n_inputs)?;
        let output_mean = scalar(&tensors, "output.mean")?;
        let output_std = scalar(&tensors, "output.std")?;
        check(output_std != 0.0, || "output.std is zero, so that all scores would be equal".to_owned())?;
        Ok(Self { n_features, products, input_mean, input_std, layers, output_mean, output_std })
    }
}

fn bad(reason: String) -> Error {
    Error::BadWeights { reason }
}

fn check(is_right: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if is_right { Ok(()) } else { Err(bad(reason())) }
}

fn tensor<'data>(
    tensors: &SafeTensors<'data>,
    name: &str,
    dtype: Dtype,
    rank: usize,
) -> Result<TensorView<'data>> {
    let view = tensors.tensor(name).map_err(|_| bad(format!("the tensor `{name}` is missing")))?;
    check(view.dtype() == dtype && view.shape().len() == rank, || {
        format!(
            "`{name}` must be {dtype:?} with {rank} dimensions, got {:?} {:?}",
            view.dtype(),
            view.shape()
        )
    })?;
    Ok(view)
}

fn floats(tensors: &SafeTensors, name: &str, rank: usize) -> Result<Vec<f32>> {
    let view = tensor(tensors, name, Dtype::F32, rank)?;
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(bad(format!("`{name}` holds {} at position {index}", values[index]))),
    }
}

fn scalar(tensors: &SafeTensors, name: &str) -> Result<f32> {
    let values = floats(tensors, name, 1)?;
    check(values.len() == 1, || format!("`{name}` must hold one number, got {}", values.len()))?;
    Ok(values[0])
}

/// Pairs of features and the number of features they are taken from.
///
/// The number of features is the largest index, which must therefore be used: it is the constant 1.
fn read_products(tensors: &SafeTensors, n_inputs: usize) -> Result<(Option<Vec<[usize; 2]>>, usize)> {
    const NAME: &str = "input.products";
    if tensors.tensor(NAME).is_err() {
        return Ok((None, n_inputs));
    }
    let view = tensor(tensors, NAME, Dtype::I32, 2)?;
    check(view.shape() == [n_inputs, 2], || {
        format!("`{NAME}` must be ({n_inputs}, 2), got {:?}", view.shape())
    })?;
    let (words, _) = view.data().as_chunks::<4>();
    let indices: Option<Vec<usize>> =
        words.iter().map(|&word| usize::try_from(i32::from_le_bytes(word)).ok()).collect();
    let indices = indices.ok_or_else(|| bad(format!("`{NAME}` holds a negative index")))?;
    let n_features = indices.iter().copied().max().unwrap_or(0);
    check((1..=4096).contains(&n_features), || format!("`{NAME}` speaks of {n_features} features"))?;
    Ok((Some(indices.as_chunks::<2>().0.to_vec()), n_features))
}

fn read_layers(tensors: &SafeTensors, n_inputs: usize) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut width = n_inputs;
    while tensors.tensor(&format!("layers.{}.weight", layers.len())).is_ok() {
        let index = layers.len();
        let weight_name = format!("layers.{index}.weight");
        let weight = floats(tensors, &weight_name, 2)?;
        let bias = floats(tensors, &format!("layers.{index}.bias"), 1)?;
        let shape = tensor(tensors, &weight_name, Dtype::F32, 2)?.shape().to_vec();
        check(!bias.is_empty() && shape == [bias.len(), width], || {
            format!("`{weight_name}` must be ({}, {width}), got {shape:?}", bias.len())
        })?;
        width = bias.len();
        layers.push(Layer { weight, bias });
    }
    check(!layers.is_empty(), || "the tensor `layers.0.weight` is missing".to_owned())?;
    let n_weights = tensors.names().iter().filter(|name| name.ends_with(".weight")).count();
    check(n_weights == layers.len(), || {
        format!("{n_weights} weights, but layers 0 to {} alone follow each other", layers.len() - 1)
    })?;
    check(width == 1, || format!("the last layer must have one output, got {width}"))?;
    Ok(layers)
}
