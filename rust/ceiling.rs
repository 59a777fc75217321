//! What a narrow network cannot exceed on a row of a grid: interval arithmetic over its columns, rounding included.

use crate::columns::Network;

/// The unit roundoff of float32.
const ROUNDOFF: f64 = 1.0 / 16_777_216.0;

/// The least and the largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub low: f64,
    pub high: f64,
}

impl Range {
    /// The range of some numbers; NaN if one of them is.
    pub fn of(numbers: impl Iterator<Item = f32>) -> Self {
        let empty = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };
        numbers.map(f64::from).fold(empty, |range, number| {
            if number.is_nan() || range.low.is_nan() {
                return Self { low: f64::NAN, high: f64::NAN };
            }
            Self { low: range.low.min(number), high: range.high.max(number) }
        })
    }

    fn relu(self) -> Self {
        Self { low: self.low.max(0.0), high: self.high.max(0.0) }
    }
}

/// What bounds a network's scores, prepared for many rows.
#[derive(Debug, Clone)]
pub(crate) struct Ceiling {
    n_units: usize,
    /// The known chains of the first layer's units: low ends, high ends, and magnitudes, one after the other.
    starts: Vec<f64>,
    /// The weights of the other inputs, input by input: `(n_inputs, n_units)`.
    weights: Vec<f64>,
    /// Weights and bias of the output; none if the first layer is the output.
    output: Option<(Vec<f64>, f64)>,
    scale: f64,
    shift: f64,
}

impl Ceiling {
    /// Prepares a network whose units' known chains have the given ranges.
    pub fn new(network: &Network, starts: &[Range]) -> Self {
        let n_inputs = network.weights.len() / starts.len();
        let of_input =
            |input| network.weights.iter().skip(input).step_by(n_inputs.max(1)).copied().map(f64::from);
        let widened = |(weights, bias): &(Vec<f32>, f32)| {
            (weights.iter().copied().map(f64::from).collect(), f64::from(*bias))
        };
        let parts: [fn(&Range) -> f64; 3] =
            [|start| start.low, |start| start.high, |start| start.low.abs().max(start.high.abs())];
        Self {
            n_units: starts.len(),
            starts: parts.iter().flat_map(|part| starts.iter().map(part)).collect(),
            weights: (0..n_inputs).flat_map(of_input).collect(),
            output: network.output.as_ref().map(widened),
            scale: network.scale.into(),
            shift: network.shift.into(),
        }
    }

    /// The largest score that the network may have where its other inputs lie in the given ranges.
    pub fn of(&self, inputs: &[Range]) -> f64 {
        let units = self.units(inputs);
        let unit = |unit: usize| {
            let part = |part: usize| units[part * self.n_units + unit];
            Chain { low: part(0), high: part(1), magnitude: part(2) }.range(inputs.len())
        };
        let sum = match &self.output {
            None => unit(0),
            Some((weights, bias)) => {
                let mut sum = Chain::at(*bias);
                for (index, &weight) in weights.iter().enumerate() {
                    sum.add(unit(index).relu(), weight);
                }
                sum.range(weights.len())
            }
        };
        let mut score = Chain::at(self.shift);
        score.add(sum, self.scale);
        score.range(1).high
    }

    /// The chains of the first layer's units, laid out as `starts`; all units take each step together.
    fn units(&self, inputs: &[Range]) -> Vec<f64> {
        let mut units = self.starts.clone();
        let (lows, rest) = units.split_at_mut(self.n_units);
        let (highs, magnitudes) = rest.split_at_mut(self.n_units);
        for (input, weights) in inputs.iter().zip(self.weights.chunks_exact(self.n_units)) {
            let ends = lows.iter_mut().zip(highs.iter_mut()).zip(magnitudes.iter_mut());
            for (((low, high), magnitude), weight) in ends.zip(weights) {
                let (a, b) = (weight * input.low, weight * input.high);
                *low += if a < b { a } else { b };
                *high += if a < b { b } else { a };
                *magnitude += a.abs() + b.abs();
            }
        }
        units
    }
}

/// The range of a chain of multiply-adds, and what its roundings may add up to.
#[derive(Debug, Clone, Copy)]
struct Chain {
    low: f64,
    high: f64,
    magnitude: f64,
}

impl Chain {
    fn at(start: f64) -> Self {
        Self { low: start, high: start, magnitude: start.abs() }
    }

    fn add(&mut self, input: Range, weight: f64) {
        let (a, b) = (input.low * weight, input.high * weight);
        self.low += if a < b { a } else { b };
        self.high += if a < b { b } else { a };
        self.magnitude += a.abs() + b.abs();
    }

    /// The range of the chain in float32 after `n` products, computed with or without fused multiply-adds.
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    fn range(self, n: usize) -> Range {
        // What may overflow in float32, or is no number, may come out as anything.
        let is_tame = self.magnitude <= f64::from(f32::MAX) / 2.0;
        if !is_tame {
            return Range { low: f64::NEG_INFINITY, high: f64::INFINITY };
        }
        // Each of two roundings per product errs by at most the roundoff of what was added up so far; twice that
        // covers the second order and this function's own rounding, and the smallest normal number what underflows.
        let n_roundings = (2 * n + 2) as f64;
        let error = n_roundings * (2.0 * ROUNDOFF * self.magnitude + f64::from(f32::MIN_POSITIVE));
        Range { low: self.low - error, high: self.high + error }
    }
}
