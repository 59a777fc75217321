//! Every feature vector of a space, as a grid.
//!
//! Under [`Encoding::Averaged`](crate::encoding::Encoding::Averaged) a predictor sees of each per-layer
//! hyperparameter only the sum over its layers. A layer count with the hyperparameters it counts is a *group*;
//! groups vary independently, so the feature vectors are the product of the groups' own. The grid is that product
//! in two halves: its rows are the vectors of the later groups, its columns those of the earlier ones. A *cell* is
//! one feature vector; cells are numbered row by row.

use crate::encoding::averaged;
use crate::error::{Error, Result};
use crate::space::Space;
use crate::sums::Sums;

/// The vectors of some groups, in the order of counting.
#[derive(Debug, Clone, PartialEq)]
pub struct Half {
    /// The hyperparameters, by position in the space.
    members: Vec<usize>,
    /// For each vector and member: its value, or its sum over the layers. `(n, n_members)` row by row.
    totals: Vec<u64>,
    /// For each vector, how many choices lead to it.
    ways: Vec<u128>,
    /// For each vector and member the feature, `(n, n_members)` row by row.
    features: Vec<f32>,
}

/// Every feature vector of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    space: Space,
    /// The sums of each per-layer hyperparameter; none for plain ones.
    sums: Vec<Option<Sums>>,
    columns: Half,
    rows: Half,
}

impl Half {
    /// The number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ways.len()
    }

    /// Whether there is no vector; never so in a grid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// The hyperparameters, by position in the space.
    #[must_use]
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// The values and sums of one vector, in the order of the members.
    #[must_use]
    pub fn totals(&self, vector: usize) -> &[u64] {
        &self.totals[vector * self.members.len()..][..self.members.len()]
    }

    /// The features of one vector, in the order of the members.
    #[must_use]
    pub fn features(&self, vector: usize) -> &[f32] {
        &self.features[vector * self.members.len()..][..self.members.len()]
    }

    /// The product of groups.
    fn of(space: &Space, sums: &[Option<Sums>], groups: &[Vec<usize>]) -> Self {
        let mut half = Self::one();
        for group in groups {
            half = half.times(&Self::of_group(space, sums, group));
        }
        half.features = half.scaled(space);
        half
    }

    /// One vector of no hyperparameter.
    fn one() -> Self {
        Self { members: Vec::new(), totals: Vec::new(), ways: vec![1], features: Vec::new() }
    }

    /// The vectors of a layer count and what it counts, or of another plain hyperparameter.
    fn of_group(space: &Space, sums: &[Option<Sums>], group: &[usize]) -> Self {
        let mut all = Self { members: group.to_vec(), ways: Vec::new(), ..Self::one() };
        for &option in group.first().map_or(&[][..], |&head| space.hyperparameters()[head].options()) {
            let mut at_depth =
                Self { members: group[..1].to_vec(), totals: vec![option.into()], ..Self::one() };
            for (&member, sums) in group.iter().filter_map(|member| Some((member, sums[*member].as_ref()?))) {
                let (totals, ways) = sums.of(option as usize).iter().unzip();
                at_depth =
                    at_depth.times(&Self { members: vec![member], totals, ways, features: Vec::new() });
            }
            all.totals.extend(at_depth.totals);
            all.ways.extend(at_depth.ways);
        }
        all
    }

    /// This half's vectors, each joined with every vector of another one.
    fn times(&self, other: &Self) -> Self {
        let mut product = Self {
            members: [&self.members[..], &other.members].concat(),
            totals: Vec::with_capacity(self.len() * other.len() * (self.members.len() + other.members.len())),
            ways: Vec::with_capacity(self.len() * other.len()),
            features: Vec::new(),
        };
        for (first, &ways) in self.ways.iter().enumerate() {
            for (second, &more) in other.ways.iter().enumerate() {
                product.totals.extend_from_slice(self.totals(first));
                product.totals.extend_from_slice(other.totals(second));
                product.ways.push(ways.saturating_mul(more));
            }
        }
        product
    }

    /// The position among the members of the layer count of each one, where it has layers.
    fn depths(&self, space: &Space) -> Vec<Option<usize>> {
        let position = |depth| self.members.iter().position(|&other| other == depth);
        self.members.iter().map(|&member| space.depth_of(member).and_then(position)).collect()
    }

    /// The features of all vectors.
    #[expect(clippy::cast_precision_loss, reason = "sums of at most 2^10 values below 2^32 are exact")]
    fn scaled(&self, space: &Space) -> Vec<f32> {
        let depths = self.depths(space);
        let largest: Vec<u32> =
            self.members.iter().map(|&member| space.hyperparameters()[member].largest()).collect();
        let mut features = Vec::with_capacity(self.totals.len());
        for totals in self.totals.chunks_exact(self.members.len().max(1)) {
            for ((&total, depth), &largest) in totals.iter().zip(&depths).zip(&largest) {
                features.push(averaged(total as f64, n_layers(totals, *depth), largest));
            }
        }
        features
    }
}

