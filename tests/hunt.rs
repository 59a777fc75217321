//! A hunt finds what an exact search over every cell finds, though it does not score every cell.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod networks;
mod spaces;
mod sweeps;

use llmpp_core::cost::CostModel;
use llmpp_core::exact::Exact;
use llmpp_core::grid::Grid;
use llmpp_core::hunt::Hunt;
use llmpp_core::kernel::Kernel;
use llmpp_core::measures::{Bounds, Measures};
use llmpp_core::mlp::Mlp;
use llmpp_core::sweep::Sweep;
use networks::{degree_two, network, normalized};
use proptest::prelude::*;
use spaces::{any_space, cases, wmt};
use sweeps::{networks_of, swept};

const LIMIT: u64 = 20_000_000;

/// The scores that a hunt leaves, and which rows it scored.
fn hunted(measures: &Measures, mlp: &Mlp, bounds: Bounds, n: usize) -> (Vec<f32>, Vec<bool>) {
    let grid = measures.grid();
    let sweep = Sweep::new(mlp, grid).unwrap();
    let mut hunt = Hunt::new(measures, &sweep, bounds, n);
    let (mut scores, mut is_scored) = (vec![f32::MAX; grid.len()], vec![false; grid.rows().len()]);
    while hunt.step(&mut scores, &mut is_scored, 2).unwrap() {}
    (scores, is_scored)
}

fn assert_equal_answers(measures: &Measures, mlp: &Mlp, bounds: Bounds, n: usize) -> usize {
    let all = swept(mlp, measures.grid(), 1);
    let every_row = vec![true; measures.grid().rows().len()];
    let whole = Exact::new(measures, &all, &every_row, bounds).unwrap();
    let (scores, is_scored) = hunted(measures, mlp, bounds, n);
    let part = Exact::new(measures, &scores, &is_scored, bounds).unwrap();
    assert_eq!(part.best(n), whole.best(n));
    assert_eq!(part.front(), whole.front());
    assert_eq!(part.ties(), whole.ties());
    is_scored.into_iter().filter(|&is_scored| is_scored).count()
}

/// The costs and the grid of the WMT space.
fn wmt_grid() -> (CostModel, Grid) {
    let space = wmt();
    (CostModel::new(&space, 512, 30, 32768).unwrap(), Grid::new(space, LIMIT).unwrap())
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn no_score_of_a_row_exceeds_its_ceiling(space in any_space(), seed in 0..1000u64) {
        let grid = Grid::new(space, LIMIT).unwrap();
        for weights in networks_of(grid.space().hyperparameters().len(), seed) {
            for kernel in Kernel::available() {
                let mlp = Mlp::with_kernel(weights.clone(), kernel);
                let sweep = Sweep::new(&mlp, &grid).unwrap();
                let scores = swept(&mlp, &grid, 1);
                for row in 0..grid.rows().len() {
                    let best = grid.row_of(&scores, row).iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    prop_assert!(f64::from(best) <= sweep.ceiling(row));
                }
            }
        }
    }
}

#[test]
fn ceilings_hold_on_the_wmt_space_and_are_close() {
    let grid = Grid::new(wmt(), LIMIT).unwrap();
    let mlp = Mlp::new(network(&[10, 32, 1], 5));
    let sweep = Sweep::new(&mlp, &grid).unwrap();
    let scores = swept(&mlp, &grid, 1);
    let (least, most) =
        scores.iter().fold((f32::MAX, f32::MIN), |(low, high), &score| (low.min(score), high.max(score)));
    for row in 0..grid.rows().len() {
        let best = grid.row_of(&scores, row).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let slack = sweep.ceiling(row) - f64::from(best);
        assert!((0.0..f64::from(most - least)).contains(&slack), "row {row}: {slack}");
    }
}

