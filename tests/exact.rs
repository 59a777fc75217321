//! Exact answers against brute force over all genomes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::float_cmp, reason = "exact answers are equal to the bit")]
#![allow(clippy::cast_precision_loss, reason = "small counts")]

mod networks;
mod spaces;
mod sweeps;

use std::collections::HashSet;

use llmpp_core::cost::CostModel;
use llmpp_core::encoding::Encoding;
use llmpp_core::exact::{Exact, Ties};
use llmpp_core::grid::Grid;
use llmpp_core::measures::{Bounds, Measures};
use llmpp_core::mlp::Mlp;
use llmpp_core::space::{Description, Space};
use networks::{degree_two, normalized};
use proptest::prelude::*;
use spaces::{cases, layered, plain, tiny, wmt};
use sweeps::swept;

/// A genome with its figures, computed as evolution computes them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    score: f32,
    latency_ms: f64,
    gflops: f64,
    params_m: f64,
}

/// A space with two MLPs and every genome's figures.
struct Case {
    space: Space,
    cost: CostModel,
    grid: Grid,
    scores: Vec<f32>,
    latencies: Vec<f32>,
    all: Vec<Figures>,
}

impl Case {
    fn new(space: Space, seed: u64, n_levels: u8) -> Self {
        let n = space.hyperparameters().len();
        let cost = CostModel::new(&space, 16, 10, 1000).unwrap();
        let score = Mlp::new(normalized(&[n, 6, 1], seed));
        let latency = Mlp::new(degree_two(n, &[], seed + 1));
        let coarse = |score: f32| if n_levels == 0 { score } else { (score * f32::from(n_levels)).round() };
        let grid = Grid::new(space.clone(), 1 << 20).unwrap();
        let scores = swept(&score, &grid, 1).into_iter().map(coarse).collect();
        let latencies = swept(&latency, &grid, 1);
        let genomes: Vec<Vec<u8>> = space.genomes().collect();
        let figures = |genome: &Vec<u8>| {
            let features = Encoding::Averaged.features(&space, genome);
            let costs = cost.cost(&space, genome);
            Figures {
                score: coarse(score.forward(&features, 1).unwrap()[0]),
                latency_ms: f64::from(latency.forward(&features, 1).unwrap()[0]),
                gflops: costs.flops as f64 / 1e9,
                params_m: costs.params as f64 / 1e6,
            }
        };
        let all = genomes.iter().map(figures).collect();
        Self { cost: cost.clone(), grid, scores, latencies, all, space }
    }

    fn measures(&self, has_latency: bool) -> Measures<'_> {
        Measures::new(&self.grid, has_latency.then_some(&self.latencies[..]), &self.cost).unwrap()
    }

    fn every_row(&self) -> Vec<bool> {
        vec![true; self.grid.rows().len()]
    }

    /// The figures of a cell's genome.
    fn figures(&self, cell: usize) -> Figures {
        let genome = self.grid.genome(cell);
        let costs = self.cost.cost(&self.space, &genome);
        Figures {
            score: self.scores[cell],
            latency_ms: f64::from(self.latencies[cell]),
            gflops: costs.flops as f64 / 1e9,
            params_m: costs.params as f64 / 1e6,
        }
    }

    /// Bounds that a share of all genomes keeps, each of them alone.
    fn bounds(&self, shares: [f64; 3]) -> Bounds {
        let [latency_ms, gflops, params_m] = [
            (shares[0], (|f: &Figures| f.latency_ms) as fn(&Figures) -> f64),
            (shares[1], |f: &Figures| f.gflops),
            (shares[2], |f: &Figures| f.params_m),
        ]
        .map(|(share, of)| quantile(self.all.iter().map(of).collect(), share));
        Bounds { latency_ms, gflops, params_m }
    }

    fn feasible(&self, bounds: &Bounds) -> Vec<Figures> {
        let keeps = |f: &&Figures| {
            f.latency_ms <= bounds.latency_ms && f.gflops <= bounds.gflops && f.params_m <= bounds.params_m
        };
        self.all.iter().filter(keeps).copied().collect()
    }
}

