//! Random draws have the distributions that are promised, and are the same on every machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "small counts")]

mod spaces;

use llmpp_core::rng::Stream;
use llmpp_core::space::Space;
use spaces::{first_gene, samples, wmt};

const N_DRAWS: u32 = 20_000;

/// Chi-square of counts against equal ones. With up to 5 degrees of freedom, 35 is exceeded once in 600,000.
fn chi_square(counts: &[usize]) -> f64 {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
}

fn count_options(genomes: &[Vec<u8>], gene: usize, n_options: usize) -> Vec<usize> {
    let mut counts = vec![0; n_options];
    for genome in genomes {
        counts[usize::from(genome[gene])] += 1;
    }
    counts
}

fn set_depth(space: &Space, genome: &[u8], index: u8) -> Vec<u8> {
    let mut genome = genome.to_vec();
    genome[first_gene(space, "decoder_layers")] = index;
    space.normalize(&mut genome);
    genome
}

fn share(genomes: &[Vec<u8>], is_hit: impl Fn(&[u8]) -> bool) -> f64 {
    genomes.iter().filter(|genome| is_hit(genome)).count() as f64 / genomes.len() as f64
}

/// Five standard deviations of a share.
fn tolerance(share: f64, n: usize) -> f64 {
    5.0 * (share * (1.0 - share) / n as f64).sqrt()
}

#[test]
fn sampling_is_uniform_over_depth_and_over_each_active_gene() {
    let space = wmt();
    let genomes = samples(&space, N_DRAWS, 1);
    for (index, hyperparameter) in space.hyperparameters().iter().enumerate() {
        for (slot, gene) in hyperparameter.genes().enumerate() {
            let active = genomes.iter().filter(|genome| slot < space.n_active(genome, index));
            let active: Vec<Vec<u8>> = active.cloned().collect();
            let counts = count_options(&active, gene, hyperparameter.options().len());
            assert!(chi_square(&counts) < 35.0, "{} {slot}: {counts:?}", hyperparameter.name());
        }
    }
}

#[test]
fn sampled_genes_are_independent() {
    let space = wmt();
    let genomes = samples(&space, N_DRAWS, 2);
    let n_genes = space.n_genes();
    let pairs = [(0, 14), (14, 15), (2, 3), (16, 22), (0, n_genes - 6), (8, 9)];
    for (a, b) in pairs {
        let product = share(&genomes, |g| g[a] == 0) * share(&genomes, |g| g[b] == 0);
        let joint = share(&genomes, |g| g[a] == 0 && g[b] == 0);
        assert!(
            (joint - product).abs() < tolerance(0.25, genomes.len()),
            "genes {a}, {b}: {joint} {product}"
        );
    }
}

#[test]
fn mutation_changes_a_gene_as_often_as_redrawing_it_implies() {
    let space = wmt();
    let parent = set_depth(&space, &samples(&space, 1, 3)[0], 3);
    let mutants: Vec<Vec<u8>> =
        (0..N_DRAWS).map(|index| space.mutate(&parent, 0.3, &mut Stream::new(4, 0, index))).collect();
    for (index, hyperparameter) in space.hyperparameters().iter().enumerate() {
        let n_options = hyperparameter.options().len() as f64;
        let expected = 0.3 * (n_options - 1.0) / n_options;
        for (slot, gene) in hyperparameter.genes().enumerate().take(space.n_active(&parent, index)) {
            let alive: Vec<Vec<u8>> =
                mutants.iter().filter(|mutant| slot < space.n_active(mutant, index)).cloned().collect();
            let changed = share(&alive, |mutant| mutant[gene] != parent[gene]);
            let allowed = tolerance(expected, alive.len());
            assert!((changed - expected).abs() <= allowed, "{} {slot}: {changed}", hyperparameter.name());
        }
    }
}

#[test]
fn mutating_with_probability_1_is_sampling_anew() {
    let space = wmt();
    let parent = samples(&space, 1, 5).remove(0);
    let mutants: Vec<Vec<u8>> =
        (0..N_DRAWS).map(|index| space.mutate(&parent, 1.0, &mut Stream::new(6, 0, index))).collect();
    let depths = count_options(&mutants, first_gene(&space, "decoder_layers"), 6);
    let ffn = count_options(&mutants, first_gene(&space, "encoder_ffn"), 3);
    assert!(chi_square(&depths) < 35.0 && chi_square(&ffn) < 35.0, "{depths:?} {ffn:?}");
}