#[test]
fn a_hunt_on_the_wmt_space_misses_nothing() {
    let (cost, grid) = wmt_grid();
    for seed in 0..3 {
        let mlp = Mlp::new(normalized(&[10, 16, 1], seed));
        let latencies = swept(&Mlp::new(degree_two(10, &[], seed + 10)), &grid, 1);
        let mut sorted = latencies.clone();
        sorted.sort_by(f32::total_cmp);
        for share in [1, 3] {
            let latency_ms = f64::from(sorted[sorted.len() / share - 1]);
            let bounds = Bounds { latency_ms, gflops: 6.0, ..Bounds::NONE };
            let measures = Measures::new(&grid, Some(&latencies), &cost).unwrap();
            assert_equal_answers(&measures, &mlp, bounds, 1000);
        }
        let measures = Measures::new(&grid, None, &cost).unwrap();
        assert_equal_answers(&measures, &mlp, Bounds { gflops: 4.0, ..Bounds::NONE }, 10);
    }
}

fn shipped(name: &str) -> Mlp {
    let path = format!("{}/python/llmpp/assets/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    Mlp::from_safetensors(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_hunt_with_a_shipped_student_scores_few_rows() {
    let (cost, grid) = wmt_grid();
    let latencies = swept(&shipped("latency/titan-xp.wmt14.en-de"), &grid, 1);
    let measures = Measures::new(&grid, Some(&latencies), &cost).unwrap();
    for task in ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"] {
        let student = shipped(&format!("students/{task}"));
        let n_scored = assert_equal_answers(&measures, &student, Bounds::NONE, 1000);
        assert!(n_scored < grid.rows().len() / 5, "{n_scored} rows");
    }
}

#[test]
fn a_hunt_for_equal_scores_finds_every_tie() {
    let (cost, grid) = wmt_grid();
    let mut weights = network(&[10, 4, 1], 0);
    weights.layers[1].weight.fill(0.0);
    let measures = Measures::new(&grid, None, &cost).unwrap();
    let n_scored = assert_equal_answers(&measures, &Mlp::new(weights), Bounds::NONE, 10);
    assert_eq!(n_scored, grid.rows().len());
}

#[test]
fn a_hunt_under_bounds_that_nothing_keeps_scores_nothing() {
    let (cost, grid) = wmt_grid();
    let measures = Measures::new(&grid, None, &cost).unwrap();
    let mlp = Mlp::new(network(&[10, 4, 1], 0));
    let bounds = Bounds { gflops: 0.1, ..Bounds::NONE };
    assert_eq!(assert_equal_answers(&measures, &mlp, bounds, 10), 0);
}

#[test]
fn chains_that_are_no_numbers_or_overflow_have_no_ceiling() {
    let grid = Grid::new(wmt(), LIMIT).unwrap();
    let mut huge = network(&[10, 4, 1], 0);
    huge.layers[0].weight.fill(1e38);
    huge.layers[0].bias.fill(f32::MIN);
    let mut endless = network(&[10, 2, 1], 0);
    endless.input_mean[0] = 1.0;
    endless.input_std[0] = 1e-42;
    for unit in endless.layers[0].weight.chunks_mut(10) {
        unit[0] = 0.0;
    }
    for weights in [huge, endless] {
        let mlp = Mlp::new(weights);
        let sweep = Sweep::new(&mlp, &grid).unwrap();
        assert!((0..grid.rows().len()).all(|row| sweep.ceiling(row) == f64::INFINITY));
    }
}

#[test]
fn arrays_of_another_size_are_refused() {
    let (cost, grid) = wmt_grid();
    let measures = Measures::new(&grid, None, &cost).unwrap();
    let mlp = Mlp::new(network(&[10, 4, 1], 0));
    let sweep = Sweep::new(&mlp, &grid).unwrap();
    let mut hunt = Hunt::new(&measures, &sweep, Bounds::NONE, 10);
    let (mut scores, mut marks) = (vec![0.0; grid.len()], vec![false; grid.rows().len()]);
    assert!(hunt.step(&mut scores[1..], &mut marks, 1).is_err());
    assert!(hunt.step(&mut scores, &mut marks[1..], 1).is_err());
}