/// A value that the share keeps; nothing keeps a share of 0, everything one of 1.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
    let n_kept = (share * values.len() as f64) as usize;
    if n_kept == 0 { values[0] - 1.0 } else { values[n_kept - 1] }
}

fn best_score(feasible: &[Figures]) -> Option<f32> {
    feasible.iter().map(|f| f.score).max_by(f32::total_cmp)
}

/// Whether the first is as good everywhere and better somewhere.
fn beats(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a != b
}

/// The distinct points that no other beats, smaller being better.
fn front(points: &[Vec<f64>]) -> HashSet<Vec<u64>> {
    let stays = |point: &&Vec<f64>| !points.iter().any(|other| beats(other, point));
    points.iter().filter(stays).map(|point| bits(point)).collect()
}

fn bits(point: &[f64]) -> Vec<u64> {
    point.iter().map(|value| value.to_bits()).collect()
}

fn against_latency(f: &Figures) -> Vec<f64> {
    vec![-f64::from(f.score), f.latency_ms]
}

fn against_flops(f: &Figures) -> Vec<f64> {
    vec![-f64::from(f.score), f.gflops]
}

fn against_both(f: &Figures) -> Vec<f64> {
    vec![-f64::from(f.score), f.latency_ms, f.gflops]
}

/// Small Transformers: what costs need, with few options.
fn small_transformer() -> impl Strategy<Value = Space> {
    let options = |values: Vec<u32>| prop::sample::subsequence(values, 1..=2).prop_shuffle();
    let widths = (options(vec![32, 48, 64]), options(vec![32, 48, 64]));
    let layers = (options(vec![1, 2]), options(vec![1, 2, 3]));
    let choices = (options(vec![64, 96, 160]), options(vec![64, 128]), options(vec![1, 2, 3]));
    (widths, layers, choices)
        .prop_map(|((e, d), (m, n), (f, g, k))| -> Vec<Description> {
            vec![
                plain("encoder_dim", &e),
                plain("encoder_layers", &m),
                layered("encoder_ffn", &f, "encoder_layers"),
                plain("decoder_dim", &d),
                plain("decoder_layers", &n),
                layered("decoder_ffn", &g, "decoder_layers"),
                layered("cross_span", &k, "decoder_layers"),
            ]
        })
        .prop_shuffle()
        .prop_map(|descriptions| Space::new(&descriptions).unwrap())
}

