//! Encodings: features by hand and by a slow twin, and genomes that are architectures and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "features are float32")]

mod spaces;

use std::collections::HashSet;

use llmpp_core::encoding::{Encoding, Values, genome_of, values_of};
use llmpp_core::error::Error;
use llmpp_core::space::{Description, Space};
use proptest::prelude::*;
use spaces::{active_genes, any_descriptions, any_space, cases, iwslt, samples, wmt};

/// The first architecture of HAT's 'training from scratch' set.
fn published() -> Values {
    vec![
        vec![640],
        vec![6],
        vec![3072, 1024, 3072, 3072, 3072, 2048],
        vec![4, 8, 4, 8, 4, 4],
        vec![512],
        vec![3],
        vec![1024, 3072, 1024],
        vec![8, 8, 4],
        vec![4, 4, 4],
        vec![1, 2, 2],
    ]
}

/// The largest architecture, one layer deep.
fn shallow() -> Values {
    let plain = [512, 6].map(|value| vec![value]).to_vec();
    let encoder = vec![vec![1024; 6], vec![8; 6]];
    let decoder = [640, 1, 3072, 4, 8, 3].map(|value| vec![value]).to_vec();
    [plain, encoder, decoder].concat()
}

fn assert_close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() < 1e-7, "feature {index}: {got}, not {expected}");
    }
}

/// The values of each hyperparameter, from its description alone.
fn read_slowly(space: &Space, descriptions: &[Description], genome: &[u8]) -> Values {
    let active = active_genes(space, descriptions, genome);
    let read = |(description, h): (&Description, &llmpp_core::space::Hyperparameter)| {
        let genes = h.genes().filter(|&gene| active[gene]);
        genes.map(|gene| description.options[usize::from(genome[gene])]).collect()
    };
    descriptions.iter().zip(space.hyperparameters()).map(read).collect()
}

#[test]
fn the_ten_features_of_a_published_architecture_are_those_worked_by_hand() {
    let space = wmt();
    let genome = genome_of(&space, &published()).unwrap();
    let encoder = [1.0, 1.0, 15360.0 / 6.0 / 3072.0, 32.0 / 6.0 / 8.0];
    let decoder = [0.8, 0.5, 5120.0 / 3.0 / 3072.0, 20.0 / 3.0 / 8.0, 0.5, 5.0 / 9.0];
    let expected = [&encoder[..], &decoder[..]].concat();
    assert_close(&Encoding::Averaged.features(&space, &genome), &expected);
}

#[test]
fn the_ten_features_of_a_shallow_decoder_are_those_worked_by_hand() {
    let space = wmt();
    let genome = genome_of(&space, &shallow()).unwrap();
    let expected = [0.8, 1.0, 1.0 / 3.0, 1.0, 1.0, 1.0 / 6.0, 1.0, 0.5, 1.0, 1.0];
    assert_close(&Encoding::Averaged.features(&space, &genome), &expected);
}

#[test]
fn features_per_layer_are_those_worked_by_hand_with_zeros_for_absent_layers() {
    let space = wmt();
    let genome = genome_of(&space, &published()).unwrap();
    let third = 1.0 / 3.0;
    let encoder_ffn = [1.0, third, 1.0, 1.0, 1.0, 2.0 / 3.0];
    let expected = [
        &[1.0, 1.0][..],
        &encoder_ffn,
        &[0.5, 1.0, 0.5, 1.0, 0.5, 0.5],
        &[0.8, 0.5],
        &[third, 1.0, third, 0.0, 0.0, 0.0],
        &[1.0, 1.0, 0.5, 0.0, 0.0, 0.0],
        &[0.5, 0.5, 0.5, 0.0, 0.0, 0.0],
        &[third, 2.0 * third, 2.0 * third, 0.0, 0.0, 0.0],
    ];
    assert_close(&Encoding::PerLayer.features(&space, &genome), &expected.concat());
}

#[test]
fn each_space_is_scaled_by_its_own_largest_options() {
    let space = iwslt();
    let mut values = shallow();
    values[2] = vec![512; 6];
    values[3] = vec![2; 6];
    (values[6], values[7], values[8]) = (vec![2048], vec![4], vec![4]);
    let genome = genome_of(&space, &values).unwrap();
    let expected = [0.8, 1.0, 0.25, 0.5, 1.0, 1.0 / 6.0, 1.0, 1.0, 1.0, 1.0];
    assert_close(&Encoding::Averaged.features(&space, &genome), &expected);
}

