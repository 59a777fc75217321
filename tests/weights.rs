//! Weights: a sound file is read as it was written, and every defect is named. Nothing panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod spaces;

use std::collections::BTreeMap;

use llmpp_core::error::Error;
use llmpp_core::mlp::Mlp;
use llmpp_core::weights::Weights;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};
use spaces::cases;

#[derive(Debug, Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The tensors of a file by name.
type Tensors = BTreeMap<String, Tensor>;

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

fn indices(shape: &[usize], values: &[i32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: shape.to_vec(), bytes }
}

/// Two features, their product and the first once more, and layers 3-2-1.
fn sound() -> Tensors {
    let tensors = [
        ("input.products", indices(&[3, 2], &[0, 1, 0, 2, 2, 1])),
        ("input.mean", floats(&[3], &[0.1, 0.2, 0.3])),
        ("input.std", floats(&[3], &[1.0, -2.0, 3.0])),
        ("layers.0.weight", floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("layers.0.bias", floats(&[2], &[0.5, -0.5])),
        ("layers.1.weight", floats(&[1, 2], &[7.0, 8.0])),
        ("layers.1.bias", floats(&[1], &[9.0])),
        ("output.mean", floats(&[1], &[10.0])),
        ("output.std", floats(&[1], &[11.0])),
    ];
    tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

fn file(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| (name, view(tensor)));
    serialize(views, None).unwrap()
}

fn view(tensor: &Tensor) -> TensorView<'_> {
    TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap()
}

/// A sound file in which one tensor is another.
fn with(name: &str, tensor: Tensor) -> Tensors {
    let mut tensors = sound();
    tensors.insert(name.to_owned(), tensor);
    tensors
}

fn without(name: &str) -> Tensors {
    let mut tensors = sound();
    tensors.remove(name);
    tensors
}

fn reason(bytes: &[u8]) -> String {
    match Weights::from_safetensors(bytes) {
        Err(Error::BadWeights { reason }) => reason,
        other => format!("no defect was found: {other:?}"),
    }
}

/// Asserts that the defect is found and that the message speaks of all these words.
fn assert_refused(tensors: &Tensors, words: &[&str]) {
    let reason = reason(&file(tensors));
    assert!(!reason.starts_with("no defect") && words.iter().all(|word| reason.contains(word)), "{reason}");
    let error = Mlp::from_safetensors(&file(tensors)).unwrap_err();
    assert_eq!(error.to_string(), format!("weights cannot be used: {reason}"));
}