/// The layers over which a total is a sum; 1 for that of a plain hyperparameter.
fn n_layers(totals: &[u64], depth: Option<usize>) -> usize {
    depth.map_or(1, |position| usize::try_from(totals[position]).unwrap_or(usize::MAX))
}

impl Grid {
    /// Lists the vectors of a space, counted before they are listed.
    ///
    /// # Errors
    /// When there are more than `limit`.
    pub fn new(space: Space, limit: u64) -> Result<Self> {
        let groups = groups_of(&space);
        let sums = sums_of(&space)?;
        let sizes: Vec<u128> = groups.iter().map(|group| size_of(&space, &sums, group)).collect();
        let count = sizes.iter().fold(1u128, |product, &size| product.saturating_mul(size));
        if count > u128::from(limit) {
            return Err(Error::TooManyVectors { count, limit });
        }
        let (earlier, later) = groups.split_at(even_split(&sizes));
        let columns = Half::of(&space, &sums, earlier);
        let rows = Half::of(&space, &sums, later);
        Ok(Self { space, sums, columns, rows })
    }

    /// Counts the rows and columns that the grid of a space has, without listing them.
    ///
    /// # Errors
    /// When not even the sums of one hyperparameter can be listed.
    pub fn sizes(space: &Space) -> Result<[u128; 2]> {
        let sums = sums_of(space)?;
        let sizes: Vec<u128> =
            groups_of(space).into_iter().map(|group| size_of(space, &sums, &group)).collect();
        let (earlier, later) = sizes.split_at(even_split(&sizes));
        Ok([later, earlier].map(|sizes| sizes.iter().copied().fold(1, u128::saturating_mul)))
    }

    /// The space.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The half that changes from column to column.
    #[must_use]
    pub fn columns(&self) -> &Half {
        &self.columns
    }

    /// The half that changes from row to row.
    #[must_use]
    pub fn rows(&self) -> &Half {
        &self.rows
    }

    /// The number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Whether there is no cell; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row and the column of a cell.
    #[must_use]
    pub fn halves(&self, cell: usize) -> (usize, usize) {
        (cell / self.columns.len(), cell % self.columns.len())
    }

