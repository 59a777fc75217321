//! The grid lists every feature vector once, and an MLP over the grid scores as its forward pass does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod networks;
mod spaces;
mod sweeps;

use std::collections::{BTreeMap, BTreeSet};

use llmpp_core::encoding::{Encoding, values_of};
use llmpp_core::error::Error;
use llmpp_core::grid::Grid;
use llmpp_core::kernel::Kernel;
use llmpp_core::mlp::Mlp;
use llmpp_core::space::Space;
use llmpp_core::sweep::Sweep;
use networks::{network, normalized};
use proptest::prelude::*;
use spaces::{any_space, cases, iwslt, layered, plain, tiny, wmt};
use sweeps::{networks_of, swept};

const LIMIT: u64 = 20_000_000;

/// What an averaging predictor may know of a genome: sums over layers and layer counts, without rounding.
fn sums(space: &Space, genome: &[u8]) -> Vec<(usize, u64)> {
    let sum = |values: &Vec<u32>| (values.len(), values.iter().copied().map(u64::from).sum());
    values_of(space, genome).iter().map(sum).collect()
}

fn row_features(grid: &Grid, row: usize) -> Vec<f32> {
    let mut features = vec![0.0; grid.columns().len() * grid.space().hyperparameters().len()];
    grid.write_features(row, &mut features);
    features
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().copied().map(f32::to_bits).collect()
}

/// What the forward pass makes of every cell.
fn forwarded(mlp: &Mlp, grid: &Grid) -> Vec<f32> {
    let rows = 0..grid.rows().len();
    rows.flat_map(|row| mlp.forward(&row_features(grid, row), 1).unwrap()).collect()
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn every_genome_belongs_to_exactly_one_cell(space in any_space()) {
        let grid = Grid::new(space.clone(), LIMIT).unwrap();
        let mut n_genomes = BTreeMap::new();
        for genome in space.genomes() {
            *n_genomes.entry(sums(&space, &genome)).or_insert(0u128) += 1;
        }
        prop_assert_eq!(grid.len(), n_genomes.len());
        let sizes = [grid.rows().len() as u128, grid.columns().len() as u128];
        prop_assert_eq!(Grid::sizes(&space), Ok(sizes));
        for cell in 0..grid.len() {
            let genome = grid.genome(cell);
            prop_assert_eq!(space.validate(&genome), Ok(()));
            let mut normal = genome.clone();
            space.normalize(&mut normal);
            prop_assert_eq!(&normal, &genome);
            prop_assert_eq!(n_genomes.remove(&sums(&space, &genome)), Some(grid.n_architectures(cell)));
        }
        prop_assert!(n_genomes.is_empty());
    }

    #[test]
    fn a_cell_has_the_features_of_its_genome(space in any_space()) {
        let grid = Grid::new(space.clone(), LIMIT).unwrap();
        let genomes: Vec<u8> = (0..grid.len()).flat_map(|cell| grid.genome(cell)).collect();
        let features: Vec<f32> = (0..grid.rows().len()).flat_map(|row| row_features(&grid, row)).collect();
        prop_assert_eq!(bits(&features), bits(&Encoding::Averaged.features(&space, &genomes)));
    }

    #[test]
    fn a_sweep_scores_every_cell_as_the_forward_pass_does(space in any_space(), seed in 0..1000u64) {
        let grid = Grid::new(space, LIMIT).unwrap();
        for weights in networks_of(grid.space().hyperparameters().len(), seed) {
            for kernel in Kernel::available() {
                let mlp = Mlp::with_kernel(weights.clone(), kernel);
                prop_assert_eq!(bits(&swept(&mlp, &grid, 1)), bits(&forwarded(&mlp, &grid)));
            }
        }
    }
}

#[test]
fn the_wmt_space_has_5_717_348_feature_vectors() {
    for space in [wmt(), iwslt()] {
        let grid = Grid::new(space.clone(), LIMIT).unwrap();
        assert_eq!(Grid::sizes(&space), Ok([grid.rows().len() as u128, grid.columns().len() as u128]));
        let total: u128 = (0..grid.len()).map(|cell| grid.n_architectures(cell)).sum();
        assert_eq!(Ok(total), space.n_architectures());
    }
    let grid = Grid::new(wmt(), LIMIT).unwrap();
    assert_eq!((grid.len(), grid.rows().len(), grid.columns().len()), (5_717_348, 15_707, 364));
}