fn shares() -> impl Strategy<Value = [f64; 3]> {
    let share = || prop_oneof![2 => Just(1.0), 3 => 0.1..1.0, 1 => Just(0.0)];
    [share(), share(), share()]
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn exact_answers_are_those_of_brute_force(
        space in small_transformer(), seed in 0..1000u64, shares in shares(), n_levels in 0..3u8,
    ) {
        let case = Case::new(space, seed, n_levels);
        let measures = case.measures(true);
        let bounds = case.bounds(shares);
        let exact = Exact::new(&measures, &case.scores, &case.every_row(), bounds).unwrap();
        let feasible = case.feasible(&bounds);

        let best = exact.best(1).first().map(|&cell| case.figures(cell));
        prop_assert_eq!(best.map(|f| f.score), best_score(&feasible));
        if let Some(best) = best {
            prop_assert!(feasible.contains(&best));
            let tied = feasible.iter().filter(|f| f.score == best.score);
            prop_assert_eq!(exact.ties().n_architectures, tied.clone().count() as u128);
            let least = tied.map(|f| f.latency_ms).fold(f64::INFINITY, f64::min);
            prop_assert_eq!(best.latency_ms, least);
        } else {
            prop_assert_eq!(exact.ties(), Ties { n_vectors: 0, n_architectures: 0 });
        }

        for (found, objectives) in [
            (exact.front(), against_latency as fn(&Figures) -> Vec<f64>),
            (exact.wide_front(), against_both),
        ] {
            let n_found = found.len();
            let points: HashSet<_> = found.into_iter().map(|cell| bits(&objectives(&case.figures(cell)))).collect();
            prop_assert_eq!(points.len(), n_found);
            let all: Vec<_> = feasible.iter().map(objectives).collect();
            prop_assert_eq!(points, front(&all));
        }
    }

    #[test]
    fn without_latencies_the_front_is_against_flops(
        space in small_transformer(), seed in 0..1000u64, shares in shares(),
    ) {
        let case = Case::new(space, seed, 0);
        let measures = case.measures(false);
        let bounds = Bounds { latency_ms: f64::INFINITY, ..case.bounds(shares) };
        let exact = Exact::new(&measures, &case.scores, &case.every_row(), bounds).unwrap();
        let feasible: Vec<_> = case.feasible(&bounds).iter().map(against_flops).collect();
        let found: HashSet<_> =
            exact.front().into_iter().map(|cell| bits(&against_flops(&case.figures(cell)))).collect();
        prop_assert_eq!(found, front(&feasible));
    }

    #[test]
    fn the_best_are_in_order_and_none_is_missing(
        space in small_transformer(), seed in 0..1000u64, shares in shares(), n in 1..40usize, n_levels in 0..3u8,
    ) {
        let case = Case::new(space, seed, n_levels);
        let measures = case.measures(true);
        let bounds = case.bounds(shares);
        let best = Exact::new(&measures, &case.scores, &case.every_row(), bounds).unwrap().best(n);
        let key = |cell: usize| (-f64::from(case.scores[cell]), f64::from(case.latencies[cell]), cell);
        let mut expected: Vec<usize> = (0..case.grid.len()).filter(|&cell| {
            let f = case.figures(cell);
            f.latency_ms <= bounds.latency_ms && f.gflops <= bounds.gflops && f.params_m <= bounds.params_m
        }).collect();
        expected.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap());
        expected.truncate(n);
        prop_assert_eq!(best, expected);
    }

    #[test]
    fn a_spread_is_distinct_feasible_and_as_large_as_asked_for(
        space in small_transformer(), seed in 0..1000u64, shares in shares(), n in 1..60usize, n_slices in 1..6usize,
    ) {
        let case = Case::new(space, seed, 0);
        let measures = case.measures(true);
        let bounds = case.bounds(shares);
        let exact = Exact::new(&measures, &case.scores, &case.every_row(), bounds).unwrap();
        let spread = exact.spread(n, n_slices);
        let feasible: HashSet<usize> = exact.best(case.grid.len()).into_iter().collect();
        prop_assert_eq!(spread.iter().copied().collect::<HashSet<_>>().len(), spread.len());
        prop_assert!(spread.iter().all(|cell| feasible.contains(cell)));
        prop_assert_eq!(spread.len(), n.min(feasible.len()));
        prop_assert_eq!(spread.first().copied(), exact.best(1).first().copied());
    }

    #[test]
    fn the_smallest_measures_are_those_of_all_genomes(space in small_transformer(), seed in 0..1000u64) {
        let case = Case::new(space, seed, 0);
        let least = |of: fn(&Figures) -> f64| case.all.iter().map(of).fold(f64::INFINITY, f64::min);
        let expected = vec![least(|f| f.latency_ms), least(|f| f.gflops), least(|f| f.params_m)];
        prop_assert_eq!(case.measures(false).smallest(), &expected[1..]);
        prop_assert_eq!(case.measures(true).smallest(), expected);
    }
}

