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
    /// The range of some numbers.
    pub fn of(numbers: impl Iterator<Item = f32>) -> Self {
        let empty = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };
        numbers
            .map(f64::from)
            .fold(empty, |range, number| Self { low: range.low.min(number), high: range.high.max(number) })
    }

    /// The largest absolute value.
    fn magnitude(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    fn times(self, factor: f64) -> Self {
        let (a, b) = (self.low * factor, self.high * factor);
        Self { low: a.min(b), high: a.max(b) }
    }

    fn relu(self) -> Self {
        Self { low: self.low.max(0.0), high: self.high.max(0.0) }
    }
}

/// The largest score that a network may have, given the ranges of its units' known chains and of its other inputs.
pub(crate) fn ceiling(network: &Network, starts: &[Range], inputs: &[Range]) -> f64 {
    let n_inputs = inputs.len();
    let units = starts.iter().enumerate().map(|(unit, &start)| {
        let weights = &network.weights[unit * n_inputs..][..n_inputs];
        chain(start, weights.iter().copied().zip(inputs.iter().copied()))
    });
    let sum = match &network.output {
        None => units.fold(Range { low: 0.0, high: 0.0 }, |_, unit| unit),
        Some((weights, bias)) => {
            let bias = Range::of(std::iter::once(*bias));
            chain(bias, weights.iter().copied().zip(units.map(Range::relu)))
        }
    };
    let shift = Range::of(std::iter::once(network.shift));
    chain(shift, std::iter::once((network.scale, sum))).high
}

/// The range of a float32 chain `start + sum_k w_k x_k`, computed with or without fused multiply-adds.
fn chain(start: Range, terms: impl Iterator<Item = (f32, Range)>) -> Range {
    let mut sum = start;
    let mut magnitude = start.magnitude();
    let mut n_roundings = 2.0;
    for (weight, input) in terms {
        let product = input.times(weight.into());
        sum = Range { low: sum.low + product.low, high: sum.high + product.high };
        magnitude += product.magnitude();
        n_roundings += 2.0;
    }
    // Each rounding errs by at most the roundoff of what was added up so far; twice that covers the second order
    // and this function's own rounding, and the smallest normal number what underflows.
    let error = n_roundings * (2.0 * ROUNDOFF * magnitude + f64::from(f32::MIN_POSITIVE));
    Range { low: sum.low - error, high: sum.high + error }
}
