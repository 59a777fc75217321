//! Searches driven by hand with plain closures, and what must hold of any of them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{HashMap, HashSet};

use llmpp_core::encoding::Encoding;
use llmpp_core::error::Result;
use llmpp_core::evolution::{Evolution, Scored, Settings};
use llmpp_core::mlp::Mlp;
use llmpp_core::space::Space;

use crate::networks::{network, normalized};

/// Settings of a small search.
pub fn small() -> Settings {
    Settings { n_population: 30, n_parents: 8, n_mutants: 12, n_children: 10, ..Settings::default() }
}

/// A random predictor, and random measures of the averaged features.
pub struct Problem {
    pub space: Space,
    pub encoding: Encoding,
    scorer: Mlp,
    meters: Vec<Mlp>,
}

impl Problem {
    /// Draws a problem with two measures.
    pub fn new(space: Space, encoding: Encoding, seed: u64) -> Self {
        let scorer = Mlp::new(network(&[encoding.n_features(&space), 16, 1], seed));
        let n_averaged = Encoding::Averaged.n_features(&space);
        let meter = |index| Mlp::new(normalized(&[n_averaged, 8, 1], seed ^ index));
        Self { space, encoding, scorer, meters: vec![meter(1), meter(2)] }
    }

    /// Scores genomes `(n, n_genes)`.
    pub fn score(&self, genomes: &[u8]) -> Vec<f32> {
        self.scorer.forward(&self.encoding.features(&self.space, genomes), 1).unwrap()
    }

    /// Measures genomes `(n, n_genes)`: `(n, 2)`.
    pub fn measure(&self, genomes: &[u8]) -> Vec<f64> {
        let features = Encoding::Averaged.features(&self.space, genomes);
        let columns: Vec<Vec<f32>> = self.meters.iter().map(|m| m.forward(&features, 1).unwrap()).collect();
        columns[0].iter().zip(&columns[1]).flat_map(|(&a, &b)| [f64::from(a), f64::from(b)]).collect()
    }

    /// Bounds below which a share of all architectures lies, one measure at a time.
    pub fn bounds(&self, shares: [f64; 2]) -> Vec<f64> {
        let genomes: Vec<u8> = self.space.genomes().flatten().collect();
        let measures = self.measure(&genomes);
        let bound = |(column, share): (usize, f64)| {
            let mut sorted: Vec<f64> = measures.iter().copied().skip(column).step_by(2).collect();
            sorted.sort_by(f64::total_cmp);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small position")]
            #[allow(clippy::cast_precision_loss, reason = "a small position")]
            let position = ((sorted.len() - 1) as f64 * share) as usize;
            sorted[position]
        };
        shares.into_iter().enumerate().map(bound).collect()
    }

    /// The best score under the bounds among all architectures, if one is feasible.
    pub fn optimum(&self, bounds: &[f64]) -> Option<f32> {
        let genomes: Vec<u8> = self.space.genomes().flatten().collect();
        let (scores, measures) = (self.score(&genomes), self.measure(&genomes));
        let feasible = scores.iter().zip(measures.chunks(2)).filter(|(_, m)| is_feasible(m, bounds));
        feasible.map(|(&score, _)| score).max_by(f32::total_cmp)
    }

    /// Starts a search.
    pub fn start(&self, bounds: &[f64], settings: Settings, seed: u64) -> Evolution {
        Evolution::new(self.space.clone(), self.encoding, bounds.to_vec(), settings, seed).unwrap()
    }

    /// Runs iterations of ask and tell.
    pub fn advance(&self, evolution: &mut Evolution, n_iterations: usize) {
        for _ in 0..n_iterations {
            iterate(evolution, |genomes| self.measure(genomes), |genomes| self.score(genomes)).unwrap();
        }
    }
}

/// Whether measures keep to the bounds.
pub fn is_feasible(measures: &[f64], bounds: &[f64]) -> bool {
    measures.iter().zip(bounds).all(|(measure, bound)| measure <= bound)
}

/// Proposes and admits until nothing is proposed. Returns all genomes proposed.
pub fn complete(evolution: &mut Evolution, measure: impl Fn(&[u8]) -> Vec<f64>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let genomes = evolution.propose()?;
        if genomes.is_empty() {
            return Ok(all);
        }
        evolution.admit(&measure(&genomes))?;
        all.extend(genomes);
    }
}

/// One iteration of ask and tell.
pub fn iterate(
    evolution: &mut Evolution,
    measure: impl Fn(&[u8]) -> Vec<f64>,
    score: impl Fn(&[u8]) -> Vec<f32>,
) -> Result<()> {
    complete(evolution, measure)?;
    let asked = evolution.ask()?;
    evolution.tell(&score(&asked))
}

/// Everything that was scored: genome, measures, and the score with its place.
pub fn trace(evolution: &Evolution) -> Vec<(Vec<u8>, Vec<f64>, Scored)> {
    let describe = |scored: &Scored| {
        let candidate = scored.candidate;
        (evolution.genome(candidate).to_vec(), evolution.measures(candidate).to_vec(), *scored)
    };
    evolution.scored().iter().map(describe).collect()
}

/// Asserts what holds of any search: feasible members, none scored twice in a phase, a true best.
pub fn assert_lawful(evolution: &Evolution, encodings: &[Encoding], bounds: &[f64]) {
    let space = evolution.space();
    let mut seen = HashSet::new();
    let mut best: HashMap<usize, (usize, f32)> = HashMap::new();
    for (genome, measures, scored) in trace(evolution) {
        space.validate(&genome).unwrap();
        assert!(is_feasible(&measures, bounds), "{measures:?} exceed {bounds:?}");
        let features = encodings[scored.phase].features(space, &genome);
        let key: Vec<u32> = features.into_iter().map(f32::to_bits).collect();
        assert!(seen.insert((scored.phase, key)), "{genome:?} was scored twice in phase {}", scored.phase);
        let (candidate, score) = *best.entry(scored.phase).or_insert((scored.candidate, scored.score));
        let is_better = scored.score > score || (scored.score >= score && scored.candidate < candidate);
        if is_better {
            best.insert(scored.phase, (scored.candidate, scored.score));
        }
    }
    assert_eq!(evolution.best(), best.get(&(encodings.len() - 1)).copied());
}
