//! Which type each tensor of a quantised file gets: the mixtures that GGUF files are commonly made in.

use zhenjin_tensor::Dtype;

use crate::config::ModelConfig;
use crate::tensor_source::{LayerWeightName, WeightName};

/// A type for all matrices, or a mixture of types. The mixtures are those of llama.cpp's `quantize` program, so that the
/// names mean the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// Every matrix in one float type.
    Floats(FloatType),
    /// Q4_0, and Q6_K for the head.
    Q4_0,
    /// Q4_1, and Q6_K for the head.
    Q4_1,
    /// Q5_0, and Q6_K for the head.
    Q5_0,
    /// Q5_1, and Q6_K for the head.
    Q5_1,
    /// Q8_0.
    Q8_0,
    /// Q4_K, Q5_K for some of the layers' value and down projections, and Q6_K for the head.
    Q4KSmall,
    /// Q4_K, and Q6_K for half of the layers' value and down projections and for the head.
    Q4KMedium,
    /// Q5_K, and Q6_K for the head.
    Q5KSmall,
    /// Q5_K, and Q6_K for half of the layers' value and down projections and for the head.
    Q5KMedium,
    /// Q6_K.
    Q6K,
}

/// The float types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    /// F32.
    F32,
    /// F16.
    F16,
    /// BF16.
    Bf16,
}

impl FloatType {
    /// The element type.
    pub fn dtype(self) -> Dtype {
        match self {
            FloatType::F32 => Dtype::F32,
            FloatType::F16 => Dtype::F16,
            FloatType::Bf16 => Dtype::Bf16,
        }
    }
}

/// Name, mixture, and the number by which `general.file_type` knows it.
const NAMES: [(&str, Quantisation, u32); 13] = [
    ("f32", Quantisation::Floats(FloatType::F32), 0),
    ("f16", Quantisation::Floats(FloatType::F16), 1),
    ("bf16", Quantisation::Floats(FloatType::Bf16), 32),
    ("q4_0", Quantisation::Q4_0, 2),
    ("q4_1", Quantisation::Q4_1, 3),
    ("q5_0", Quantisation::Q5_0, 8),
    ("q5_1", Quantisation::Q5_1, 9),
    ("q8_0", Quantisation::Q8_0, 7),
    ("q4_k_s", Quantisation::Q4KSmall, 14),
    ("q4_k_m", Quantisation::Q4KMedium, 15),
    ("q5_k_s", Quantisation::Q5KSmall, 16),
    ("q5_k_m", Quantisation::Q5KMedium, 17),
    ("q6_k", Quantisation::Q6K, 18),
];

impl Quantisation {
    /// The mixture of that name, such as `q4_k_m`, in any case.
    pub fn from_name(name: &str) -> Option<Quantisation> {
        let name = name.to_ascii_lowercase();
        NAMES.iter().find(|(known, ..)| *known == name).map(|(_, quantisation, _)| *quantisation)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, ..)| *name)
    }

    /// The mixture's name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, known, _)| *known == self).map_or("", |(name, ..)| name)
    }

    /// What `general.file_type` says.
    pub(super) fn file_type(self) -> u32 {
        NAMES.iter().find(|(_, known, _)| *known == self).map_or(0, |(.., number)| *number)
    }

    /// The type that the mixture wants for a weight, and the one that it can have: rows must be whole blocks.
    pub fn dtype(self, config: &ModelConfig, name: WeightName) -> (Dtype, Dtype) {
        let [_, columns] = config.shape(name)[..] else { return (Dtype::F32, Dtype::F32) };
        // A row's experts follow from differences between the router's scores.
        if matches!(name, WeightName::Layer(_, LayerWeightName::Router)) {
            return (Dtype::F32, Dtype::F32);
        }
        let wanted = self.wanted(config, name);
        (wanted, fitting(wanted, columns))
    }

    fn wanted(self, config: &ModelConfig, name: WeightName) -> Dtype {
        let is_head = name == WeightName::Head || (name == WeightName::Embedding && config.tied_embeddings);
        if is_head && !matches!(self, Quantisation::Floats(_) | Quantisation::Q8_0) {
            return Dtype::Q6K;
        }
        // All rows of a tensor have one type.
        let in_fused_attention = config.is_fused()
            && matches!(
                name,
                WeightName::Layer(_, LayerWeightName::Query | LayerWeightName::Key | LayerWeightName::Value)
            );
        match self {
            Quantisation::Q4KMedium if in_fused_attention => return Dtype::Q5K,
            Quantisation::Q5KMedium if in_fused_attention => return Dtype::Q6K,
            _ => {}
        }
        let sensitive = match name {
            WeightName::Layer(_, LayerWeightName::Value) if in_fused_attention => None,
            WeightName::Layer(layer, LayerWeightName::Value) => Some((layer, true)),
            WeightName::Layer(layer, LayerWeightName::Down | LayerWeightName::ExpertDown(_)) => {
                Some((layer, false))
            }
            _ => None,
        };
        let layers = config.layers;
        match (self, sensitive) {
            (Quantisation::Floats(float), _) => float.dtype(),
            (Quantisation::Q4_0, _) => Dtype::Q4_0,
            (Quantisation::Q4_1, _) => Dtype::Q4_1,
            (Quantisation::Q5_0, _) => Dtype::Q5_0,
            (Quantisation::Q5_1, _) => Dtype::Q5_1,
            (Quantisation::Q8_0, _) => Dtype::Q8_0,
            (Quantisation::Q4KSmall, Some((layer, true))) if layer < 4 => Dtype::Q5K,
            (Quantisation::Q4KSmall, Some((layer, false))) if layer < layers / 8 => Dtype::Q5K,
            (Quantisation::Q4KMedium | Quantisation::Q5KMedium, Some((layer, _)))
                if gets_more_bits(layer, layers) =>
            {
                Dtype::Q6K
            }
            (Quantisation::Q4KSmall | Quantisation::Q4KMedium, _) => Dtype::Q4K,
            (Quantisation::Q5KSmall | Quantisation::Q5KMedium, _) => Dtype::Q5K,
            (Quantisation::Q6K, _) => Dtype::Q6K,
        }
    }
}

