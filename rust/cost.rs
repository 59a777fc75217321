//! FLOPs and parameters of HAT's Transformer in closed form, exact to the integer.
//!
//! Every term is a sum over layers of products in which at most one factor changes from layer to layer,
//! so costs are functions of the averaged features. Symbols, as in the formulas of the docs:
//!
//! | symbol | meaning |
//! |---|---|
//! | `Q` | `qkv_dim`, the width of queries, keys and values |
//! | `L` | `sentence_length`, of source and target |
//! | `V` | `vocabulary` |
//! | `E`, `D` | embedding width of the encoder, of the decoder |
//! | `m`, `n` | layers of the encoder, of the decoder |
//! | `f`, `k` | feed-forward width, cross-attention span of a layer |

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
    qkv_dim: u128,
    sentence_length: u128,
    vocabulary: u128,
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

/// Costs of absurdly large spaces stop at the largest `u64`.
fn saturate(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What [`CostModel::cost`] reads off a genome.
struct Sizes {
    encoder_dim: u128,
    encoder_layers: u128,
    encoder_ffn_sum: u128,
    decoder_dim: u128,
    decoder_layers: u128,
    decoder_ffn_sum: u128,
    cross_span_sum: u128,
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
        let [qkv_dim, sentence_length, vocabulary] = [qkv_dim, sentence_length, vocabulary].map(u128::from);
        Ok(Self { roles, qkv_dim, sentence_length, vocabulary })
    }

    /// Computes the cost of one valid genome.
    #[must_use]
    pub fn cost(&self, space: &Space, genome: &[u8]) -> Cost {
        let sizes = self.sizes(space, genome);
        let head_macs = self.sentence_length * sizes.decoder_dim * self.vocabulary;
        let body_macs = self.encoder_macs(&sizes) + self.decoder_macs(&sizes) + self.shared_macs(&sizes);
        Cost {
            flops: saturate(2 * (body_macs + head_macs)),
            flops_without_head: saturate(2 * body_macs),
            params: saturate(self.encoder_params(&sizes) + self.decoder_params(&sizes)),
            embedding_params: saturate(self.vocabulary * sizes.decoder_dim),
        }
    }

    fn sizes(&self, space: &Space, genome: &[u8]) -> Sizes {
        let [
            encoder_dim,
            encoder_layers,
            encoder_ffn_sum,
            decoder_dim,
            decoder_layers,
            decoder_ffn_sum,
            cross_span_sum,
        ] = self.roles.map(|index| {
            let n_active = space.n_active(genome, index);
            (0..n_active).map(|slot| u128::from(space.value(genome, index, slot))).sum()
        });
        Sizes {
            encoder_dim,
            encoder_layers,
            encoder_ffn_sum,
            decoder_dim,
            decoder_layers,
            decoder_ffn_sum,
            cross_span_sum,
        }
    }

    /// Sum over encoder layers of 4LEQ + 2L²Q + 2LEf.
    fn encoder_macs(&self, s: &Sizes) -> u128 {
        let (l, q) = (self.sentence_length, self.qkv_dim);
        s.encoder_layers * (4 * l * s.encoder_dim * q + 2 * l * l * q)
            + 2 * l * s.encoder_dim * s.encoder_ffn_sum
    }

    /// Sum over decoder layers of 4LDQ + 2L²Q (self), 2LDQ + 2LkEQ + 2L²kQ (cross) and 2LDf.
    fn decoder_macs(&self, s: &Sizes) -> u128 {
        let (l, q) = (self.sentence_length, self.qkv_dim);
        s.decoder_layers * (6 * l * s.decoder_dim * q + 2 * l * l * q)
            + s.cross_span_sum * (2 * l * s.encoder_dim * q + 2 * l * l * q)
            + 2 * l * s.decoder_dim * s.decoder_ffn_sum
    }

    /// Norms, residuals, embedding scales and query scales.
    fn shared_macs(&self, s: &Sizes) -> u128 {
        let (l, q) = (self.sentence_length, self.qkv_dim);
        let n_attentions = s.encoder_layers + 2 * s.decoder_layers;
        l * (2 * s.encoder_layers * s.encoder_dim + 3 * s.decoder_layers * s.decoder_dim)
            + l * (s.encoder_dim + s.decoder_dim)
            + l * q * n_attentions
            + 3 * n_attentions
            + 2 * l
    }

    /// Sum over encoder layers of attention 4QE + 3Q + E, feed-forward 2Ef + f + E, norms 4E.
    fn encoder_params(&self, s: &Sizes) -> u128 {
        let q = self.qkv_dim;
        s.encoder_layers * (4 * q * s.encoder_dim + 3 * q + 6 * s.encoder_dim)
            + s.encoder_ffn_sum * (2 * s.encoder_dim + 1)
    }

    /// Sum over decoder layers of self-attention 4QD + 3Q + D, cross-attention 2QD + 2QE + 3Q + D,
    /// feed-forward 2Df + f + D, norms 6D.
    fn decoder_params(&self, s: &Sizes) -> u128 {
        let q = self.qkv_dim;
        s.decoder_layers * (6 * q * s.decoder_dim + 2 * q * s.encoder_dim + 6 * q + 9 * s.decoder_dim)
            + s.decoder_ffn_sum * (2 * s.decoder_dim + 1)
    }
}
