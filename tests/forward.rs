//! Inference: every kernel computes what plain loops compute, and a row's score is its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small counts")]

mod networks;
mod spaces;

use llmpp_core::error::Error;
use llmpp_core::kernel::{Kernel, LANES};
use llmpp_core::mlp::Mlp;
use llmpp_core::rng::Stream;
use llmpp_core::weights::Weights;
use networks::{degree_two, network, normalized, score, uniform, uniforms};
use proptest::prelude::*;
use spaces::cases;

/// Widths at, below and above whole panels of lanes, and the paper's.
const WIDTHS: [usize; 9] = [1, 2, 15, 16, 17, 33, 64, 100, 400];
/// Batches of no whole tile, many tiles, and about one and two blocks.
const BATCHES: [usize; 11] = [1, 2, 5, 6, 7, 12, 19, 95, 96, 97, 193];

fn rows(n: usize, width: usize, seed: u64) -> Vec<f32> {
    uniforms(n * width, &mut Stream::new(seed, 9, 0))
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().copied().map(f32::to_bits).collect()
}

fn forward(weights: &Weights, kernel: Kernel, features: &[f32]) -> Vec<f32> {
    Mlp::with_kernel(weights.clone(), kernel).forward(features, 1).unwrap()
}

/// Kernels that fuse multiply-adds: all but the plain one of x86-64.
fn fused() -> Vec<Kernel> {
    let is_plain_fused = cfg!(target_arch = "aarch64");
    Kernel::available().into_iter().filter(|kernel| is_plain_fused || kernel.name() != "plain").collect()
}

/// Compares every kernel with the plain loops, within 1e-5 of the scale of the scores.
fn assert_agrees(weights: &Weights, features: &[f32]) {
    let expected: Vec<f64> = features.chunks(weights.n_features).map(|row| score(weights, row)).collect();
    let largest = expected.iter().fold(1.0, |largest: f64, score| largest.max(score.abs()));
    for kernel in Kernel::available() {
        let got = forward(weights, kernel, features);
        assert_eq!(got.len(), expected.len());
        for (row, (&got, expected)) in got.iter().zip(&expected).enumerate() {
            let difference = (f64::from(got) - expected).abs();
            assert!(difference <= 1e-5 * largest, "{} row {row}: {got}, not {expected}", kernel.name());
        }
    }
}

#[test]
fn every_kernel_agrees_with_plain_loops_on_every_width() {
    for (seed, hidden) in WIDTHS.into_iter().enumerate() {
        let weights = network(&[10, hidden, 1], seed as u64);
        assert_agrees(&weights, &rows(13, 10, seed as u64));
        let weights = network(&[hidden, hidden, 1], seed as u64);
        assert_agrees(&weights, &rows(13, hidden, seed as u64));
    }
}

#[test]
fn every_kernel_agrees_with_plain_loops_on_every_batch() {
    let weights = normalized(&[10, 33, 17, 1], 1);
    for n_rows in (1..=20).chain(BATCHES) {
        assert_agrees(&weights, &rows(n_rows, 10, n_rows as u64));
    }
}

#[test]
fn every_kernel_agrees_with_plain_loops_on_the_papers_widths() {
    let weights = normalized(&[10, 400, 400, 400, 400, 1], 2);
    for n_rows in [1, 6, 97] {
        assert_agrees(&weights, &rows(n_rows, 10, 3));
    }
}

#[test]
fn a_single_layer_is_a_line() {
    for width in WIDTHS {
        assert_agrees(&normalized(&[width, 1], 4), &rows(9, width, 4));
    }
}

#[test]
fn products_are_those_of_features_and_of_the_constant_one() {
    let weights = degree_two(10, &[], 5);
    assert_agrees(&weights, &rows(98, 10, 5));
    let mut by_hand = network(&[3, 1], 0);
    by_hand.n_features = 2;
    by_hand.products = Some(vec![[0, 1], [2, 0], [2, 2]]);
    by_hand.layers[0].weight = vec![1.0, 10.0, 100.0];
    by_hand.layers[0].bias = vec![0.5];
    let scores = Mlp::new(by_hand).forward(&[2.0, 3.0, -1.0, 4.0], 1).unwrap();
    assert_eq!(scores, [6.0 + 20.0 + 100.5, -4.0 - 10.0 + 100.5]);
}

#[test]
fn more_products_than_features_and_fewer_both_fit() {
    assert_agrees(&degree_two(10, &[32], 6), &rows(97, 10, 6));
    let mut few = normalized(&[1, 5, 1], 7);
    (few.n_features, few.products) = (4, Some(vec![[3, 4]]));
    assert_agrees(&few, &rows(97, 4, 7));
}

