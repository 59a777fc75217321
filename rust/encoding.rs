//! Genomes to features, and to architectures and back.

use crate::error::{Error, Result, expect_size};
use crate::space::Space;

/// How an architecture is described to a predictor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One feature per hyperparameter: its value, or its mean over the active layers, over its largest option.
    ///
    /// On HAT's spaces these are the 10 features of LLM-Distill-PP (arXiv 2310.16712).
    Averaged,
    /// One feature per gene: its value over the largest option, 0 where the layer is not there.
    PerLayer,
}

impl Encoding {
    /// The number of features of an architecture.
    #[must_use]
    pub fn n_features(self, space: &Space) -> usize {
        match self {
            Self::Averaged => space.hyperparameters().len(),
            Self::PerLayer => space.n_genes(),
        }
    }

    /// Encodes valid genomes, `(n, n_genes)` row by row, into features `(n, n_features)`.
    #[must_use]
    pub fn features(self, space: &Space, genomes: &[u8]) -> Vec<f32> {
        let mut features = Vec::with_capacity(genomes.len() / space.n_genes() * self.n_features(space));
        for genome in genomes.chunks_exact(space.n_genes()) {
            match self {
                Self::Averaged => push_averaged(space, genome, &mut features),
                Self::PerLayer => push_per_layer(space, genome, &mut features),
            }
        }
        features
    }
}

/// The averaged feature of a hyperparameter: its mean over the active layers over its largest option.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "features are float32 by definition"
)]
pub(crate) fn averaged(sum: f64, n_active: usize, largest: u32) -> f32 {
    (sum / n_active as f64 / f64::from(largest)) as f32
}

fn push_averaged(space: &Space, genome: &[u8], features: &mut Vec<f32>) {
    for (index, hyperparameter) in space.hyperparameters().iter().enumerate() {
        let n_active = space.n_active(genome, index);
        let sum: f64 = (0..n_active).map(|slot| f64::from(space.value(genome, index, slot))).sum();
        features.push(averaged(sum, n_active, hyperparameter.largest()));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "features are float32 by definition")]
fn push_per_layer(space: &Space, genome: &[u8], features: &mut Vec<f32>) {
    for (index, hyperparameter) in space.hyperparameters().iter().enumerate() {
        let n_active = space.n_active(genome, index);
        let largest = f64::from(hyperparameter.largest());
        for slot in 0..hyperparameter.n_slots() {
            let is_active = slot < n_active;
            let value = if is_active { f64::from(space.value(genome, index, slot)) } else { 0.0 };
            features.push((value / largest) as f32);
        }
    }
}

/// An architecture: the values of each hyperparameter, one per active slot.
pub type Values = Vec<Vec<u32>>;

/// Reads the architecture off a valid genome. The inverse of [`genome_of`].
#[must_use]
pub fn values_of(space: &Space, genome: &[u8]) -> Values {
    let slots = |index| (0..space.n_active(genome, index)).map(move |slot| space.value(genome, index, slot));
    (0..space.hyperparameters().len()).map(|index| slots(index).collect()).collect()
}

/// Writes an architecture as a genome. The inverse of [`values_of`].
///
/// # Errors
/// When a value is not an option, or a list is not as long as its layer count.
pub fn genome_of(space: &Space, values: &[Vec<u32>]) -> Result<Vec<u8>> {
    expect_size("hyperparameters of an architecture", space.hyperparameters().len(), values.len())?;
    let mut genome = vec![0; space.n_genes()];
    // Layer counts first: they say how long the lists must be.
    for is_per_layer in [false, true] {
        for (index, list) in values.iter().enumerate() {
            if space.hyperparameters()[index].is_per_layer() == is_per_layer {
                write_genes(space, index, list, &mut genome)?;
            }
        }
    }
    Ok(genome)
}

fn write_genes(space: &Space, index: usize, list: &[u32], genome: &mut [u8]) -> Result<()> {
    let hyperparameter = &space.hyperparameters()[index];
    let expected = space.n_active(genome, index);
    if list.len() != expected {
        return Err(Error::WrongLength { name: hyperparameter.name().to_owned(), got: list.len(), expected });
    }
    for (layer, (gene, &value)) in hyperparameter.genes().zip(list).enumerate() {
        let position = hyperparameter.options().iter().position(|&option| option == value);
        let index = position.and_then(|position| u8::try_from(position).ok());
        genome[gene] = index.ok_or_else(|| Error::NotAnOption {
            name: hyperparameter.name().to_owned(),
            layer: hyperparameter.is_per_layer().then_some(layer),
            value,
            options: hyperparameter.options().to_vec(),
        })?;
    }
    Ok(())
}