#[test]
fn a_sweep_of_the_wmt_space_does_not_depend_on_threads() {
    let grid = Grid::new(wmt(), LIMIT).unwrap();
    let mlp = Mlp::new(normalized(&[10, 32, 1], 3));
    let scores = swept(&mlp, &grid, 1);
    assert_eq!(bits(&scores), bits(&swept(&mlp, &grid, 3)));
    for row in (0..grid.rows().len()).step_by(997) {
        let expected = mlp.forward(&row_features(&grid, row), 1).unwrap();
        assert_eq!(bits(&scores[row * 364..][..364]), bits(&expected));
    }
}

#[test]
fn rows_that_are_not_wanted_are_not_scored() {
    let grid = Grid::new(wmt(), LIMIT).unwrap();
    let mlp = Mlp::new(network(&[10, 1], 0));
    let mut scores = vec![0.0; 3 * 364];
    Sweep::new(&mlp, &grid).unwrap().fill(70, &[true, false, true], &mut scores, 1).unwrap();
    assert_eq!(bits(&scores[..364]), bits(&mlp.forward(&row_features(&grid, 70), 1).unwrap()));
    assert_eq!(scores[364..728], [0.0; 364]);
    assert_eq!(bits(&scores[728..]), bits(&mlp.forward(&row_features(&grid, 72), 1).unwrap()));
}

#[test]
fn layers_of_a_cells_architecture_are_as_alike_as_they_can_be() {
    let space = Space::new(&[plain("n", &[4]), layered("x", &[1, 2, 3], "n")]).unwrap();
    let grid = Grid::new(space.clone(), LIMIT).unwrap();
    let found: BTreeSet<Vec<u32>> =
        (0..grid.len()).map(|cell| values_of(&space, &grid.genome(cell))[1].clone()).collect();
    let even = |sum: u32| {
        let mut layers: Vec<u32> = (0..4).map(|layer| (sum + layer) / 4).collect();
        layers.sort_unstable();
        layers
    };
    let sorted: BTreeSet<Vec<u32>> = found
        .into_iter()
        .map(|mut layers| {
            layers.sort_unstable();
            layers
        })
        .collect();
    assert_eq!(sorted, (4..=12).map(even).collect());
}

#[test]
fn a_space_beyond_the_limit_is_counted_and_refused() {
    let limit = 5_717_347;
    assert_eq!(Grid::new(wmt(), limit).unwrap_err(), Error::TooManyVectors { count: 5_717_348, limit });
    assert!(Grid::new(wmt(), limit + 1).is_ok());
}

#[test]
fn a_space_whose_sums_cannot_be_listed_is_refused() {
    let options: Vec<u32> = (0..24).map(|power| 1 << power).collect();
    let space = Space::new(&[plain("n", &[1024]), layered("x", &options, "n")]).unwrap();
    assert_eq!(Grid::sizes(&space), Err(Error::TooManySums { name: "x".to_owned() }));
}

#[test]
fn an_mlp_of_other_features_is_refused() {
    let grid = Grid::new(tiny(), LIMIT).unwrap();
    let mlp = Mlp::new(network(&[10, 1], 0));
    assert!(matches!(Sweep::new(&mlp, &grid).unwrap_err(), Error::Shape { expected: 7, got: 10, .. }));
}

#[test]
fn scores_that_are_not_finite_are_refused() {
    let mut weights = network(&[10, 4, 1], 0);
    weights.layers[1].bias[0] = f32::MAX;
    weights.output_std = 10.0;
    let (mlp, grid) = (Mlp::new(weights), Grid::new(wmt(), LIMIT).unwrap());
    let mut scores = vec![0.0; 364];
    for n_threads in [1, 2] {
        let error = Sweep::new(&mlp, &grid).unwrap().fill(0, &[true], &mut scores, n_threads).unwrap_err();
        assert!(matches!(error, Error::NotFinite { index: 0, .. }), "{error}");
    }
}

#[test]
fn rows_beyond_the_grid_and_parts_of_rows_are_refused() {
    let grid = Grid::new(tiny(), LIMIT).unwrap();
    let mlp = Mlp::new(network(&[7, 1], 0));
    let sweep = Sweep::new(&mlp, &grid).unwrap();
    let (n_rows, width) = (grid.rows().len(), grid.columns().len());
    let mut out = vec![0.0; 2 * width];
    assert!(sweep.fill(n_rows - 1, &[true; 2], &mut out, 1).is_err());
    assert!(sweep.fill(0, &[true], &mut out, 1).is_err());
    assert!(sweep.fill(0, &[true; 2], &mut out[1..], 1).is_err());
    assert_eq!(grid.len(), n_rows * width);
    let beyond = grid.len() as u64;
    assert!(grid.validate(&[0, beyond - 1]).is_ok() && grid.validate(&[beyond]).is_err());
}