#[test]
fn a_gene_that_mutation_brings_to_life_is_uniform() {
    let space = wmt();
    let shallow = set_depth(&space, &samples(&space, 1, 7)[0], 0);
    let mutants = (0..4 * N_DRAWS).map(|index| space.mutate(&shallow, 0.3, &mut Stream::new(8, 0, index)));
    let span = space.find("cross_span").unwrap();
    let deep: Vec<Vec<u8>> = mutants.filter(|mutant| space.n_active(mutant, span) == 6).collect();
    assert!(deep.len() > 3000, "one in 20 reaches six layers, got {}", deep.len());
    for layer in 1..6 {
        let counts = count_options(&deep, first_gene(&space, "cross_span") + layer, 3);
        assert!(chi_square(&counts) < 35.0, "layer {layer}: {counts:?}");
    }
}

#[test]
fn a_child_takes_each_gene_from_either_parent_equally_often() {
    let space = wmt();
    let first = set_depth(&space, &vec![0; space.n_genes()], 5);
    let second: Vec<u8> = space
        .hyperparameters()
        .iter()
        .flat_map(|h| h.genes().map(|_| u8::try_from(h.options().len() - 1).unwrap()))
        .collect();
    let children: Vec<Vec<u8>> =
        (0..N_DRAWS).map(|index| space.cross(&first, &second, &mut Stream::new(9, 0, index))).collect();
    for gene in (0..space.n_genes()).filter(|&gene| first[gene] != second[gene]) {
        let from_first = share(&children, |child| child[gene] == first[gene]);
        assert!((from_first - 0.5).abs() < tolerance(0.5, children.len()), "gene {gene}: {from_first}");
    }
}

#[test]
fn a_child_draws_a_gene_that_is_silent_in_one_parent_uniformly_or_takes_the_others() {
    let space = wmt();
    let genome = samples(&space, 1, 10).remove(0);
    let (shallow, mut deep) = (set_depth(&space, &genome, 0), set_depth(&space, &genome, 5));
    let gene = first_gene(&space, "decoder_ffn") + 5;
    deep[gene] = 2;
    for (first, second) in [(&shallow, &deep), (&deep, &shallow)] {
        let children = (0..N_DRAWS).map(|index| space.cross(first, second, &mut Stream::new(11, 0, index)));
        let depth = first_gene(&space, "decoder_layers");
        let children: Vec<Vec<u8>> = children.filter(|child| child[depth] == 5).collect();
        for (option, expected) in [(0, 1.0 / 6.0), (1, 1.0 / 6.0), (2, 4.0 / 6.0)] {
            let got = share(&children, |child| child[gene] == option);
            assert!((got - expected).abs() < tolerance(expected, children.len()), "{option}: {got}");
        }
    }
}

#[test]
fn below_stays_below_and_is_uniform() {
    let mut stream = Stream::new(12, 0, 0);
    let mut counts = [0; 6];
    (0..60_000).for_each(|_| counts[stream.below(6)] += 1);
    assert!(chi_square(&counts) < 35.0, "{counts:?}");
    assert_eq!((stream.below(0), stream.below(1)), (0, 0));
}

#[test]
fn chance_is_never_at_0_and_always_at_1() {
    let mut stream = Stream::new(13, 0, 0);
    assert!((0..10_000).all(|_| !stream.chance(0.0) && stream.chance(1.0)));
    let hits = (0..10_000).filter(|_| stream.chance(0.3)).count();
    assert!((2770..3230).contains(&hits), "{hits}");
}

#[test]
fn streams_differ_in_seed_generation_and_index_and_repeat_otherwise() {
    let draw = |seed, generation, index| {
        let mut stream = Stream::new(seed, generation, index);
        (0..4).map(|_| stream.below(1 << 16)).collect::<Vec<_>>()
    };
    let addresses = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (u64::MAX, u32::MAX, u32::MAX)];
    let drawn: Vec<_> = addresses.iter().map(|&(s, g, i)| draw(s, g, i)).collect();
    let distinct: std::collections::HashSet<_> = drawn.iter().collect();
    assert_eq!(distinct.len(), addresses.len());
    assert_eq!(draw(0, 1, 0), drawn[2]);
}
