//! The one error type of the core. Each message names the offending value and what would be right.

/// Everything that can be wrong with what the core is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A space without hyperparameters describes nothing.
    #[error("a space needs at least one hyperparameter")]
    NoHyperparameters,
    /// Two hyperparameters share a name.
    #[error("hyperparameter `{name}` is described twice")]
    DuplicateName {
        /// The repeated name.
        name: String,
    },
    /// A hyperparameter's options are empty, repeated, all zero, or more than a byte can index.
    #[error(
        "hyperparameter `{name}` needs 1 to 256 distinct options with a positive largest one, got {options:?}"
    )]
    BadOptions {
        /// The hyperparameter.
        name: String,
        /// Its options as given.
        options: Vec<u32>,
    },
    /// A per-layer hyperparameter names a layer count that is not a plain hyperparameter.
    #[error(
        "hyperparameter `{name}` counts its layers by `{depth}`, which is not a hyperparameter with one value"
    )]
    UnknownDepth {
        /// The per-layer hyperparameter.
        name: String,
        /// The layer count it asks for.
        depth: String,
    },
    /// A layer count can be zero or is absurdly large.
    #[error("`{name}` counts layers, so its options must lie in 1..=1024, got {options:?}")]
    BadDepth {
        /// The layer count.
        name: String,
        /// Its options as given.
        options: Vec<u32>,
    },
    /// More architectures than a 128-bit integer counts.
    #[error("the space has more than 3.4e38 architectures, which is beyond the counter")]
    Uncountable,
    /// More feature vectors than may be listed.
    #[error("the space has {count} feature vectors, more than the limit of {limit}")]
    TooManyVectors {
        /// How many there are.
        count: u128,
        /// How many may be listed.
        limit: u64,
    },
    /// So many sums over layers that listing them would take too long.
    #[error("the layers of `{name}` have more sums than can be listed")]
    TooManySums {
        /// The hyperparameter.
        name: String,
    },
    /// A gene's index points past the options.
    #[error("gene {gene} (`{name}`) is {index}, but the hyperparameter has only {n_options} options")]
    GeneOutOfRange {
        /// Position in the genome.
        gene: usize,
        /// The hyperparameter it belongs to.
        name: String,
        /// The offending index.
        index: u8,
        /// How many options there are.
        n_options: usize,
    },
    /// An architecture has a value that the space does not offer.
    #[error("`{name}`{} is {value}, which is not one of {options:?}", at_layer(*layer))]
    NotAnOption {
        /// The hyperparameter.
        name: String,
        /// The layer, for per-layer hyperparameters.
        layer: Option<usize>,
        /// The offending value.
        value: u32,
        /// What the space offers.
        options: Vec<u32>,
    },
    /// An architecture's list is not as long as its layer count says.
    #[error("`{name}` has {got} values, but there must be {expected}")]
    WrongLength {
        /// The hyperparameter.
        name: String,
        /// Values given.
        got: usize,
        /// Values needed.
        expected: usize,
    },
    /// A cost in closed form needs a hyperparameter that the space lacks.
    #[error("costs of a Transformer need the hyperparameter `{name}`, which this space does not have")]
    MissingHyperparameter {
        /// The missing name.
        name: &'static str,
    },
    /// Layers of a hyperparameter that enters costs are counted by another one than the formulas expect.
    #[error("costs of a Transformer need the layers of `{name}` to be counted by {depth}")]
    WrongDepth {
        /// The hyperparameter.
        name: &'static str,
        /// What must count its layers.
        depth: &'static str,
    },
    /// A flat array does not have the width that is expected.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What was measured.
        what: &'static str,
        /// The size needed.
        expected: usize,
        /// The size given.
        got: usize,
    },
    /// Weights that cannot be read, or do not fit together.
    #[error("weights cannot be used: {reason}")]
    BadWeights {
        /// What is wrong with them.
        reason: String,
    },
    /// A number that had to be finite is not.
    #[error("{what} {index} is {value}, but must be a finite number")]
    NotFinite {
        /// What kind of number.
        what: &'static str,
        /// Its position.
        index: usize,
        /// The offending value.
        value: f64,
    },
    /// A setting of the search is out of its range.
    #[error("`{name}` must be {range}, got {value}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// Its range in words.
        range: &'static str,
        /// The offending value.
        value: f64,
    },
    /// The calls of ask/tell came in an order that makes no sense.
    #[error("{reason}")]
    OutOfTurn {
        /// What was expected instead.
        reason: &'static str,
    },
}

fn at_layer(layer: Option<usize>) -> String {
    layer.map_or_else(String::new, |layer| format!(" of layer {layer}"))
}

/// Fails with [`Error::Shape`] unless the sizes agree.
///
/// # Errors
/// When `got` is not `expected`.
pub fn expect_size(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}

/// Fails with [`Error::NotFinite`] at the first value that is NaN or infinite.
///
/// # Errors
/// When there is one.
pub fn check_finite(what: &'static str, values: impl Iterator<Item = f64>) -> Result<()> {
    let mut found = values.enumerate().filter(|(_, value)| !value.is_finite());
    found.next().map_or(Ok(()), |(index, value)| Err(Error::NotFinite { what, index, value }))
}

/// The core's result.
pub type Result<T> = std::result::Result<T, Error>;
