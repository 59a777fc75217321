//! Networks over whole grids.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use llmpp_core::grid::Grid;
use llmpp_core::mlp::Mlp;
use llmpp_core::sweep::Sweep;
use llmpp_core::weights::Weights;

use crate::networks::{degree_two, normalized};

/// The scores of every cell.
pub fn swept(mlp: &Mlp, grid: &Grid, n_threads: usize) -> Vec<f32> {
    let mut scores = vec![f32::NAN; grid.len()];
    let wanted = vec![true; grid.rows().len()];
    Sweep::new(mlp, grid).unwrap().fill(0, &wanted, &mut scores, n_threads).unwrap();
    scores
}

/// Networks of all shapes that sweeps and ceilings distinguish, for `n` features.
pub fn networks_of(n: usize, seed: u64) -> Vec<Weights> {
    let mut falling = normalized(&[n, 7, 1], seed);
    falling.output_std = -3.0;
    let mut turned = normalized(&[n, 5, 1], seed);
    turned.input_std.iter_mut().for_each(|std| *std = -*std);
    vec![
        falling,
        turned,
        normalized(&[n, 1], seed),
        normalized(&[n, 7, 1], seed),
        normalized(&[n, 16, 1], seed),
        normalized(&[n, 9, 5, 1], seed),
        degree_two(n, &[], seed),
        degree_two(n, &[6], seed),
    ]
}
