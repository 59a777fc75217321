//! Wrong descriptions of a space are refused with the error that names what is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod spaces;

use llmpp_core::error::Error;
use llmpp_core::space::{Description, Space};
use spaces::{layered, plain};

fn refusal(descriptions: &[Description]) -> Error {
    Space::new(descriptions).unwrap_err()
}

#[test]
fn a_space_without_hyperparameters_is_refused() {
    assert_eq!(refusal(&[]), Error::NoHyperparameters);
}

#[test]
fn a_name_described_twice_is_refused() {
    let twice = [plain("a", &[1]), plain("b", &[1]), plain("a", &[2])];
    assert_eq!(refusal(&twice), Error::DuplicateName { name: "a".to_owned() });
    let across_kinds = [layered("n", &[1], "n"), plain("n", &[2])];
    assert_eq!(refusal(&across_kinds), Error::DuplicateName { name: "n".to_owned() });
}

#[test]
fn unusable_options_are_refused() {
    let too_many: Vec<u32> = (1..=257).collect();
    for options in [vec![], vec![0], vec![3, 4, 3], too_many] {
        let error = refusal(&[plain("fine", &[1]), plain("bad", &options)]);
        assert_eq!(error, Error::BadOptions { name: "bad".to_owned(), options });
    }
}

#[test]
fn unusable_options_per_layer_are_refused() {
    let error = refusal(&[plain("n", &[2]), layered("bad", &[7, 7], "n")]);
    assert_eq!(error, Error::BadOptions { name: "bad".to_owned(), options: vec![7, 7] });
}

#[test]
fn a_byte_indexes_256_options() {
    let options: Vec<u32> = (0..256).collect();
    let space = Space::new(&[plain("x", &options)]).unwrap();
    assert_eq!(space.n_architectures(), Ok(256));
    assert_eq!(space.genomes().last(), Some(vec![255]));
    assert_eq!(space.value(&[255], 0, 0), 255);
}

#[test]
fn a_layer_count_that_does_not_exist_is_refused() {
    let unknown = |depth: &str| Error::UnknownDepth { name: "x".to_owned(), depth: depth.to_owned() };
    assert_eq!(refusal(&[layered("x", &[1], "n")]), unknown("n"));
    assert_eq!(refusal(&[layered("x", &[1], "x")]), unknown("x"), "itself");
    let per_layer = [plain("n", &[2]), layered("y", &[1], "n"), layered("x", &[1], "y")];
    assert_eq!(refusal(&per_layer), unknown("y"), "a layer count has one value");
}

#[test]
fn a_layer_count_of_zero_or_beyond_1024_is_refused() {
    for options in [vec![0, 1], vec![1, 1025], vec![]] {
        let error = refusal(&[layered("x", &[1], "n"), plain("n", &options)]);
        assert_eq!(error, Error::BadDepth { name: "n".to_owned(), options });
    }
    let deepest = Space::new(&[layered("x", &[1, 2], "n"), plain("n", &[1024, 1])]).unwrap();
    assert_eq!(deepest.n_genes(), 1025);
}

#[test]
fn zero_is_an_option_of_what_is_no_layer_count() {
    let space = Space::new(&[plain("x", &[0, 8])]).unwrap();
    assert_eq!(space.hyperparameters()[0].largest(), 8);
}

#[test]
fn messages_name_what_is_wrong_and_what_would_be_right() {
    let options = refusal(&[plain("width", &[3, 3])]).to_string();
    assert_eq!(
        options,
        "hyperparameter `width` needs 1 to 256 distinct options with a positive largest one, got [3, 3]"
    );
    let depth = refusal(&[layered("width", &[3], "n_layers")]).to_string();
    assert_eq!(
        depth,
        "hyperparameter `width` counts its layers by `n_layers`, which is not a hyperparameter with one value"
    );
    let count = refusal(&[layered("width", &[3], "n"), plain("n", &[0, 2])]).to_string();
    assert_eq!(count, "`n` counts layers, so its options must lie in 1..=1024, got [0, 2]");
}
