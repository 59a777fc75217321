//! The core of llmpp: search spaces, their encoding and costs, predictor inference, exact and evolutionary search.
//!
//! One arrow leads through the crate, and a file uses only what stands above it:
//! **[`error`], [`rng`] → [`space`] → [`encoding`], [`cost`], `sums`, [`grid`] → `register`, [`kernel`], `dense`,
//! [`weights`] → [`mlp`] → `columns`, `ceiling`, `narrow`, [`sweep`] → [`measures`], `front`, [`exact`], [`hunt`];
//! [`settings`], [`evolution`], [`search`]**. The Python boundary, `py`, wraps these and is the only module that
//! names pyo3; it is behind the feature `python`.

mod ceiling;
mod columns;
pub mod cost;
mod dense;
pub mod encoding;
pub mod error;
pub mod evolution;
pub mod exact;
mod front;
pub mod grid;
pub mod hunt;
pub mod kernel;
pub mod measures;
pub mod mlp;
mod narrow;
mod register;
pub mod rng;
pub mod search;
pub mod settings;
pub mod space;
mod sums;
pub mod sweep;
pub mod weights;

#[cfg(feature = "python")]
mod py;
