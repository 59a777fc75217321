//! Search spaces: categorical genes, some of them per layer and gated by a layer count.
//!
//! A genome holds one option index (`u8`) per gene. Genes of layers beyond the layer count are *silent*:
//! they are kept at 0, so that equal architectures have equal genomes. Where an operator brings a silent
//! gene to life, it is drawn uniformly, which is what carrying a random silent gene along amounts to.

use std::collections::HashSet;

use crate::error::{Error, Result, expect_size};
use crate::rng::Stream;

/// How a hyperparameter is described: its name, its options, and which other hyperparameter counts its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Unique name, such as `decoder_ffn`.
    pub name: String,
    /// The values that can be chosen, 1 to 256 of them.
    pub options: Vec<u32>,
    /// Name of the layer count, for a hyperparameter that is chosen layer by layer.
    pub depth: Option<String>,
}

/// One hyperparameter of a space, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hyperparameter {
    name: String,
    options: Vec<u32>,
    /// Position, in the space, of the hyperparameter that counts the layers.
    depth: Option<usize>,
    /// Position of the first gene.
    start: usize,
    /// Number of genes: 1, or the largest layer count.
    n_slots: usize,
    /// The largest option, which scales features into (0, 1].
    largest: u32,
}

impl Hyperparameter {
    /// The unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The values that can be chosen.
    #[must_use]
    pub fn options(&self) -> &[u32] {
        &self.options
    }

    /// The largest option.
    #[must_use]
    pub fn largest(&self) -> u32 {
        self.largest
    }

    /// The number of genes: 1, or the largest layer count.
    #[must_use]
    pub fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// Whether the hyperparameter is chosen layer by layer.
    #[must_use]
    pub fn is_per_layer(&self) -> bool {
        self.depth.is_some()
    }

    /// The positions of its genes.
    #[must_use]
    pub fn genes(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.n_slots
    }
}

/// A search space. Immutable once built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    hyperparameters: Vec<Hyperparameter>,
    /// The hyperparameter that each gene belongs to.
    owner: Vec<usize>,
}

impl Space {
    /// Builds a space from its hyperparameters, whose order is the order of genes and features.
    ///
    /// # Errors
    /// When names repeat, options are unusable, or a layer count does not exist.
    pub fn new(descriptions: &[Description]) -> Result<Self> {
        if descriptions.is_empty() {
            return Err(Error::NoHyperparameters);
        }
        let mut names = HashSet::new();
        let mut hyperparameters = Vec::with_capacity(descriptions.len());
        let mut owner = Vec::new();
        for description in descriptions {
            if !names.insert(&description.name) {
                return Err(Error::DuplicateName { name: description.name.clone() });
            }
            let resolved = resolve(description, descriptions, owner.len())?;
            owner.resize(owner.len() + resolved.n_slots, hyperparameters.len());
            hyperparameters.push(resolved);
        }
        Ok(Self { hyperparameters, owner })
    }

    /// The hyperparameters, in the order of genes and features.
    #[must_use]
    pub fn hyperparameters(&self) -> &[Hyperparameter] {
        &self.hyperparameters
    }