#[test]
fn flops_and_parameters_are_functions_of_the_features() {
    for space in [tiny(), wmt()] {
        let cost = CostModel::new(&space, 512, 30, 32768).unwrap();
        let grid = Grid::new(space.clone(), 1 << 24).unwrap();
        for cell in (0..grid.len()).step_by(grid.len() / 4) {
            let mut scores = vec![0.0; grid.len()];
            scores[cell] = 1.0;
            let measures = Measures::new(&grid, None, &cost).unwrap();
            let every_row = vec![true; grid.rows().len()];
            let costs = cost.cost(&space, &grid.genome(cell));
            let own = Bounds {
                gflops: costs.flops as f64 / 1e9,
                params_m: costs.params as f64 / 1e6,
                ..Bounds::NONE
            };
            assert_eq!(Exact::new(&measures, &scores, &every_row, own).unwrap().best(1), [cell]);
            for tighter in [
                Bounds { gflops: own.gflops.next_down(), ..own },
                Bounds { params_m: own.params_m.next_down(), ..own },
            ] {
                assert_ne!(Exact::new(&measures, &scores, &every_row, tighter).unwrap().best(1), [cell]);
            }
        }
    }
}

#[test]
fn rows_that_were_not_scored_are_no_candidates() {
    let case = Case::new(tiny(), 0, 0);
    let width = case.grid.columns().len();
    let measures = case.measures(true);
    let mut is_scored = case.every_row();
    let best = Exact::new(&measures, &case.scores, &is_scored, Bounds::NONE).unwrap().best(1)[0];
    is_scored[best / width] = false;
    let exact = Exact::new(&measures, &case.scores, &is_scored, Bounds::NONE).unwrap();
    assert_eq!(exact.best(usize::MAX).len(), case.grid.len() - width);
    assert!(exact.front().iter().chain(&exact.wide_front()).all(|cell| cell / width != best / width));
}

#[test]
fn constant_scores_tie_everywhere() {
    let case = Case::new(tiny(), 0, 0);
    let scores = vec![1.5; case.grid.len()];
    let measures = case.measures(true);
    let exact = Exact::new(&measures, &scores, &case.every_row(), Bounds::NONE).unwrap();
    let n_architectures = case.space.n_architectures().unwrap();
    assert_eq!(exact.ties(), Ties { n_vectors: case.grid.len() as u64, n_architectures });
    assert_eq!(exact.front(), exact.best(1), "the fastest of equals beats the others");
}

#[test]
fn columns_of_another_length_are_refused() {
    let case = Case::new(tiny(), 0, 0);
    assert!(Measures::new(&case.grid, Some(&case.latencies[1..]), &case.cost).is_err());
    let measures = case.measures(true);
    assert!(Exact::new(&measures, &case.scores[1..], &case.every_row(), Bounds::NONE).is_err());
    assert!(Exact::new(&measures, &case.scores, &case.every_row()[1..], Bounds::NONE).is_err());
}

#[test]
fn rows_within_bounds_hold_every_feasible_cell() {
    let case = Case::new(tiny(), 1, 0);
    let bounds = case.bounds([0.3, 0.6, 0.9]);
    let measures = case.measures(true);
    let within = measures.rows_within(&bounds);
    let exact = Exact::new(&measures, &case.scores, &case.every_row(), bounds).unwrap();
    let width = case.grid.columns().len();
    assert!(exact.best(usize::MAX).iter().all(|cell| within[cell / width]));
    assert!(within.iter().any(|is_within| !is_within), "some rows are skipped");
}

#[test]
fn a_front_of_every_cell_is_found_in_time() {
    let space = wmt();
    let cost = CostModel::new(&space, 512, 30, 32768).unwrap();
    let grid = Grid::new(space, 1 << 24).unwrap();
    let rising: Vec<f32> = (0..grid.len()).map(|cell| cell as f32).collect();
    let measures = Measures::new(&grid, Some(&rising), &cost).unwrap();
    let exact = Exact::new(&measures, &rising, &vec![true; grid.rows().len()], Bounds::NONE).unwrap();
    assert_eq!(exact.front().len(), grid.len());
    assert_eq!(exact.wide_front().len(), grid.len());
}