    /// The part of a column of numbers, one per cell, that belongs to a row.
    ///
    /// # Panics
    /// When there is not one number per cell.
    #[must_use]
    pub fn row_of<'a, T>(&self, numbers: &'a [T], row: usize) -> &'a [T] {
        &numbers[row * self.columns.len()..][..self.columns.len()]
    }

    /// Checks that cells exist.
    ///
    /// # Errors
    /// When one does not.
    pub fn validate(&self, cells: &[u64]) -> Result<()> {
        let outside = cells.iter().find(|&&cell| cell >= self.len() as u64);
        outside.map_or(Ok(()), |&cell| {
            let got = usize::try_from(cell).unwrap_or(usize::MAX);
            Err(Error::Shape { what: "a feature vector beyond the last", expected: self.len() - 1, got })
        })
    }

    /// Writes the features of one row's cells, `(n_columns, n_features)` row by row.
    pub fn write_features(&self, row: usize, features: &mut [f32]) {
        let width = self.columns.members.len() + self.rows.members.len();
        for (column, out) in features.chunks_exact_mut(width).enumerate() {
            for (half, vector) in [(&self.columns, column), (&self.rows, row)] {
                for (&member, &feature) in half.members.iter().zip(half.features(vector)) {
                    out[member] = feature;
                }
            }
        }
    }

    /// How many architectures have a cell's features.
    #[must_use]
    pub fn n_architectures(&self, cell: usize) -> u128 {
        let (row, column) = self.halves(cell);
        self.rows.ways[row].saturating_mul(self.columns.ways[column])
    }

    /// The genome of one architecture that has a cell's features: the one whose layers are as alike as can be.
    #[must_use]
    pub fn genome(&self, cell: usize) -> Vec<u8> {
        let (row, column) = self.halves(cell);
        let mut genome = vec![0; self.space.n_genes()];
        for (half, vector) in [(&self.columns, column), (&self.rows, row)] {
            let totals = half.totals(vector);
            for ((&member, &total), depth) in half.members.iter().zip(totals).zip(half.depths(&self.space)) {
                let choice = self.choice(member, n_layers(totals, depth), total);
                let start = self.space.hyperparameters()[member].genes().start;
                genome[start..start + choice.len()].copy_from_slice(&choice);
            }
        }
        genome
    }

    fn choice(&self, member: usize, n_layers: usize, total: u64) -> Vec<u8> {
        if let Some(sums) = &self.sums[member] {
            return sums.choice(n_layers, total);
        }
        let options = self.space.hyperparameters()[member].options();
        let index = options.iter().position(|&option| u64::from(option) == total);
        vec![index.and_then(|index| u8::try_from(index).ok()).unwrap_or(0)]
    }
}

/// Layer counts, each with the hyperparameters it counts; other plain hyperparameters alone.
fn groups_of(space: &Space) -> Vec<Vec<usize>> {
    let all = space.hyperparameters();
    let plain = (0..all.len()).filter(|&index| !all[index].is_per_layer());
    let counted = |depth| (0..all.len()).filter(move |&index| space.depth_of(index) == Some(depth));
    plain.map(|index| std::iter::once(index).chain(counted(index)).collect()).collect()
}

fn sums_of(space: &Space) -> Result<Vec<Option<Sums>>> {
    let sums = |h: &crate::space::Hyperparameter| {
        h.is_per_layer().then(|| Sums::new(h.name(), h.options(), h.n_slots())).transpose()
    };
    space.hyperparameters().iter().map(sums).collect()
}

/// Counts the vectors of a group.
fn size_of(space: &Space, sums: &[Option<Sums>], group: &[usize]) -> u128 {
    let Some((&head, counted)) = group.split_first() else { return 0 };
    let at_depth = |&n_layers: &u32| {
        let sizes = counted.iter().filter_map(|&member| sums[member].as_ref());
        sizes.fold(1u128, |product, sums| product.saturating_mul(sums.of(n_layers as usize).len() as u128))
    };
    let options = space.hyperparameters()[head].options();
    if counted.is_empty() {
        options.len() as u128
    } else {
        options.iter().map(at_depth).fold(0, u128::saturating_add)
    }
}

/// Where to cut a product of groups so that the larger of its two halves is as small as it can be.
fn even_split(sizes: &[u128]) -> usize {
    let product = |sizes: &[u128]| sizes.iter().fold(1u128, |product, &size| product.saturating_mul(size));
    let larger = |&cut: &usize| product(&sizes[..cut]).max(product(&sizes[cut..]));
    (0..=sizes.len()).min_by_key(larger).unwrap_or(0)
}