#[test]
fn a_value_that_is_no_option_is_named_with_its_layer() {
    let space = wmt();
    let mut values = published();
    values[2][4] = 4096;
    let error = genome_of(&space, &values).unwrap_err();
    assert_eq!(error.to_string(), "`encoder_ffn` of layer 4 is 4096, which is not one of [1024, 2048, 3072]");
    values[0][0] = 513;
    let error = genome_of(&space, &values).unwrap_err();
    assert_eq!(error.to_string(), "`encoder_dim` is 513, which is not one of [512, 640]");
    assert!(matches!(error, Error::NotAnOption { layer: None, value: 513, .. }));
}

#[test]
fn a_list_that_is_not_as_long_as_its_layer_count_is_named() {
    let space = wmt();
    for length in [0, 2, 4, 7] {
        let mut values = published();
        values[9] = vec![1; length];
        let expected = Error::WrongLength { name: "cross_span".to_owned(), got: length, expected: 3 };
        assert_eq!(genome_of(&space, &values), Err(expected));
    }
    let mut values = published();
    values[5] = vec![3, 3];
    let expected = Error::WrongLength { name: "decoder_layers".to_owned(), got: 2, expected: 1 };
    assert_eq!(genome_of(&space, &values), Err(expected));
}

#[test]
fn an_architecture_with_another_number_of_hyperparameters_is_refused() {
    let error = genome_of(&wmt(), &published()[..9]).unwrap_err();
    assert!(matches!(error, Error::Shape { expected: 10, got: 9, .. }), "{error}");
}

#[test]
fn genomes_and_architectures_are_inverse_on_wmt() {
    let space = wmt();
    for genome in samples(&space, 500, 3) {
        assert_eq!(genome_of(&space, &values_of(&space, &genome)), Ok(genome));
    }
    let genome = genome_of(&space, &published()).unwrap();
    assert_eq!(values_of(&space, &genome), published());
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn architectures_and_averages_are_those_of_a_slow_reader(
        descriptions in any_descriptions(), seed: u64,
    ) {
        let space = Space::new(&descriptions).unwrap();
        for genome in samples(&space, 5, seed) {
            let values = read_slowly(&space, &descriptions, &genome);
            prop_assert_eq!(&values_of(&space, &genome), &values);
            let features = Encoding::Averaged.features(&space, &genome);
            prop_assert_eq!(features.len(), descriptions.len());
            for ((list, description), feature) in values.iter().zip(&descriptions).zip(features) {
                let mean = list.iter().map(|&v| f64::from(v)).sum::<f64>() / list.len() as f64;
                let expected = mean / f64::from(*description.options.iter().max().unwrap());
                prop_assert!((f64::from(feature) - expected).abs() < 1e-7, "{feature} {expected}");
                prop_assert!((0.0..=1.0).contains(&feature));
            }
        }
    }

    #[test]
    fn features_per_layer_are_those_of_a_slow_reader(descriptions in any_descriptions(), seed: u64) {
        let space = Space::new(&descriptions).unwrap();
        for genome in samples(&space, 5, seed) {
            let active = active_genes(&space, &descriptions, &genome);
            let features = Encoding::PerLayer.features(&space, &genome);
            prop_assert_eq!(features.len(), space.n_genes());
            for (description, h) in descriptions.iter().zip(space.hyperparameters()) {
                let largest = f64::from(*description.options.iter().max().unwrap());
                for gene in h.genes() {
                    let value = f64::from(description.options[usize::from(genome[gene])]);
                    let expected = if active[gene] { value / largest } else { 0.0 };
                    prop_assert!((f64::from(features[gene]) - expected).abs() < 1e-7, "gene {gene}");
                }
            }
        }
    }

    #[test]
    fn rows_are_encoded_one_by_one(space in any_space(), seed: u64) {
        let genomes = samples(&space, 4, seed);
        for encoding in [Encoding::Averaged, Encoding::PerLayer] {
            let one_by_one: Vec<f32> = genomes.iter().flat_map(|g| encoding.features(&space, g)).collect();
            prop_assert_eq!(encoding.features(&space, &genomes.concat()), one_by_one);
            prop_assert_eq!(encoding.features(&space, &[]), Vec::<f32>::new());
        }
    }

    #[test]
    fn equal_genomes_are_equal_architectures(space in any_space()) {
        let mut architectures = HashSet::new();
        for genome in space.genomes() {
            let values = values_of(&space, &genome);
            prop_assert_eq!(genome_of(&space, &values), Ok(genome));
            prop_assert!(architectures.insert(values));
        }
    }
}
