//! Search spaces to test on: HAT's, a tiny Transformer, and arbitrary small ones.

#![allow(dead_code, reason = "each test file uses a part")]

use llmpp_core::rng::Stream;
use llmpp_core::space::{Description, Space};
use proptest::prelude::*;

/// Describes a hyperparameter with one value.
pub fn plain(name: &str, options: &[u32]) -> Description {
    Description { name: name.to_owned(), options: options.to_vec(), depth: None }
}

/// Describes a hyperparameter with one value per layer.
pub fn layered(name: &str, options: &[u32], depth: &str) -> Description {
    Description { name: name.to_owned(), options: options.to_vec(), depth: Some(depth.to_owned()) }
}

/// HAT's space for WMT.
pub fn wmt() -> Space {
    hat(&[1024, 2048, 3072], &[4, 8])
}

/// HAT's space for IWSLT.
pub fn iwslt() -> Space {
    hat(&[512, 1024, 2048], &[2, 4])
}

fn hat(ffn: &[u32], heads: &[u32]) -> Space {
    let descriptions = [
        plain("encoder_dim", &[512, 640]),
        plain("encoder_layers", &[6]),
        layered("encoder_ffn", ffn, "encoder_layers"),
        layered("encoder_heads", heads, "encoder_layers"),
        plain("decoder_dim", &[512, 640]),
        plain("decoder_layers", &[1, 2, 3, 4, 5, 6]),
        layered("decoder_ffn", ffn, "decoder_layers"),
        layered("decoder_heads", heads, "decoder_layers"),
        layered("cross_heads", heads, "decoder_layers"),
        layered("cross_span", &[1, 2, 3], "decoder_layers"),
    ];
    Space::new(&descriptions).unwrap()
}

/// A Transformer small enough to look at every one of its 320 architectures.
pub fn tiny() -> Space {
    let descriptions = [
        layered("decoder_ffn", &[128, 64], "decoder_layers"),
        layered("cross_span", &[1, 3], "decoder_layers"),
        plain("encoder_dim", &[32, 48]),
        plain("encoder_layers", &[2]),
        layered("encoder_ffn", &[64, 96], "encoder_layers"),
        plain("decoder_dim", &[48, 32]),
        plain("decoder_layers", &[2, 1]),
    ];
    Space::new(&descriptions).unwrap()
}

/// All genomes of a space, one after the other.
pub fn all_genomes(space: &Space) -> Vec<u8> {
    space.genomes().flatten().collect()
}

/// `n` sampled genomes of a space.
pub fn samples(space: &Space, n: u32, seed: u64) -> Vec<Vec<u8>> {
    (0..n).map(|index| space.sample(&mut Stream::new(seed, 0, index))).collect()
}

/// The position of the single gene of a plain hyperparameter, or the first gene of a layered one.
pub fn first_gene(space: &Space, name: &str) -> usize {
    space.hyperparameters()[space.find(name).unwrap()].genes().start
}

/// Whether each gene of a genome is active, worked out from options alone.
pub fn active_genes(space: &Space, descriptions: &[Description], genome: &[u8]) -> Vec<bool> {
    let n_layers = |depth: &String| {
        let position = space.find(depth).unwrap();
        let gene = space.hyperparameters()[position].genes().start;
        descriptions[position].options[usize::from(genome[gene])] as usize
    };
    let widths = space.hyperparameters().iter().map(|h| h.genes().len());
    let active = descriptions.iter().map(|d| d.depth.as_ref().map_or(1, n_layers));
    widths.zip(active).flat_map(|(width, n)| (0..width).map(move |slot| slot < n)).collect()
}

/// One to three distinct values in any order, zero among them now and then.
fn any_options() -> impl Strategy<Value = Vec<u32>> {
    prop::sample::subsequence(vec![0, 1, 4, 7, 640, 3_000_000_000], 1..=3)
        .prop_filter("the largest option is positive", |options| options != &[0])
        .prop_shuffle()
}

/// One to three layer counts in any order.
fn any_counts() -> impl Strategy<Value = Vec<u32>> {
    prop::sample::subsequence(vec![1, 2, 3], 1..=3).prop_shuffle()
}

/// Descriptions of a small space: up to two layer counts, options of any order and number, and hyperparameters
/// in any order, so that layer counts also stand behind what they count.
pub fn any_descriptions() -> impl Strategy<Value = Vec<Description>> {
    let counts = prop::collection::vec(any_counts(), 0..=2);
    let plains = prop::collection::vec(any_options(), 1..=2);
    let layers = prop::collection::vec((any_options(), 0..2usize), 0..=2);
    (counts, plains, layers)
        .prop_map(|(counts, plains, layers)| describe(&counts, &plains, &layers))
        .prop_shuffle()
}

fn describe(counts: &[Vec<u32>], plains: &[Vec<u32>], layers: &[(Vec<u32>, usize)]) -> Vec<Description> {
    let counts_named = counts.iter().enumerate().map(|(i, o)| plain(&format!("count{i}"), o));
    let plains = plains.iter().enumerate().map(|(i, o)| plain(&format!("plain{i}"), o));
    let layers = layers.iter().enumerate().filter(|_| !counts.is_empty());
    let layers =
        layers.map(|(i, (o, at))| layered(&format!("layer{i}"), o, &format!("count{}", at % counts.len())));
    counts_named.chain(plains).chain(layers).collect()
}

/// Any small space.
pub fn any_space() -> impl Strategy<Value = Space> {
    any_descriptions().prop_map(|descriptions| Space::new(&descriptions).unwrap())
}

/// A proptest configuration that leaves no files behind.
pub fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, ..ProptestConfig::default() }
}
