//! Random changes of well-formed files: whatever they say, nothing panics, and what is accepted can be walked.

use proptest::prelude::*;
use zhenjin_model::{config, gguf, safetensors};

use super::gguf_writer::tiny_llama;
use super::hugging_face_writer::{safetensors_bytes, tiny_config, tiny_tensors};

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Mutation {
    Overwrite(Vec<u8>),
    Insert(Vec<u8>),
    Remove(usize),
}

fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, Mutation)>> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 31),
        Just(1 << 63),
        (0..64_u32).prop_map(|bits| (1_u64 << bits).wrapping_sub(1)),
        any::<u64>(),
    ]
    .prop_map(|number| number.to_le_bytes().to_vec());
    let bytes = prop_oneof![number, prop::collection::vec(any::<u8>(), 1..5)];
    let mutation = prop_oneof![
        4 => bytes.clone().prop_map(Mutation::Overwrite),
        1 => bytes.prop_map(Mutation::Insert),
        1 => (1..40_usize).prop_map(Mutation::Remove),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), mutation), 1..6)
}

/// Applies changes within the first `reach` bytes, where the headers are.
fn apply(bytes: &mut Vec<u8>, reach: usize, mutations: &[(prop::sample::Index, Mutation)]) {
    for (place, mutation) in mutations {
        if bytes.is_empty() {
            return;
        }
        let place = place.index(reach.min(bytes.len()));
        match mutation {
            Mutation::Overwrite(new) => {
                let end = (place + new.len()).min(bytes.len());
                bytes[place..end].copy_from_slice(&new[..end - place]);
            }
            Mutation::Insert(new) => drop(bytes.splice(place..place, new.iter().copied())),
            Mutation::Remove(count) => drop(bytes.drain(place..(place + count).min(bytes.len()))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn gguf_never_panics(mutations in mutations()) {
        let layout = tiny_llama().layout();
        let mut bytes = layout.bytes;
        apply(&mut bytes, layout.data_start, &mutations);
        if let Ok(file) = gguf::parse(bytes.as_slice()) {
            for (key, value) in file.metadata() {
                if let gguf::Value::Array(array) = value {
                    array.iter().for_each(drop);
                }
                prop_assert!(file.get(key).is_some());
            }
            for tensor in file.tensors() {
                let found = file.tensor(tensor.name).map(|found| found.offset);
                prop_assert_eq!(found, Some(tensor.offset));
                let elements = tensor.shape.iter().product();
                prop_assert_eq!(Some(tensor.bytes.len()), tensor.dtype.bytes(elements));
            }
            if let Ok(reading) = config::from_gguf(&file) {
                prop_assert!(reading.config.check().is_ok());
                prop_assert!(reading.config.parameters() > 0);
            }
        }
    }

    #[test]
    fn safetensors_never_panics(mutations in mutations()) {
        let mut bytes = safetensors_bytes(&tiny_tensors());
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        apply(&mut bytes, header, &mutations);
        if let Ok(header) = safetensors::parse_header(&bytes) {
            for tensor in header.tensors() {
                prop_assert!(bytes.get(tensor.data.clone()).is_some());
                prop_assert!(header.tensor(&tensor.name).is_some());
            }
        }
    }

    /// What the reference library refuses is refused here as well.
    #[test]
    fn safetensors_is_as_strict_as_the_reference(mutations in mutations()) {
        let mut bytes = safetensors_bytes(&tiny_tensors());
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        apply(&mut bytes, header, &mutations);
        if ::safetensors::SafeTensors::deserialize(&bytes).is_err() {
            prop_assert!(safetensors::parse_header(&bytes).is_err());
        }
    }

    #[test]
    fn configurations_never_panic(mutations in mutations()) {
        let mut bytes = tiny_config().to_string().into_bytes();
        let reach = bytes.len();
        apply(&mut bytes, reach, &mutations);
        if let Ok(reading) = config::from_json(&bytes) {
            prop_assert!(reading.config.check().is_ok());
        }
    }
}
