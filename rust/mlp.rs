//! Inference of a small frozen multilayer perceptron: features in, one score per row out.

use crate::dense::{Panels, output, relu_layer};
use crate::error::{Result, check_finite, expect_size};
use crate::kernel::Kernel;
use crate::weights::Weights;

/// Rows that pass all layers together: two buffers of 400-wide activations stay in the second-level cache.
const BLOCK_ROWS: usize = 96;

/// A frozen MLP with ReLU between its layers and the normalisation of inputs and output inside.
///
/// A row's score does not depend on the rows around it, nor on the number of threads.
#[derive(Debug, Clone)]
pub struct Mlp {
    weights: Weights,
    /// The layers but the last, packed.
    hidden: Vec<Panels>,
    /// The widest row that a layer reads or writes.
    widest: usize,
    kernel: Kernel,
}

/// Two rows' worth of activations per block, reused from block to block.
struct Buffers {
    current: Vec<f32>,
    next: Vec<f32>,
}

impl Mlp {
    /// Builds the MLP for the fastest kernel of this processor.
    #[must_use]
    pub fn new(weights: Weights) -> Self {
        Self::with_kernel(weights, Kernel::best())
    }

    /// Builds the MLP for a given kernel.
    #[must_use]
    pub fn with_kernel(weights: Weights, kernel: Kernel) -> Self {
        let mut n_inputs = weights.input_mean.len();
        let mut hidden = Vec::new();
        for layer in weights.layers.split_last().map_or(&[][..], |(_, hidden)| hidden) {
            hidden.push(Panels::pack(&layer.weight, &layer.bias, n_inputs));
            n_inputs = layer.bias.len();
        }
        let widest = hidden.iter().map(Panels::n_padded).fold(weights.input_mean.len(), usize::max);
        Self { weights, hidden, widest, kernel }
    }

    /// Reads an MLP from the bytes of a safetensors file; see [`crate::weights`] for its tensors.
    ///
    /// # Errors
    /// When the file is broken, incomplete, inconsistent or not finite.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        Weights::from_safetensors(bytes).map(Self::new)
    }

    /// The numbers behind it.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What it runs on.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The number of features that a row has.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.weights.n_features
    }

    /// The widths of the layers, from the inputs (products counted) to the single output.
    #[must_use]
    pub fn widths(&self) -> Vec<usize> {
        let layers = self.weights.layers.iter().map(|layer| layer.bias.len());
        std::iter::once(self.weights.input_mean.len()).chain(layers).collect()
    }

    /// Scores features `(n, n_features)` row by row, on `n_threads` threads.
    ///
    /// # Errors
    /// When the length of `features` is no multiple of the number of features, or one is not finite.
    pub fn forward(&self, features: &[f32], n_threads: usize) -> Result<Vec<f32>> {
        expect_size("features left over after whole rows", 0, features.len() % self.n_features())?;
        check_finite("feature", features.iter().copied().map(f64::from))?;
        let n_rows = features.len() / self.n_features();
        let mut scores = vec![0.0; n_rows];
        let rows_per_thread = n_rows.div_ceil(n_threads.max(1)).next_multiple_of(BLOCK_ROWS).max(BLOCK_ROWS);
        let shares =
            features.chunks(rows_per_thread * self.n_features()).zip(scores.chunks_mut(rows_per_thread));
        if n_rows <= rows_per_thread {
            shares.for_each(|(features, scores)| self.forward_share(features, scores));
        } else {
            std::thread::scope(|scope| {
                for (features, scores) in shares {
                    scope.spawn(|| self.forward_share(features, scores));
                }
            });
        }
        Ok(scores)
    }

    fn forward_share(&self, features: &[f32], scores: &mut [f32]) {
        let size = self.widest * scores.len().min(BLOCK_ROWS);
        let mut buffers = Buffers { current: vec![0.0; size], next: vec![0.0; size] };
        let blocks = features.chunks(BLOCK_ROWS * self.n_features());
        for (features, scores) in blocks.zip(scores.chunks_mut(BLOCK_ROWS)) {
            self.forward_block(features, scores, &mut buffers);
        }
    }

    fn forward_block(&self, features: &[f32], scores: &mut [f32], buffers: &mut Buffers) {
        let n_rows = scores.len();
        let mut stride = self.weights.input_mean.len();
        let rows = features.chunks_exact(self.n_features());
        for (row, inputs) in rows.zip(buffers.current.chunks_exact_mut(stride)) {
            self.write_inputs(row, inputs);
        }
        for panels in &self.hidden {
            let width = panels.n_padded();
            let (x, out) = (&buffers.current[..n_rows * stride], &mut buffers.next[..n_rows * width]);
            relu_layer(self.kernel, panels, x, stride, out);
            std::mem::swap(&mut buffers.current, &mut buffers.next);
            stride = width;
        }
        self.write_scores(&buffers.current[..n_rows * stride], stride, scores);
    }

    /// Multiplies features where the MLP asks for products, then normalises.
    fn write_inputs(&self, row: &[f32], inputs: &mut [f32]) {
        match &self.weights.products {
            None => inputs.copy_from_slice(row),
            Some(products) => {
                let factor = |index: usize| row.get(index).copied().unwrap_or(1.0);
                for (input, &[first, second]) in inputs.iter_mut().zip(products) {
                    *input = factor(first) * factor(second);
                }
            }
        }
        let moments = self.weights.input_mean.iter().zip(&self.weights.input_std);
        for (input, (mean, std)) in inputs.iter_mut().zip(moments) {
            *input = (*input - mean) / std;
        }
    }

    fn write_scores(&self, x: &[f32], stride: usize, scores: &mut [f32]) {
        if let Some(last) = self.weights.layers.last() {
            output(self.kernel, &last.weight, last.bias[0], x, stride, scores);
        }
        for score in scores {
            *score = *score * self.weights.output_std + self.weights.output_mean;
        }
    }
}
