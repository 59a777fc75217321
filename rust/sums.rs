//! Sums over layers: which totals the choices of a per-layer hyperparameter reach, and in how many ways.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Additions that are made to list sums before a space counts as too large to list.
const MOST_ADDITIONS: usize = 1 << 24;

/// The sums that a hyperparameter reaches, for every number of layers up to the largest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    options: Vec<u32>,
    /// For each number of layers from 0 on: every sum, ascending, and the number of choices that reach it.
    by_depth: Vec<BTreeMap<u64, u128>>,
}

impl Sums {
    /// Lists the sums of up to `deepest` layers.
    ///
    /// # Errors
    /// When there are too many to list.
    pub fn new(name: &str, options: &[u32], deepest: usize) -> Result<Self> {
        let mut by_depth = vec![BTreeMap::from([(0, 1)])];
        let mut n_additions = 0;
        for shallower in 0..deepest {
            n_additions += by_depth[shallower].len() * options.len();
            if n_additions > MOST_ADDITIONS {
                return Err(Error::TooManySums { name: name.to_owned() });
            }
            let mut deeper = BTreeMap::new();
            for (&sum, &ways) in &by_depth[shallower] {
                for &option in options {
                    let total: &mut u128 = deeper.entry(sum + u64::from(option)).or_default();
                    *total = total.saturating_add(ways);
                }
            }
            by_depth.push(deeper);
        }
        Ok(Self { options: options.to_vec(), by_depth })
    }

    /// The sums of `n_layers` layers, ascending, and in how many ways each is reached.
    pub fn of(&self, n_layers: usize) -> &BTreeMap<u64, u128> {
        &self.by_depth[n_layers]
    }

    /// One choice of option indices that reaches a sum: at every layer the option nearest to what is left per
    /// layer, so that layers are as alike as they can be.
    ///
    /// Empty where the sum is not reached.
    pub fn choice(&self, n_layers: usize, sum: u64) -> Vec<u8> {
        let mut left = sum;
        let mut choice = Vec::with_capacity(n_layers);
        for n_left in (1..=n_layers).rev() {
            let distance = |option: u32| (u64::from(option) * n_left as u64).abs_diff(left);
            let reaches = |option: u32| {
                left.checked_sub(u64::from(option))
                    .is_some_and(|rest| self.of(n_left - 1).contains_key(&rest))
            };
            let fitting = self.options.iter().enumerate().filter(|&(_, &option)| reaches(option));
            let Some((index, &option)) = fitting.min_by_key(|&(_, &option)| (distance(option), option))
            else {
                return Vec::new();
            };
            left -= u64::from(option);
            choice.push(u8::try_from(index).unwrap_or(u8::MAX));
        }
        choice
    }
}
