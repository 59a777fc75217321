//! FLOPs and parameters of HAT's Transformer in closed form, exact to the integer.
//!
//! Every term is a sum over layers of products in which at most one factor changes from layer to layer,
//! so costs are functions of the averaged features. Symbols of the formulas below:
//!
//! | symbol | meaning |
//! |---|---|
//! | `Q` | `qkv_dim`, the width of queries, keys and values |
//! | `L` | `sentence_length`, of source and target |
//! | `V` | `vocabulary` |
//! | `E`, `D` | embedding width of the encoder, of the decoder |
//! | `m`, `n` | layers of the encoder, of the decoder |
//! | `f`, `k` | feed-forward width, cross-attention span of a layer |

use std::ops::{Add, Mul};

use crate::error::{Error, Result};
use crate::space::Space;

/// What one architecture costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// FLOPs of one teacher-forced pass over one sentence pair, output projection included.
    pub flops: u64,
    /// The same without the output projection.
    pub flops_without_head: u64,
    /// Parameters without the embeddings.
    pub params: u64,
    /// Parameters of the embedding matrix at the decoder's width.
    pub embedding_params: u64,
}

/// The costs of a space's Transformers for one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostModel {
    /// Positions of the hyperparameters in the space, in the order of [`ROLES`].
    roles: [usize; ROLES.len()],
    qkv_dim: u32,
    sentence_length: u32,
    vocabulary: u32,
}

/// The hyperparameters that enter costs, and what counts their layers. Head counts do not enter.
const ROLES: [(&str, Option<&str>); 7] = [
    ("encoder_dim", None),
    ("encoder_layers", None),
    ("encoder_ffn", Some("encoder_layers")),
    ("decoder_dim", None),
    ("decoder_layers", None),
    ("decoder_ffn", Some("decoder_layers")),
    ("cross_span", Some("decoder_layers")),
];

/// The position of the decoder's width among [`ROLES`].
const DECODER_DIM: usize = 3;

/// Costs of absurdly large spaces stop at the largest `u64`.
fn saturate(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A type that the formulas are computed in: exact `u128`, or `f64`, which is exact below 2^53 and fast.
pub(crate) trait Count: Copy + From<u32> + Add<Output = Self> + Mul<Output = Self> {}
impl Count for u128 {}
impl Count for f64 {}

/// What the formulas read off an architecture: the values and sums over layers of [`ROLES`], in their order.
pub(crate) type Sizes<T> = [T; ROLES.len()];

/// FLOPs and parameters before they are rounded into a [`Cost`].
pub(crate) struct Counts<T> {
    /// Multiply-adds without the output projection.
    pub body_macs: T,
    /// Multiply-adds of the output projection.
    pub head_macs: T,
    /// Parameters without the embeddings.
    pub params: T,
}

impl CostModel {
    /// Builds the cost model of a space.
    ///
    /// # Errors
    /// When the space lacks a hyperparameter that enters the formulas, another one counts its layers, or a size
    /// is out of its range.
    pub fn new(space: &Space, qkv_dim: u32, sentence_length: u32, vocabulary: u32) -> Result<Self> {
        let mut roles = [0; ROLES.len()];
        for (role, (name, _)) in roles.iter_mut().zip(ROLES) {
            *role = space.find(name).ok_or(Error::MissingHyperparameter { name })?;
        }
        for (role, (name, depth)) in roles.into_iter().zip(ROLES) {
            if space.depth_name(role) != depth {
                return Err(Error::WrongDepth { name, depth: depth.unwrap_or("nothing") });
            }
        }
        let sizes = [("qkv_dim", qkv_dim), ("sentence_length", sentence_length), ("vocabulary", vocabulary)];
        for (name, size) in sizes {
            if !(1..=1 << 24).contains(&size) {
                return Err(Error::BadSetting { name, range: "in 1..=2^24", value: f64::from(size) });
            }
        }
        Ok(Self { roles, qkv_dim, sentence_length, vocabulary })
    }

    /// Computes the cost of one valid genome.
    #[must_use]
    pub fn cost(&self, space: &Space, genome: &[u8]) -> Cost {
        let sizes = self.roles.map(|index| {
            let n_active = space.n_active(genome, index);
            (0..n_active).map(|slot| u128::from(space.value(genome, index, slot))).sum()
        });
        let Counts { body_macs, head_macs, params } = self.counts(sizes);
        Cost {
            flops: saturate(2 * (body_macs + head_macs)),
            flops_without_head: saturate(2 * body_macs),
            params: saturate(params),
            embedding_params: saturate(u128::from(self.vocabulary) * sizes[DECODER_DIM]),
        }
    }

    /// Positions in the space of the hyperparameters that enter the formulas, in the order of [`Sizes`].
    pub(crate) fn roles(&self) -> &[usize] {
        &self.roles
    }

    /// Evaluates the formulas.
    #[expect(clippy::many_single_char_names, reason = "the symbols of the table above")]
    pub(crate) fn counts<T: Count>(&self, sizes: Sizes<T>) -> Counts<T> {
        let t = |count: u32| T::from(count);
        let [l, q, v] = [self.sentence_length, self.qkv_dim, self.vocabulary].map(T::from);
        let [e, m, enc_ffn, d, n, dec_ffn, span] = sizes;
        // Sum over encoder layers of 4LEQ + 2L²Q + 2LEf.
        let encoder_macs = m * (t(4) * l * e * q + t(2) * l * l * q) + t(2) * l * e * enc_ffn;
        // Sum over decoder layers of 4LDQ + 2L²Q (self), 2LDQ + 2LkEQ + 2L²kQ (cross) and 2LDf.
        let decoder_macs = n * (t(6) * l * d * q + t(2) * l * l * q)
            + span * (t(2) * l * e * q + t(2) * l * l * q)
            + t(2) * l * d * dec_ffn;
        // Norms, residuals, embedding scales and query scales.
        let n_attentions = m + t(2) * n;
        let shared_macs = l * (t(2) * m * e + t(3) * n * d)
            + l * (e + d)
            + l * q * n_attentions
            + t(3) * n_attentions
            + t(2) * l;
        // Sum over encoder layers of attention 4QE + 3Q + E, feed-forward 2Ef + f + E, norms 4E.
        let encoder_params = m * (t(4) * q * e + t(3) * q + t(6) * e) + enc_ffn * (t(2) * e + t(1));
        // Sum over decoder layers of self-attention 4QD + 3Q + D, cross-attention 2QD + 2QE + 3Q + D,
        // feed-forward 2Df + f + D, norms 6D.
        let decoder_params =
            n * (t(6) * q * d + t(2) * q * e + t(6) * q + t(9) * d) + dec_ffn * (t(2) * d + t(1));
        Counts {
            body_macs: encoder_macs + decoder_macs + shared_macs,
            head_macs: l * d * v,
            params: encoder_params + decoder_params,
        }
    }
}