/// The first and the last eighth of the layers, and every third of those between.
fn gets_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// `wanted`, or for rows of other lengths the type of about as many bits with shorter blocks, or F16.
fn fitting(wanted: Dtype, columns: usize) -> Dtype {
    let shorter = match wanted {
        Dtype::Q4K => Dtype::Q5_0,
        Dtype::Q5K => Dtype::Q5_1,
        Dtype::Q6K => Dtype::Q8_0,
        _ => Dtype::F16,
    };
    let fits = |dtype: &Dtype| columns.is_multiple_of(dtype.block_elements());
    [wanted, shorter].into_iter().find(fits).unwrap_or(Dtype::F16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_config;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in Quantisation::names() {
            let quantisation = Quantisation::from_name(&name.to_uppercase()).unwrap();
            assert_eq!(quantisation.name(), name);
        }
        assert_eq!(Quantisation::from_name("q3_k"), None);
    }

    #[test]
    fn mixtures_give_more_bits_where_they_matter_and_fall_back_where_blocks_do_not_fit() {
        let config = ModelConfig {
            layers: 16,
            hidden_size: 256,
            intermediate_size: 96,
            tied_embeddings: false,
            ..tiny_config()
        };
        let of = |quantisation: Quantisation, name| quantisation.dtype(&config, name);
        let layer = |layer, name| WeightName::Layer(layer, name);
        use LayerWeightName as W;
        assert_eq!(of(Quantisation::Q4KMedium, WeightName::Embedding), (Dtype::Q4K, Dtype::Q4K));
        assert_eq!(of(Quantisation::Q4KMedium, WeightName::Head), (Dtype::Q6K, Dtype::Q6K));
        assert_eq!(of(Quantisation::Q8_0, WeightName::Head), (Dtype::Q8_0, Dtype::Q8_0));
        assert_eq!(of(Quantisation::Q4KMedium, WeightName::FinalNorm), (Dtype::F32, Dtype::F32));
        let values: Vec<bool> = (0..16)
            .map(|index| of(Quantisation::Q4KMedium, layer(index, W::Value)).1 == Dtype::Q6K)
            .collect();
        let more: Vec<usize> = (0..16).filter(|index| values[*index]).collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(of(Quantisation::Q4KMedium, layer(0, W::Down)), (Dtype::Q6K, Dtype::Q8_0));
        assert_eq!(of(Quantisation::Q4KMedium, layer(2, W::Down)), (Dtype::Q4K, Dtype::Q5_0));
        assert_eq!(of(Quantisation::Q5KSmall, layer(2, W::Down)), (Dtype::Q5K, Dtype::Q5_1));
        let odd = ModelConfig { hidden_size: 40, ..config.clone() };
        assert_eq!(Quantisation::Q4_0.dtype(&odd, layer(0, W::Gate)), (Dtype::Q4_0, Dtype::F16));
        assert_eq!(Quantisation::Q4KSmall.dtype(&odd, layer(0, W::Gate)), (Dtype::Q4K, Dtype::F16));
    }
}
