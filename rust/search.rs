//! The closed loop: evolution in which MLPs give both the scores and the latencies.

use crate::cost::CostModel;
use crate::encoding::Encoding;
use crate::error::{Result, expect_size};
use crate::evolution::Evolution;
use crate::mlp::Mlp;
use crate::space::Space;

/// An MLP and the features that it reads.
#[derive(Debug, Clone, Copy)]
pub struct Scorer<'a> {
    mlp: &'a Mlp,
    encoding: Encoding,
}

impl<'a> Scorer<'a> {
    /// Pairs an MLP with its encoding.
    ///
    /// # Errors
    /// When the MLP does not read as many features as the encoding of `space` has.
    pub fn new(mlp: &'a Mlp, encoding: Encoding, space: &Space) -> Result<Self> {
        expect_size("features of the encoding", mlp.n_features(), encoding.n_features(space))?;
        Ok(Self { mlp, encoding })
    }

    /// Scores genomes `(n, n_genes)`.
    ///
    /// # Errors
    /// When the genomes are not those of the scorer's space.
    pub fn score(&self, space: &Space, genomes: &[u8], n_threads: usize) -> Result<Vec<f32>> {
        self.mlp.forward(&self.encoding.features(space, genomes), n_threads)
    }
}

/// The measures that bounds apply to: latency in ms (where there is a model), GFLOPs, and parameters in millions.
#[derive(Debug, Clone, Copy)]
pub struct Meter<'a> {
    /// The latency model, or none.
    pub latency: Option<Scorer<'a>>,
    /// FLOPs and parameters.
    pub cost: &'a CostModel,
}

impl Meter<'_> {
    /// Measures genomes `(n, n_genes)`: `(n, 3)`, or `(n, 2)` without a latency model.
    ///
    /// # Errors
    /// When the genomes are not those of the latency model's space.
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact, and larger ones are absurd")]
    pub fn measure(&self, space: &Space, genomes: &[u8], n_threads: usize) -> Result<Vec<f64>> {
        let latencies = self.latency.map(|latency| latency.score(space, genomes, n_threads)).transpose()?;
        let mut measures = Vec::new();
        for (index, genome) in genomes.chunks_exact(space.n_genes()).enumerate() {
            measures.extend(latencies.as_ref().map(|latencies| f64::from(latencies[index])));
            let cost = self.cost.cost(space, genome);
            measures.extend([cost.flops as f64 / 1e9, cost.params as f64 / 1e6]);
        }
        Ok(measures)
    }
}

/// Runs `n_iterations` more iterations of a search; none if nothing is feasible.
///
/// # Errors
/// When the search's bounds are not those of the meter, or an MLP's output is not finite.
pub fn run(
    evolution: &mut Evolution,
    scorer: &Scorer,
    meter: &Meter,
    n_iterations: usize,
    n_threads: usize,
) -> Result<()> {
    for _ in 0..n_iterations {
        loop {
            let genomes = evolution.propose()?;
            if genomes.is_empty() {
                break;
            }
            evolution.admit(&meter.measure(evolution.space(), &genomes, n_threads)?)?;
        }
        if evolution.is_infeasible() {
            break;
        }
        let asked = evolution.ask()?;
        evolution.tell(&scorer.score(evolution.space(), &asked, n_threads)?)?;
    }
    Ok(())
}
