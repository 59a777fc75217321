//! Costs: the closed form against loops over layers, published figures, and extremes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::many_single_char_names, reason = "the symbols of the formula")]

mod spaces;

use std::collections::HashMap;

use llmpp_core::cost::{Cost, CostModel};
use llmpp_core::encoding::{Encoding, genome_of, values_of};
use llmpp_core::error::Error;
use llmpp_core::space::{Description, Space};
use proptest::prelude::*;
use spaces::{cases, layered, plain, samples, tiny, wmt};

const ROLES: [&str; 7] = [
    "encoder_dim",
    "encoder_layers",
    "encoder_ffn",
    "decoder_dim",
    "decoder_layers",
    "decoder_ffn",
    "cross_span",
];

/// `Q`, `L` and `V` of WMT'19 En-De.
const SIZES: [u32; 3] = [512, 30, 49_600];

fn cost_of(space: &Space, genome: &[u8], [q, l, v]: [u32; 3]) -> Cost {
    CostModel::new(space, q, l, v).unwrap().cost(space, genome)
}

/// The formulas as they are published, term by term and layer by layer.
fn cost_slowly(space: &Space, genome: &[u8], sizes: [u32; 3]) -> Cost {
    let values = values_of(space, genome);
    let list = |name| values[space.find(name).unwrap()].iter().copied().map(u64::from).collect::<Vec<_>>();
    let [q, l, v] = sizes.map(u64::from);
    let (e, d) = (list("encoder_dim")[0], list("decoder_dim")[0]);
    let (m, n) = (list("encoder_layers")[0], list("decoder_layers")[0]);
    let (mut macs, mut params) = (0, 0);
    for f in list("encoder_ffn") {
        macs += 4 * l * e * q + 2 * l * l * q + 2 * l * e * f;
        params += 4 * q * e + 3 * q + e + 2 * e * f + f + e + 4 * e;
    }
    for (f, k) in list("decoder_ffn").into_iter().zip(list("cross_span")) {
        macs += 4 * l * d * q + 2 * l * l * q + 2 * l * d * q;
        macs += 2 * l * k * e * q + 2 * l * l * k * q + 2 * l * d * f;
        params += 3 * q * d + 3 * q + q * d + d + q * d + 2 * q * e + 3 * q + q * d + d;
        params += 2 * d * f + f + d + 6 * d;
    }
    macs += l * (2 * m * e + 3 * n * d) + l * (e + d) + l * q * (m + 2 * n) + 3 * (m + 2 * n) + 2 * l;
    let head = l * d * v;
    Cost { flops: 2 * (macs + head), flops_without_head: 2 * macs, params, embedding_params: v * d }
}

#[test]
fn a_published_architecture_costs_what_its_figures_say() {
    let space = wmt();
    let encoder = [vec![640], vec![6], vec![3072, 1024, 3072, 3072, 3072, 2048], vec![4, 8, 4, 8, 4, 4]];
    let decoder = [vec![512], vec![3], vec![1024, 3072, 1024], vec![8, 8, 4], vec![4, 4, 4], vec![1, 2, 2]];
    let genome = genome_of(&space, &[&encoder[..], &decoder[..]].concat()).unwrap();
    let cost = cost_of(&space, &genome, SIZES);
    assert_eq!((cost.flops, cost.params, cost.embedding_params), (3_996_495_552, 39_528_448, 25_395_200));
    assert_eq!(cost.flops - cost.flops_without_head, 2 * 30 * 512 * 49_600);
}

#[test]
fn costs_on_wmt_are_those_of_loops_over_layers() {
    let space = wmt();
    for genome in samples(&space, 2000, 1) {
        assert_eq!(cost_of(&space, &genome, SIZES), cost_slowly(&space, &genome, SIZES));
    }
}

#[test]
fn equal_averaged_features_have_equal_costs() {
    let space = tiny();
    let model = CostModel::new(&space, 64, 7, 1000).unwrap();
    let mut cost_by_features: HashMap<Vec<u32>, Cost> = HashMap::new();
    for genome in space.genomes() {
        let features = Encoding::Averaged.features(&space, &genome).into_iter().map(f32::to_bits).collect();
        let cost = model.cost(&space, &genome);
        assert_eq!(*cost_by_features.entry(features).or_insert(cost), cost, "{genome:?}");
    }
    assert!(cost_by_features.len() < space.genomes().count(), "some architectures share features");
}