#[test]
fn moments_are_applied_as_they_are_named() {
    let mut weights = network(&[1, 1], 0);
    weights.layers[0].weight = vec![1.0];
    weights.layers[0].bias = vec![0.0];
    (weights.input_mean, weights.input_std) = (vec![3.0], vec![2.0]);
    (weights.output_mean, weights.output_std) = (100.0, 10.0);
    assert_eq!(Mlp::new(weights).forward(&[7.0, 1.0], 1).unwrap(), [120.0, 90.0]);
}

#[test]
fn fused_kernels_agree_to_the_bit() {
    for widths in [&[10, 400, 400, 1][..], &[10, 33, 17, 1], &[15, 1], &[33, 16, 1]] {
        let weights = normalized(widths, 8);
        for n_rows in BATCHES {
            let features = rows(n_rows, widths[0], 8);
            let mut scores = fused().into_iter().map(|kernel| bits(&forward(&weights, kernel, &features)));
            if let Some(first) = scores.next() {
                assert!(scores.all(|other| other == first), "{widths:?} {n_rows}");
            }
        }
    }
}

#[test]
fn a_score_depends_neither_on_the_batch_nor_on_the_threads() {
    for kernel in Kernel::available() {
        let mlp = Mlp::with_kernel(normalized(&[10, 64, 33, 1], 9), kernel);
        let features = rows(700, 10, 9);
        let one_by_one: Vec<f32> = features.chunks(10).flat_map(|row| mlp.forward(row, 1).unwrap()).collect();
        for n_threads in [0, 1, 2, 3, 8, 1000] {
            for n_rows in [1, 96, 97, 193, 288, 700] {
                let scores = mlp.forward(&features[..n_rows * 10], n_threads).unwrap();
                assert_eq!(bits(&scores), bits(&one_by_one[..n_rows]), "{n_rows} rows, {n_threads} threads");
            }
        }
    }
}

#[test]
fn zeros_among_features_are_skipped_without_a_difference() {
    let weights = network(&[10, 33, 1], 10);
    let mut features = rows(25, 10, 10);
    features.iter_mut().step_by(3).for_each(|feature| *feature = 0.0);
    features[..20].fill(0.0);
    features[20..30].fill(-0.0);
    assert_agrees(&weights, &features);
    for kernel in Kernel::available() {
        let together = forward(&weights, kernel, &features);
        let alone: Vec<f32> = features.chunks(10).flat_map(|row| forward(&weights, kernel, row)).collect();
        assert_eq!(bits(&together), bits(&alone), "{}", kernel.name());
    }
}

#[test]
fn no_rows_have_no_scores() {
    let mlp = Mlp::new(network(&[10, 32, 1], 11));
    for n_threads in [0, 1, 4] {
        assert_eq!(mlp.forward(&[], n_threads), Ok(vec![]));
    }
}

#[test]
fn a_part_of_a_row_is_refused() {
    let mlp = Mlp::new(network(&[10, 32, 1], 12));
    for length in [1, 9, 11, 25] {
        let error = mlp.forward(&vec![0.0; length], 1).unwrap_err();
        assert!(matches!(error, Error::Shape { expected: 0, got, .. } if got == length % 10), "{error}");
    }
}

#[test]
fn a_feature_that_is_not_finite_is_refused_with_its_position() {
    let mlp = Mlp::new(network(&[10, 32, 1], 14));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut features = rows(97, 10, 14);
        features[961] = value;
        let message = mlp.forward(&features, 2).unwrap_err().to_string();
        assert_eq!(message, format!("feature 961 is {value}, but must be a finite number"));
    }
}

#[test]
fn widths_count_products_and_n_features_does_not() {
    let mlp = Mlp::new(degree_two(3, &[20, 7], 13));
    let n_products = 4 + 3 + 2 + 1;
    assert_eq!((mlp.n_features(), mlp.widths()), (3, vec![n_products, 20, 7, 1]));
}

#[test]
fn the_best_kernel_is_the_last_available_one() {
    assert_eq!(Kernel::available().last(), Some(&Kernel::best()));
    assert_eq!(Kernel::available()[0].name(), "plain");
    assert_eq!(LANES, 16, "the widths above lie around whole panels");
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn kernels_agree_with_plain_loops_on_random_networks(
        n_inputs in 1..40usize, hidden in prop::collection::vec(1..50usize, 0..4),
        n_rows in 1..30usize, seed: u64, is_sparse: bool,
    ) {
        let widths: Vec<usize> = [n_inputs].into_iter().chain(hidden).chain([1]).collect();
        let weights = normalized(&widths, seed);
        let mut stream = Stream::new(seed, 2, 0);
        let mut feature = || if is_sparse && stream.chance(0.5) { 0.0 } else { uniform(&mut stream) };
        let features: Vec<f32> = (0..n_rows * n_inputs).map(|_| feature()).collect();
        assert_agrees(&weights, &features);
    }
}
