//! How an evolutionary search makes its populations.

use crate::error::{Error, Result};

/// What memory allows, with room to spare.
const LARGEST_POPULATION: usize = 1 << 24;

/// How the populations are made. The defaults are HAT's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Members of the first population.
    pub n_population: usize,
    /// Best members kept from one population to the next.
    pub n_parents: usize,
    /// Mutants added to each further population.
    pub n_mutants: usize,
    /// Children of two parents added to each further population.
    pub n_children: usize,
    /// Probability that a mutant's gene is redrawn.
    pub mutation_prob: f64,
    /// Draws per open place of a population, after which the place stays empty. The first population has
    /// five times as many.
    pub max_draws: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_population: 125,
            n_parents: 25,
            n_mutants: 50,
            n_children: 50,
            mutation_prob: 0.3,
            max_draws: 20,
        }
    }
}

impl Settings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// When one is outside; the message names it.
    #[expect(clippy::cast_precision_loss, reason = "the value is for a message")]
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [
            ("n_population", self.n_population),
            ("n_parents", self.n_parents),
            ("max_draws", self.max_draws),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(Error::BadSetting { name, range: "at least 1", value: 0.0 });
            }
        }
        let sizes = [
            ("n_population", self.n_population),
            ("n_mutants", self.n_mutants),
            ("n_children", self.n_children),
        ];
        for (name, value) in sizes {
            if value > LARGEST_POPULATION {
                let value = value as f64;
                return Err(Error::BadSetting { name, range: "at most 2^24", value });
            }
        }
        if !(0.0..=1.0).contains(&self.mutation_prob) {
            let value = self.mutation_prob;
            return Err(Error::BadSetting { name: "mutation_prob", range: "in [0, 1]", value });
        }
        Ok(())
    }
}