#[test]
fn a_sound_file_is_read_as_it_was_written() {
    let weights = Weights::from_safetensors(&file(&sound())).unwrap();
    assert_eq!((weights.n_features, weights.output_mean, weights.output_std), (2, 10.0, 11.0));
    assert_eq!(weights.products, Some(vec![[0, 1], [0, 2], [2, 1]]));
    assert_eq!((weights.input_mean, weights.input_std), (vec![0.1, 0.2, 0.3], vec![1.0, -2.0, 3.0]));
    assert_eq!(weights.layers.len(), 2);
    assert_eq!(weights.layers[0].weight, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!((&weights.layers[1].weight[..], &weights.layers[1].bias[..]), (&[7.0, 8.0][..], &[9.0][..]));
}

#[test]
fn without_products_the_features_are_the_inputs() {
    let weights = Weights::from_safetensors(&file(&without("input.products"))).unwrap();
    assert_eq!((weights.n_features, weights.products), (3, None));
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = file(&sound());
    for length in 0..bytes.len() {
        let reason = reason(&bytes[..length]);
        assert!(reason.starts_with("not a safetensors file ("), "{length} bytes: {reason}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(reason(&longer).starts_with("not a safetensors file ("));
}

#[test]
fn a_missing_tensor_is_named() {
    for name in sound().keys().filter(|name| !["input.products", "layers.1.weight"].contains(&name.as_str()))
    {
        assert_refused(&without(name), &[name, "is missing"]);
    }
    assert_refused(&Tensors::new(), &["input.mean", "is missing"]);
}

#[test]
fn a_tensor_of_another_type_is_named_with_both_types() {
    for (name, tensor) in sound() {
        let (dtype, needed) =
            if tensor.dtype == Dtype::F32 { (Dtype::I32, "F32") } else { (Dtype::U32, "I32") };
        assert_refused(
            &with(&name, Tensor { dtype, ..tensor.clone() }),
            &[&name, needed, &format!("{dtype:?}")],
        );
        let bytes = tensor.bytes.repeat(2);
        assert_refused(&with(&name, Tensor { dtype: Dtype::F64, bytes, ..tensor }), &[&name, needed, "F64"]);
    }
}

#[test]
fn a_tensor_of_another_rank_is_named_with_its_shape() {
    for (name, tensor) in sound() {
        let mut shape = tensor.shape.clone();
        shape.insert(0, 1);
        let text = format!("{shape:?}");
        assert_refused(&with(&name, Tensor { shape, ..tensor }), &[&name, "dimensions", &text]);
    }
    assert_refused(&with("output.mean", floats(&[], &[1.0])), &["output.mean", "[]"]);
}

#[test]
fn layers_that_do_not_fit_are_named_with_the_shape_they_need() {
    let weight = floats(&[2, 4], &[0.0; 8]);
    assert_refused(&with("layers.0.weight", weight), &["layers.0.weight", "(2, 3)", "[2, 4]"]);
    let bias = floats(&[3], &[0.0; 3]);
    assert_refused(&with("layers.0.bias", bias), &["layers.0.weight", "(3, 3)", "[2, 3]"]);
    let weight = floats(&[1, 3], &[0.0; 3]);
    assert_refused(&with("layers.1.weight", weight), &["layers.1.weight", "(1, 2)", "[1, 3]"]);
    let weight = floats(&[0, 3], &[]);
    assert_refused(&with("layers.0.weight", weight), &["layers.0.weight"]);
}

#[test]
fn a_transposed_layer_is_refused_although_it_has_as_many_numbers() {
    let weight = floats(&[3, 2], &[0.0; 6]);
    assert_refused(&with("layers.0.weight", weight), &["layers.0.weight", "(2, 3)", "[3, 2]"]);
}

#[test]
fn layers_without_outputs_are_refused() {
    let mut tensors = with("layers.0.weight", floats(&[0, 3], &[]));
    tensors.insert("layers.0.bias".to_owned(), floats(&[0], &[]));
    assert_refused(&tensors, &["layers.0.weight"]);
}

#[test]
fn a_last_layer_with_more_than_one_output_is_refused() {
    let mut tensors = without("layers.1.weight");
    tensors.remove("layers.1.bias");
    assert_refused(&tensors, &["last layer", "one output", "2"]);
}

#[test]
fn a_file_without_layers_is_refused() {
    let tensors = sound().into_iter().filter(|(name, _)| !name.starts_with("layers")).collect();
    assert_refused(&tensors, &["layers.0.weight", "is missing"]);
}

#[test]
fn inputs_that_are_divided_by_zero_are_refused() {
    for zero in [0.0, -0.0] {
        assert_refused(&with("input.std", floats(&[3], &[1.0, zero, 1.0])), &["input.std", "zero"]);
    }
}

#[test]
fn moments_that_are_not_as_many_as_inputs_are_refused() {
    assert_refused(&with("input.std", floats(&[2], &[1.0; 2])), &["input.std", "2", "input.mean", "3"]);
    let both = [("input.mean", 4), ("input.std", 4)];
    let mut tensors = sound();
    for (name, n) in both {
        tensors.insert(name.to_owned(), floats(&[n], &vec![1.0; n]));
    }
    assert_refused(&tensors, &["input.products", "(4, 2)", "[3, 2]"]);
    tensors.remove("input.products");
    assert_refused(&tensors, &["layers.0.weight", "(2, 4)"]);
}

#[test]
fn no_inputs_at_all_are_refused() {
    let mut tensors = with("input.mean", floats(&[0], &[]));
    tensors.insert("input.std".to_owned(), floats(&[0], &[]));
    assert_refused(&tensors, &["input."]);
}

#[test]
fn moments_of_the_output_that_are_not_one_number_are_refused() {
    for name in ["output.mean", "output.std"] {
        assert_refused(&with(name, floats(&[2], &[1.0; 2])), &[name, "one number", "2"]);
        assert_refused(&with(name, floats(&[0], &[])), &[name, "one number", "0"]);
    }
}

#[test]
fn numbers_that_are_not_finite_are_named_with_their_position() {
    for (name, tensor) in sound().into_iter().filter(|(_, tensor)| tensor.dtype == Dtype::F32) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut tensor = tensor.clone();
            let last = tensor.bytes.len() / 4 - 1;
            tensor.bytes[last * 4..].copy_from_slice(&value.to_le_bytes());
            let position = format!("position {last}");
            assert_refused(&with(&name, tensor), &[&name, &value.to_string(), &position]);
        }
    }
}

#[test]
fn products_of_absurd_features_are_refused() {
    let products = |values: [i32; 6]| with("input.products", indices(&[3, 2], &values));
    assert_refused(&products([0, 1, -1, 2, 2, 1]), &["input.products", "negative"]);
    assert_refused(&products([0, 1, i32::MIN, 2, 2, 1]), &["input.products", "negative"]);
    assert_refused(&products([0, 1, i32::MAX, 2, 2, 1]), &["input.products", "2147483647"]);
    assert_refused(&products([0, 4097, 0, 2, 2, 1]), &["input.products", "4097"]);
    assert_refused(&products([0; 6]), &["input.products", "0 features"]);
    let widest = Weights::from_safetensors(&file(&products([0, 4096, 0, 2, 2, 1]))).unwrap();
    assert_eq!(widest.n_features, 4096);
}

#[test]
fn products_that_are_not_pairs_are_refused() {
    let triples = with("input.products", indices(&[2, 3], &[0, 1, 0, 2, 2, 1]));
    assert_refused(&triples, &["input.products", "(3, 2)", "[2, 3]"]);
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let is_refused = matches!(Weights::from_safetensors(&bytes), Err(Error::BadWeights { .. }));
        prop_assert!(is_refused);
    }

    #[test]
    fn arbitrary_headers_never_panic(text in "[\\[\\]{}:,\"a-z0-9. ]{0,80}", tail in 0..40usize) {
        let length = text.len() as u64;
        let bytes = [&length.to_le_bytes()[..], text.as_bytes(), &vec![0; tail]].concat();
        prop_assert!(Weights::from_safetensors(&bytes).is_err());
    }

    #[test]
    fn a_file_with_a_damaged_byte_is_refused_or_still_works(at: prop::sample::Index, byte: u8) {
        let mut bytes = file(&sound());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(mlp) = Mlp::from_safetensors(&bytes) {
            let row = vec![1.0; mlp.n_features()];
            prop_assert_eq!(mlp.forward(&row, 1).map(|scores| scores.len()), Ok(1));
        }
    }
}

#[test]
fn a_gap_in_the_numbers_of_layers_is_refused() {
    let mut tensors = sound();
    tensors.insert("layers.7.weight".to_owned(), floats(&[1, 2], &[0.0; 2]));
    assert_refused(&tensors, &["3 weights", "layers 0 to 1"]);
}

#[test]
fn an_output_that_is_multiplied_by_zero_is_refused() {
    assert_refused(&with("output.std", floats(&[1], &[0.0])), &["output.std is zero"]);
}