#[test]
fn absurdly_large_spaces_cost_the_largest_number() {
    let space = Space::new(&transformer(&[u32::MAX], &[1024])).unwrap();
    let genome = vec![0; space.n_genes()];
    let cost = cost_of(&space, &genome, [1 << 24; 3]);
    assert_eq!((cost.flops, cost.flops_without_head, cost.params), (u64::MAX, u64::MAX, u64::MAX));
    assert_eq!(cost.embedding_params, u64::from(u32::MAX) << 24);
}

/// A Transformer with these options everywhere, and these layer counts.
fn transformer(options: &[u32], counts: &[u32]) -> Vec<Description> {
    vec![
        plain("encoder_dim", options),
        plain("encoder_layers", counts),
        layered("encoder_ffn", options, "encoder_layers"),
        plain("decoder_dim", options),
        plain("decoder_layers", counts),
        layered("decoder_ffn", options, "decoder_layers"),
        layered("cross_span", options, "decoder_layers"),
    ]
}

#[test]
fn layers_that_another_hyperparameter_counts_are_refused_by_name() {
    let wrong = [
        (2, None, "encoder_ffn", "encoder_layers"),
        (5, Some("encoder_layers"), "decoder_ffn", "decoder_layers"),
        (0, Some("decoder_layers"), "encoder_dim", "nothing"),
    ];
    for (index, given, name, depth) in wrong {
        let mut descriptions = transformer(&[8], &[2]);
        descriptions[index].depth = given.map(str::to_owned);
        let space = Space::new(&descriptions).unwrap();
        assert_eq!(CostModel::new(&space, 1, 1, 1), Err(Error::WrongDepth { name, depth }));
    }
}

#[test]
fn a_space_that_lacks_what_costs_depend_on_is_refused_by_name() {
    for (index, name) in ROLES.into_iter().enumerate() {
        let mut descriptions = transformer(&[8], &[2]);
        descriptions[index].name = "other".to_owned();
        for description in &mut descriptions {
            description.depth = None;
        }
        let space = Space::new(&descriptions).unwrap();
        assert_eq!(CostModel::new(&space, 1, 1, 1), Err(Error::MissingHyperparameter { name }));
    }
}

#[test]
fn a_size_outside_its_range_is_refused_by_name() {
    let space = tiny();
    let names = ["qkv_dim", "sentence_length", "vocabulary"];
    for (index, name) in names.into_iter().enumerate() {
        for size in [0, (1 << 24) + 1] {
            let mut sizes = [1 << 24; 3];
            sizes[index] = size;
            let [q, l, v] = sizes;
            let expected = Error::BadSetting { name, range: "in 1..=2^24", value: f64::from(size) };
            assert_eq!(CostModel::new(&space, q, l, v), Err(expected));
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn costs_are_those_of_loops_over_layers(
        seed: u64, q in 1..2048u32, l in 1..200u32, v in 1..100_000u32,
        options in prop::sample::subsequence(vec![1, 2, 9, 512, 5000], 1..=3).prop_shuffle(),
        counts in prop::sample::subsequence(vec![1, 2, 3, 6], 1..=3).prop_shuffle(),
    ) {
        let space = Space::new(&transformer(&options, &counts)).unwrap();
        for genome in samples(&space, 4, seed) {
            prop_assert_eq!(cost_of(&space, &genome, [q, l, v]), cost_slowly(&space, &genome, [q, l, v]));
        }
    }

    #[test]
    fn the_order_of_layers_changes_neither_features_nor_costs(seed: u64, turn in 1..6usize) {
        let space = wmt();
        let genome = samples(&space, 1, seed).remove(0);
        let mut values = values_of(&space, &genome);
        for (index, list) in values.iter_mut().enumerate() {
            let n_layers = list.len();
            list.rotate_left((turn * (index + 1)) % n_layers);
        }
        let turned = genome_of(&space, &values).unwrap();
        let features = |genome: &[u8]| Encoding::Averaged.features(&space, genome);
        prop_assert_eq!(features(&genome), features(&turned));
        prop_assert_eq!(cost_of(&space, &genome, SIZES), cost_of(&space, &turned, SIZES));
    }
}
