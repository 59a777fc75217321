//! MLPs with random weights, and their forward pass in plain `f64` loops.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

use llmpp_core::rng::Stream;
use llmpp_core::weights::{Layer, Weights};

/// A number from -1 to 1.
pub fn uniform(stream: &mut Stream) -> f32 {
    stream.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
}

/// `n` numbers from -1 to 1.
pub fn uniforms(n: usize, stream: &mut Stream) -> Vec<f32> {
    (0..n).map(|_| uniform(stream)).collect()
}

/// Random weights between layers of the given widths, inputs first, and no normalisation.
pub fn network(widths: &[usize], seed: u64) -> Weights {
    let mut stream = Stream::new(seed, 0, 0);
    let mut layers = Vec::new();
    for pair in widths.windows(2) {
        let scale = (3.0 / pair[0] as f32).sqrt();
        let weight = uniforms(pair[0] * pair[1], &mut stream).into_iter().map(|w| w * scale).collect();
        layers.push(Layer { weight, bias: uniforms(pair[1], &mut stream) });
    }
    Weights {
        n_features: widths[0],
        products: None,
        input_mean: vec![0.0; widths[0]],
        input_std: vec![1.0; widths[0]],
        layers,
        output_mean: 0.0,
        output_std: 1.0,
    }
}

/// The same with random moments of inputs and output.
pub fn normalized(widths: &[usize], seed: u64) -> Weights {
    let mut stream = Stream::new(seed, 1, 0);
    let input_std = uniforms(widths[0], &mut stream).into_iter().map(|s| 1.5 + s).collect();
    Weights {
        input_mean: uniforms(widths[0], &mut stream),
        input_std,
        output_mean: 100.0 + uniform(&mut stream),
        output_std: 7.0,
        ..network(widths, seed)
    }
}

/// Inputs are all products of two of `n_features` features, the constant 1 being the last.
pub fn degree_two(n_features: usize, hidden: &[usize], seed: u64) -> Weights {
    let pairs: Vec<[usize; 2]> =
        (0..=n_features).flat_map(|a| (a..=n_features).map(move |b| [a, b])).collect();
    let widths: Vec<usize> = std::iter::once(pairs.len()).chain(hidden.iter().copied()).chain([1]).collect();
    Weights { n_features, products: Some(pairs), ..normalized(&widths, seed) }
}

/// The score of one row in double precision.
pub fn score(weights: &Weights, row: &[f32]) -> f64 {
    let mut values = normalize(weights, &products(weights, row));
    for (index, layer) in weights.layers.iter().enumerate() {
        values = dense(layer, &values);
        if index + 1 < weights.layers.len() {
            values = values.into_iter().map(|value| value.max(0.0)).collect();
        }
    }
    values[0] * f64::from(weights.output_std) + f64::from(weights.output_mean)
}

fn products(weights: &Weights, row: &[f32]) -> Vec<f64> {
    let mut row: Vec<f64> = row.iter().copied().map(f64::from).collect();
    match &weights.products {
        None => row,
        Some(pairs) => {
            row.push(1.0);
            pairs.iter().map(|&[a, b]| row[a] * row[b]).collect()
        }
    }
}

fn normalize(weights: &Weights, values: &[f64]) -> Vec<f64> {
    let moments = weights.input_mean.iter().zip(&weights.input_std);
    values.iter().zip(moments).map(|(x, (&mean, &std))| (x - f64::from(mean)) / f64::from(std)).collect()
}

fn dense(layer: &Layer, values: &[f64]) -> Vec<f64> {
    let mut outputs = Vec::new();
    for (row, &bias) in layer.weight.chunks(values.len()).zip(&layer.bias) {
        let products = row.iter().zip(values).map(|(&w, x)| f64::from(w) * x);
        outputs.push(f64::from(bias) + products.sum::<f64>());
    }
    outputs
}
