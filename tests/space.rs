//! Spaces: how many architectures there are, and that every operator gives one of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod spaces;

use std::collections::HashSet;

use llmpp_core::error::Error;
use llmpp_core::rng::Stream;
use llmpp_core::space::Space;
use proptest::prelude::*;
use spaces::{active_genes, any_descriptions, any_space, cases, first_gene, iwslt, plain, samples, wmt};

fn is_valid_and_normal(space: &Space, genome: &[u8]) -> bool {
    let mut normal = genome.to_vec();
    space.normalize(&mut normal);
    space.validate(genome).is_ok() && genome.len() == space.n_genes() && normal == genome
}

#[test]
fn wmt_has_417846678672384_architectures() {
    let layer_ways = 3 * 2 * 2 * 3u128;
    let decoders: u128 = (1..=6).map(|n_layers| layer_ways.pow(n_layers)).sum();
    let by_hand = 2 * 2 * (3u128 * 2).pow(6) * decoders;
    assert_eq!(by_hand, 417_846_678_672_384);
    assert_eq!(wmt().n_architectures(), Ok(by_hand));
    assert_eq!(iwslt().n_architectures(), Ok(by_hand), "the options are other, their number is the same");
}

#[test]
fn wmt_has_40_genes_in_the_order_of_its_hyperparameters() {
    let space = wmt();
    assert_eq!(space.n_genes(), 4 + 6 * 6);
    let starts: Vec<usize> = space.hyperparameters().iter().map(|h| h.genes().start).collect();
    assert_eq!(starts, [0, 1, 2, 8, 14, 15, 16, 22, 28, 34]);
}

#[test]
fn a_space_beyond_u128_says_that_it_is_uncountable() {
    let deep = [plain("n", &[1024]), spaces::layered("x", &[1, 2, 3, 4], "n")];
    assert_eq!(Space::new(&deep).unwrap().n_architectures(), Err(Error::Uncountable));
    let one_way = [plain("n", &[1024]), spaces::layered("x", &[5], "n")];
    assert_eq!(Space::new(&one_way).unwrap().n_architectures(), Ok(1));
    let options: Vec<u32> = (1..=256).collect();
    let wide: Vec<_> = (0..16).map(|i| plain(&format!("x{i}"), &options)).collect();
    assert_eq!(Space::new(&wide[..15]).unwrap().n_architectures(), Ok(1 << 120));
    assert_eq!(
        Space::new(&wide).unwrap().n_architectures(),
        Err(Error::Uncountable),
        "2^128 is one too many"
    );
}

#[test]
fn a_layer_count_counts_once_whatever_it_counts() {
    let descriptions = [
        spaces::layered("a", &[1, 2], "n"),
        spaces::layered("b", &[1, 2, 3], "n"),
        plain("n", &[3, 1]),
        plain("c", &[1, 2, 3, 4, 5]),
    ];
    assert_eq!(Space::new(&descriptions).unwrap().n_architectures(), Ok((6 * 6 * 6 + 6) * 5));
}

#[test]
fn an_index_past_the_options_is_found_and_named() {
    let space = wmt();
    let mut genomes = samples(&space, 3, 0).concat();
    assert_eq!(space.validate(&genomes), Ok(()));
    let gene = first_gene(&space, "cross_span") + 5;
    genomes[2 * space.n_genes() + gene] = 3;
    let expected = Error::GeneOutOfRange { gene, name: "cross_span".to_owned(), index: 3, n_options: 3 };
    assert_eq!(space.validate(&genomes), Err(expected.clone()));
    assert_eq!(
        expected.to_string(),
        "gene 39 (`cross_span`) is 3, but the hyperparameter has only 3 options"
    );
}

#[test]
fn a_part_of_a_genome_is_left_over() {
    let space = wmt();
    let result = space.validate(&vec![0; 2 * space.n_genes() + 1]);
    assert!(matches!(result, Err(Error::Shape { expected: 0, got: 1, .. })), "{result:?}");
    assert_eq!(space.validate(&[]), Ok(()), "no genomes are fine");
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn genomes_lists_every_architecture_once(space in any_space()) {
        let genomes: Vec<Vec<u8>> = space.genomes().collect();
        let distinct: HashSet<&Vec<u8>> = genomes.iter().collect();
        prop_assert_eq!(space.n_architectures().unwrap(), genomes.len() as u128);
        prop_assert_eq!(distinct.len(), genomes.len());
        prop_assert!(genomes.iter().all(|genome| is_valid_and_normal(&space, genome)));
    }

    #[test]
    fn operators_give_valid_and_normal_genomes(space in any_space(), seed: u64, prob in 0.0..=1.0) {
        let stream = &mut Stream::new(seed, 1, 0);
        let (first, second) = (space.sample(stream), space.sample(stream));
        let mutant = space.mutate(&first, prob, stream);
        let child = space.cross(&first, &second, stream);
        for genome in [first, second, mutant, child] {
            prop_assert!(is_valid_and_normal(&space, &genome), "{genome:?}");
        }
    }

    #[test]
    fn normalize_clears_silent_genes_and_nothing_else(
        descriptions in any_descriptions(), picks in prop::collection::vec(any::<u8>(), 12),
    ) {
        let space = Space::new(&descriptions).unwrap();
        let options = space.hyperparameters().iter().flat_map(|h| h.genes().map(|_| h.options().len()));
        let genome: Vec<u8> =
            options.zip(picks.iter().cycle()).map(|(n, &pick)| pick % u8::try_from(n).unwrap()).collect();
        let mut normal = genome.clone();
        space.normalize(&mut normal);
        let active = active_genes(&space, &descriptions, &genome);
        let expected: Vec<u8> = genome.iter().zip(active).map(|(&g, a)| if a { g } else { 0 }).collect();
        prop_assert_eq!(normal, expected);
    }

    #[test]
    fn mutating_with_probability_0_is_the_identity(space in any_space(), seed: u64) {
        let stream = &mut Stream::new(seed, 0, 0);
        let genome = space.sample(stream);
        prop_assert_eq!(space.mutate(&genome, 0.0, stream), genome);
    }

    #[test]
    fn crossing_a_genome_with_itself_is_the_identity(space in any_space(), seed: u64) {
        let stream = &mut Stream::new(seed, 0, 0);
        let genome = space.sample(stream);
        prop_assert_eq!(space.cross(&genome, &genome, stream), genome);
    }

    #[test]
    fn a_gene_alive_in_both_parents_comes_from_one_of_them(descriptions in any_descriptions(), seed: u64) {
        let space = Space::new(&descriptions).unwrap();
        let stream = &mut Stream::new(seed, 0, 0);
        let (first, second) = (space.sample(stream), space.sample(stream));
        let child = space.cross(&first, &second, stream);
        let alive = [&first, &second, &child].map(|genome| active_genes(&space, &descriptions, genome));
        for gene in 0..space.n_genes() {
            if alive.iter().all(|alive| alive[gene]) {
                prop_assert!([first[gene], second[gene]].contains(&child[gene]), "gene {gene}");
            }
        }
    }
}
