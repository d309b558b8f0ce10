//! The names of the tensors in an adapter's file, as the `peft` library writes them: which module they belong to, and what they are to it.

/// What precedes a module's name.
pub(super) const PREFIX: &str = "base_model.model.";

/// What is added to a module: a tensor beside its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddedPart {
    /// A of a matrix.
    Down,
    /// B of a matrix.
    Up,
    /// The bias of B.
    UpBias,
    /// The length of each row of a weight decomposed into magnitude and direction (DoRA).
    Magnitude,
    /// A of an embedding, stored the other way round.
    EmbeddingDown,
    /// B of an embedding, stored the other way round.
    EmbeddingUp,
    /// The rows of single tokens.
    Tokens,
}

/// What stands behind a module's name, and what may stand behind that.
const PARTS: [(&str, &[&str], AddedPart); 7] = [
    (".lora_A", &[".weight"], AddedPart::Down),
    (".lora_B", &[".weight"], AddedPart::Up),
    (".lora_B", &[".bias"], AddedPart::UpBias),
    (".lora_magnitude_vector", &["", ".weight"], AddedPart::Magnitude),
    (".lora_embedding_A", &["", ".weight"], AddedPart::EmbeddingDown),
    (".lora_embedding_B", &["", ".weight"], AddedPart::EmbeddingUp),
    (".token_adapter.trainable_tokens_delta", &["", ".weight"], AddedPart::Tokens),
];

/// What a tensor's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PeftName<'a> {
    /// A tensor beside the weight of a module.
    Added {
        /// The module, as Hugging Face names it.
        module: &'a str,
        /// What it is to it.
        part: AddedPart,
    },
    /// A whole weight or bias, in the place of the model's.
    Whole {
        /// What the model itself calls it.
        weight: String,
        /// Whether its module was trained as a whole (`modules_to_save`). The others lie beside what is adapted: biases, and the weight of an
        /// adapted head or embedding (`base_layer`).
        is_saved: bool,
    },
    /// Neither; the name behind the prefix.
    Unknown(&'a str),
}

impl PeftName<'_> {
    /// Reads a tensor's name; `None` if it does not begin with [`PREFIX`]. The adapter's own name, `default`, stands in it where a state was saved
    /// with it. Whether the model has such a module is not asked.
    pub(super) fn parse(name: &str) -> Option<PeftName<'_>> {
        let inner = name.strip_prefix(PREFIX)?;
        let mut has_part = false;
        for (marker, endings, part) in PARTS {
            let Some((module, rest)) = inner.rsplit_once(marker) else { continue };
            if endings.contains(&rest.strip_prefix(".default").unwrap_or(rest)) {
                return Some(PeftName::Added { module, part });
            }
            has_part |= rest.is_empty() || rest.starts_with('.');
        }
        if has_part {
            return Some(PeftName::Unknown(inner));
        }
        let saved = inner.split_once(".modules_to_save.").map(|(module, rest)| {
            let rest = rest.strip_prefix("default.").unwrap_or(rest);
            PeftName::Whole { weight: format!("{module}.{rest}"), is_saved: true }
        });
        let beside = || PeftName::Whole { weight: inner.replace(".base_layer.", "."), is_saved: false };
        Some(saved.unwrap_or_else(beside))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ADAPTED;
    use super::*;
    use crate::names::Naming;
    use crate::tensor_source::{LayerWeightName, WeightName};

    /// The module of any weight that can be adapted.
    fn modules() -> impl Strategy<Value = String> {
        let layers = (0..200_usize, prop::sample::select(ADAPTED.to_vec()))
            .prop_map(|(layer, projection)| WeightName::Layer(layer, projection));
        let experts = (0..200_usize, 0..64_u16)
            .prop_map(|(layer, expert)| WeightName::Layer(layer, LayerWeightName::ExpertUp(expert)));
        prop_oneof![layers, experts, Just(WeightName::Head), Just(WeightName::Embedding)].prop_map(|weight| {
            let name = Naming::HuggingFace.spell(weight);
            name.strip_suffix(".weight").unwrap().to_owned()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Every name that `peft` makes is read as what it was made of, with and without the adapter's own name.
        #[test]
        fn names_are_read_as_they_are_made(
            module in modules(),
            (marker, endings, part) in prop::sample::select(PARTS.to_vec()),
            number in 0..2_usize,
            own in prop::sample::select(vec!["", ".default"]),
        ) {
            let ending = endings[number % endings.len()];
            let name = format!("{PREFIX}{module}{marker}{own}{ending}");
            prop_assert_eq!(PeftName::parse(&name), Some(PeftName::Added { module: &module, part }));
            // Of a part that is known, with another ending, nothing is made.
            let strange = format!("{PREFIX}{module}{marker}{own}.other");
            prop_assert!(matches!(PeftName::parse(&strange), Some(PeftName::Unknown(_))), "{}", strange);
            for (between, is_saved) in [(".modules_to_save", true), (".base_layer", false), ("", false)] {
                let own = if is_saved { own } else { "" };
                for kind in ["weight", "bias"] {
                    let whole = format!("{PREFIX}{module}{between}{own}.{kind}");
                    let expected = PeftName::Whole { weight: format!("{module}.{kind}"), is_saved };
                    prop_assert_eq!(PeftName::parse(&whole), Some(expected));
                }
            }
        }

        /// Any text is read, and only what begins as it must.
        #[test]
        fn any_name_is_read_without_a_panic(
            pieces in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![
                    PREFIX, ".lora_A", ".lora_B", ".weight", ".bias", ".default", ".modules_to_save.", ".base_layer.",
                    ".lora_embedding_A", ".token_adapter.trainable_tokens_delta", ".",
                ]).prop_map(str::to_owned),
                ".{0,3}",
            ], 0..6),
        ) {
            let name = pieces.concat();
            let read = PeftName::parse(&name);
            prop_assert_eq!(read.is_some(), name.starts_with(PREFIX));
            if let Some(PeftName::Added { module, .. }) = read {
                let beginning = format!("{PREFIX}{module}.");
                prop_assert!(name.starts_with(&beginning), "{}", name);
            }
        }
    }

    #[test]
    fn names_that_peft_does_not_make_are_unknown() {
        for inner in
            ["q_proj.lora_A", "q_proj.lora_A.bias", "q_proj.lora_B.other.weight", "x.lora_magnitude_vector.y"]
        {
            assert_eq!(PeftName::parse(&format!("{PREFIX}{inner}")), Some(PeftName::Unknown(inner)));
        }
        assert_eq!(PeftName::parse("model.q_proj.lora_A.weight"), None);
        // A module whose own name only begins as the adapter's does keeps it.
        let weight = "model.default_norm.weight";
        let expected = PeftName::Whole { weight: weight.to_owned(), is_saved: false };
        assert_eq!(PeftName::parse(&format!("{PREFIX}{weight}")), Some(expected));
    }
}