    /// Finds a hyperparameter by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.hyperparameters.iter().position(|h| h.name == name)
    }

    /// The hyperparameter that counts the layers of another, if it has layers.
    #[must_use]
    pub fn depth_of(&self, hyperparameter: usize) -> Option<usize> {
        self.hyperparameters[hyperparameter].depth
    }

    /// The name of the hyperparameter that counts the layers of another, if it has layers.
    #[must_use]
    pub fn depth_name(&self, hyperparameter: usize) -> Option<&str> {
        self.depth_of(hyperparameter).map(|depth| self.hyperparameters[depth].name())
    }

    /// The width of a genome.
    #[must_use]
    pub fn n_genes(&self) -> usize {
        self.owner.len()
    }

    /// Counts the distinct architectures exactly.
    ///
    /// # Errors
    /// When there are more than a `u128` holds.
    pub fn n_architectures(&self) -> Result<u128> {
        let mut total = 1u128;
        for (index, hyperparameter) in self.hyperparameters.iter().enumerate() {
            if hyperparameter.depth.is_none() {
                let ways = self.ways_of(index).ok_or(Error::Uncountable)?;
                total = total.checked_mul(ways).ok_or(Error::Uncountable)?;
            }
        }
        Ok(total)
    }

    /// Ways to choose a plain hyperparameter together with the layers it counts, if any.
    fn ways_of(&self, index: usize) -> Option<u128> {
        let per_layer = self.hyperparameters.iter().filter(|h| h.depth == Some(index));
        let mut ways_of_layer = Some(1u128);
        let mut is_count = false;
        for hyperparameter in per_layer {
            is_count = true;
            ways_of_layer = ways_of_layer?.checked_mul(hyperparameter.options.len() as u128);
        }
        let options = &self.hyperparameters[index].options;
        if !is_count {
            return Some(options.len() as u128);
        }
        let ways = ways_of_layer?;
        options.iter().try_fold(0u128, |sum, &n_layers| sum.checked_add(ways.checked_pow(n_layers)?))
    }

    /// The number of active slots of a hyperparameter in a genome.
    #[must_use]
    pub fn n_active(&self, genome: &[u8], hyperparameter: usize) -> usize {
        match self.hyperparameters[hyperparameter].depth {
            None => 1,
            Some(depth) => self.value(genome, depth, 0) as usize,
        }
    }

    /// The chosen value of one slot of a hyperparameter.
    #[must_use]
    pub fn value(&self, genome: &[u8], hyperparameter: usize, slot: usize) -> u32 {
        let hyperparameter = &self.hyperparameters[hyperparameter];
        hyperparameter.options[usize::from(genome[hyperparameter.start + slot])]
    }

    /// Checks the width and every index of a batch of genomes, `(n, n_genes)` row by row.
    ///
    /// # Errors
    /// When the length is no multiple of the width, or an index points past its options.
    pub fn validate(&self, genomes: &[u8]) -> Result<()> {
        let width = self.n_genes();
        expect_size("genes left over after whole genomes", 0, genomes.len() % width)?;
        for genome in genomes.chunks_exact(width) {
            for (gene, (&index, &owner)) in genome.iter().zip(&self.owner).enumerate() {
                let hyperparameter = &self.hyperparameters[owner];
                let n_options = hyperparameter.options.len();
                if usize::from(index) >= n_options {
                    let name = hyperparameter.name.clone();
                    return Err(Error::GeneOutOfRange { gene, name, index, n_options });
                }
            }
        }
        Ok(())
    }

    /// Sets the silent genes to 0.
    pub fn normalize(&self, genome: &mut [u8]) {
        for index in 0..self.hyperparameters.len() {
            let n_active = self.n_active(genome, index);
            genome[self.hyperparameters[index].genes()][n_active..].fill(0);
        }
    }

    /// Draws an architecture, every gene uniformly, so that each layer count is equally likely.
    #[must_use]
    pub fn sample(&self, stream: &mut Stream) -> Vec<u8> {
        let mut genome: Vec<u8> = (0..self.n_genes()).map(|gene| self.draw(gene, stream)).collect();
        self.normalize(&mut genome);
        genome
    }

    /// Redraws every gene with probability `prob`, uniformly over all its options, the present one included.
    #[must_use]
    pub fn mutate(&self, parent: &[u8], prob: f64, stream: &mut Stream) -> Vec<u8> {
        let mut genome = self.revive(parent, stream);
        for (gene, index) in genome.iter_mut().enumerate() {
            if stream.chance(prob) {
                *index = self.draw(gene, stream);
            }
        }
        self.normalize(&mut genome);
        genome
    }

    /// Takes each gene from either parent with probability 1/2.
    #[must_use]
    pub fn cross(&self, first: &[u8], second: &[u8], stream: &mut Stream) -> Vec<u8> {
        let mut genome = self.revive(first, stream);
        let other = self.revive(second, stream);
        for (index, &alternative) in genome.iter_mut().zip(&other) {
            if stream.chance(0.5) {
                *index = alternative;
            }
        }
        self.normalize(&mut genome);
        genome
    }

    /// Lists the genome of every architecture, each once, in counting order. Meant for small spaces.
    pub fn genomes(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut next = Some(vec![0; self.n_genes()]);
        std::iter::from_fn(move || {
            let current = next.take()?;
            next = self.successor(&current);
            Some(current)
        })
        .filter(|genome| {
            let mut normal = genome.clone();
            self.normalize(&mut normal);
            normal == *genome
        })
    }

    /// The next genome in counting order, silent genes counted like all others.
    fn successor(&self, genome: &[u8]) -> Option<Vec<u8>> {
        let mut next = genome.to_vec();
        for (index, &owner) in next.iter_mut().zip(&self.owner).rev() {
            if usize::from(*index) + 1 < self.hyperparameters[owner].options.len() {
                *index += 1;
                return Some(next);
            }
            *index = 0;
        }
        None
    }

    fn draw(&self, gene: usize, stream: &mut Stream) -> u8 {
        let n_options = self.hyperparameters[self.owner[gene]].options.len();
        u8::try_from(stream.below(n_options)).unwrap_or(u8::MAX)
    }

    /// A copy whose silent genes are drawn uniformly.
    fn revive(&self, genome: &[u8], stream: &mut Stream) -> Vec<u8> {
        let mut revived = genome.to_vec();
        for index in 0..self.hyperparameters.len() {
            let genes = self.hyperparameters[index].genes();
            let silent = genes.start + self.n_active(genome, index)..genes.end;
            for (gene, index) in silent.clone().zip(&mut revived[silent]) {
                *index = self.draw(gene, stream);
            }
        }
        revived
    }
}

/// Checks one description against its siblings and lays out its genes from `start` on.
fn resolve(description: &Description, all: &[Description], start: usize) -> Result<Hyperparameter> {
    let Description { name, options, depth } = description.clone();
    let largest = options.iter().copied().max().unwrap_or(0);
    let distinct: HashSet<_> = options.iter().collect();
    if largest == 0 || options.len() > 256 || distinct.len() != options.len() {
        return Err(Error::BadOptions { name, options });
    }
    let (depth, n_slots) = match depth {
        None => (None, 1),
        Some(depth) => {
            let (position, n_slots) = resolve_depth(&name, &depth, all)?;
            (Some(position), n_slots)
        }
    };
    Ok(Hyperparameter { name, options, depth, start, n_slots, largest })
}

/// Finds a layer count by name: its position and its largest value.
fn resolve_depth(name: &str, depth: &str, all: &[Description]) -> Result<(usize, usize)> {
    let unknown = || Error::UnknownDepth { name: name.to_owned(), depth: depth.to_owned() };
    let position = all.iter().position(|d| d.name == depth && d.depth.is_none()).ok_or_else(unknown)?;
    let options = &all[position].options;
    if options.is_empty() || options.iter().any(|layers| !(1..=1024).contains(layers)) {
        return Err(Error::BadDepth { name: depth.to_owned(), options: options.clone() });
    }
    Ok((position, options.iter().copied().max().unwrap_or(1) as usize))
}
