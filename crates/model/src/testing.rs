//! Tiny models with random weights, in memory, for the tests of this and other crates.
//!
//! A [`RandomWeights`] is a [`TensorSource`]: the same shape, type and seed give the same weights everywhere. It knows
//! nothing of files.
//!
//! ```
//! use std::sync::Arc;
//! use zhenjin_model::testing::{RandomWeights, tiny_config};
//! use zhenjin_model::{LoadOptions, Model};
//! use zhenjin_tensor::{Dtype, SimdLevel, ThreadTeam};
//!
//! let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1)?) };
//! let weights = RandomWeights::new(tiny_config(), Dtype::Q8_0, 7);
//! let model = Model::from_source(tiny_config(), &weights, &options)?;
//! assert_eq!(model.config.vocabulary_size, 96);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use zhenjin_random::SplitMix64;
use zhenjin_tensor::{Dtype, GateActivation};

use crate::adapter::{ADAPTED, AdapterValues, LowRankValues};
use crate::config::{
    ModelConfig, Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling, SlidingWindow,
};
use crate::errors::ModelError;
use crate::names::Naming;
use crate::random::Floats;
use crate::tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};
use crate::weights::{LoadOptions, Weight, Weights};

/// A small Llama-shaped model: 2 layers, 4 query heads on 2 key/value heads, 96 tokens, 512 positions.
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        vocabulary_size: 96,
        context_length: 512,
        layers: 2,
        hidden_size: 64,
        intermediate_size: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        rope: RopeConfig {
            base: 10_000.0,
            rotary_dim: 16,
            layout: RopeLayout::HalfSplit,
            scaling: RopeScaling::None,
        },
        windowed_rope: None,
        unrotated_layers: Vec::new(),
        sliding_window: None,
        rms_norm_epsilon: 1e-5,
        norms: NormPlacement::Before,
        norms_less_one: false,
        tied_embeddings: true,
        attention_bias: false,
        attention_output_bias: false,
        feed_forward_bias: false,
        qk_norm: QueryKeyNorm::Never,
        activation: GateActivation::Silu,
        multipliers: Multipliers::default(),
        experts: None,
    }
}

/// The tiny model with what Gemma 3 has: norms before and behind, stored less 1, and of each head; windows in all layers but one, which turn by
/// another base; GELU; a scale of attention. All other factors too.
pub fn tiny_gemma() -> ModelConfig {
    let tiny = tiny_config();
    ModelConfig {
        architecture: "gemma3_text".to_owned(),
        layers: 3,
        windowed_rope: Some(RopeConfig { base: 300.0, ..tiny.rope.clone() }),
        sliding_window: Some(SlidingWindow { positions: 19, layers: vec![0, 2] }),
        norms: NormPlacement::BeforeAndAfter,
        norms_less_one: true,
        qk_norm: QueryKeyNorm::Heads,
        activation: GateActivation::GeluTanh,
        multipliers: Multipliers { embedding: 8.0, residual: 0.7, attention: Some(0.2), logits: 0.5 },
        ..tiny
    }
}

/// The tiny model with what OLMo 2 has: norms behind attention and the feed-forward network alone, and of whole rows of queries and keys.
pub fn tiny_norms_after() -> ModelConfig {
    ModelConfig {
        architecture: "olmo2".to_owned(),
        norms: NormPlacement::After,
        qk_norm: QueryKeyNorm::Whole,
        tied_embeddings: false,
        ..tiny_config()
    }
}

/// The tiny model with what Granite has: constant factors.
pub fn tiny_granite() -> ModelConfig {
    ModelConfig {
        architecture: "granite".to_owned(),
        multipliers: Multipliers { embedding: 6.0, residual: 0.3, attention: Some(0.1), logits: 0.25 },
        ..tiny_config()
    }
}

/// The tiny model with what Phi-3 has: one tensor for the q, k and v projections in its files, and one for gate and up.
pub fn tiny_phi() -> ModelConfig {
    ModelConfig { architecture: "phi3".to_owned(), tied_embeddings: false, ..tiny_config() }
}

/// The tiny models whose forward pass is another than that of Llama, Qwen and Mistral: [`tiny_gemma`], [`tiny_norms_after`] and [`tiny_granite`].
pub fn tiny_forms() -> [ModelConfig; 3] {
    [tiny_gemma(), tiny_norms_after(), tiny_granite()]
}

/// Random weights of every tensor that a configuration implies.
#[derive(Debug)]
pub struct RandomWeights {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl RandomWeights {
    /// Matrices of type `matrices` (F32, F16, BF16, Q4_0, Q4_1 or Q8_0), vectors in F32. Magnitudes are such that
    /// activations stay near 1.
    ///
    /// # Panics
    /// For another type, or when a row of a matrix is not a whole number of its blocks.
    pub fn new(config: ModelConfig, matrices: Dtype, seed: u64) -> RandomWeights {
        let mut random = SplitMix64::new(seed);
        let mut tensors = BTreeMap::new();
        for weight in config.weights() {
            let shape = config.shape(weight);
            let is_matrix = shape.len() == 2;
            let dtype = if is_matrix { matrices } else { Dtype::F32 };
            let elements: usize = shape.iter().product();
            let bytes = if is_matrix {
                // Variance 1/inputs keeps the variance of what comes in.
                blocks(&mut random, dtype, elements, (3.0 / shape[1] as f32).sqrt())
            } else {
                let centre = if weight.is_norm() && !config.norms_less_one { 1.0 } else { 0.0 };
                (0..elements).flat_map(|_| (centre + 0.3 * random.symmetric()).to_le_bytes()).collect()
            };
            tensors.insert(Naming::HuggingFace.spell(weight), (dtype, shape, bytes));
        }
        RandomWeights { tensors }
    }

    /// Gives every key head the biases that real models with biases have: of the six pairs of dimensions that RoPE turns
    /// slowest, between a quarter of `largest` and `largest` (Qwen2.5-Coder-0.5B has up to 150 in its first layers, where
    /// other dimensions of keys stay below 10).
    ///
    /// # Panics
    /// When the keys of `config` have no bias, or fewer than six pairs rotate.
    pub fn plant_key_outliers(&mut self, config: &ModelConfig, largest: f32) {
        const SHARES: [f32; 6] = [1.0, 0.97, 0.84, 0.4, 0.35, 0.25];
        let pairs = config.rope.rotary_dim / 2;
        let mut random = SplitMix64::new(largest.to_bits().into());
        for layer in 0..config.layers {
            let name = Naming::HuggingFace.spell(WeightName::Layer(layer, LayerWeightName::KeyBias));
            let (_, _, bytes) = self.tensors.get_mut(&name).expect("keys have a bias");
            for head in bytes.as_chunks_mut::<4>().0.chunks_exact_mut(config.head_dim) {
                for (index, share) in SHARES.into_iter().enumerate() {
                    let pair = pairs - 1 - index;
                    let (first, second) = match config.rope.layout {
                        RopeLayout::Interleaved => (2 * pair, 2 * pair + 1),
                        RopeLayout::HalfSplit => (pair, pair + pairs),
                    };
                    let (sine, cosine) = (std::f32::consts::PI * random.symmetric()).sin_cos();
                    head[first] = (largest * share * cosine).to_le_bytes();
                    head[second] = (largest * share * sine).to_le_bytes();
                }
            }
        }
    }

    /// Multiplies some rows of a matrix in F32, such as the rows of a vocabulary's padding.
    ///
    /// # Panics
    /// When there is no such matrix in F32, or no such rows.
    pub fn multiply_rows(&mut self, name: WeightName, rows: Range<usize>, factor: f32) {
        match self.tensors.get_mut(&Naming::HuggingFace.spell(name)) {
            Some((Dtype::F32, shape, bytes)) if shape.len() == 2 => {
                let row = shape[1] * size_of::<f32>();
                for value in bytes[rows.start * row..rows.end * row].as_chunks_mut::<4>().0 {
                    *value = (factor * f32::from_le_bytes(*value)).to_le_bytes();
                }
            }
            other => panic!("{name:?} is no matrix in F32: {:?}", other.map(|(dtype, ..)| dtype)),
        }
    }
}

/// A random adapter of rank `rank` to every projection of a model of shape `config`.
///
/// # Panics
/// For a rank that no adapter may have.
pub fn random_adapter(config: &ModelConfig, rank: usize, seed: u64) -> AdapterValues {
    let mut random = SplitMix64::new(seed);
    let mut values =
        |count: usize, bound: f32| -> Vec<f32> { (0..count).map(|_| bound * random.symmetric()).collect() };
    let mut additions = Vec::new();
    for layer in 0..config.layers {
        for projection in ADAPTED.into_iter().filter(|projection| config.has_layer_weight(layer, *projection))
        {
            let shape = config.shape(WeightName::Layer(layer, projection));
            additions.push(LowRankValues {
                layer,
                projection,
                rank,
                down: values(rank * shape[1], (3.0 / shape[1] as f32).sqrt()),
                up: values(shape[0] * rank, (3.0 / rank as f32).sqrt()),
                scale: 0.5,
            });
        }
    }
    match AdapterValues::new(Path::new("random adapter"), config, additions) {
        Ok(values) => values,
        Err(error) => panic!("{error}"),
    }
}

/// `count` numbers from -0.5 to 0.5, a function of the name alone, as the golden scripts of the tests make them
/// (`numbers` in `tests/golden/make.py`).
pub fn golden_numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mut numbers = SplitMix64::new(seed);
    (0..count).map(|_| (numbers.next_u64() >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// The values of a weight by its Hugging Face name, as the golden scripts make them.
pub fn golden_weights(name: &str, count: usize) -> Vec<f32> {
    let shape = |number: f32| match name {
        _ if name.ends_with("norm.weight") => 1.0 + 0.5 * number,
        _ if name.ends_with("embed_tokens.weight") => 2.0 * number,
        _ => 0.5 * number,
    };
    golden_numbers(name, count).into_iter().map(shape).collect()
}

/// Packed weights in f32 of a model of the golden scripts.
///
/// # Errors
/// As for [`Weights::load`].
pub fn golden_model(config: &ModelConfig, options: &LoadOptions) -> Result<Weights, ModelError> {
    let mut weights = Weights::load(config, &RandomWeights::new(config.clone(), Dtype::F32, 0), options)?;
    let naming = Naming::of_folder(config);
    for (name, weight) in weights.parameters_mut() {
        let values = golden_weights(&naming.spell(name), config.shape(name).iter().product());
        match weight {
            Weight::Matrix(matrix) => matrix.write_f32(&values)?,
            Weight::Vector(vector) => vector.copy_from_slice(&values),
        }
    }
    Ok(weights)
}

impl TensorSource for RandomWeights {
    fn origin(&self) -> PathBuf {
        PathBuf::from("random weights")
    }

    fn contains(&self, name: WeightName) -> bool {
        self.tensors.contains_key(&Naming::HuggingFace.spell(name))
    }

    fn tensor(&self, name: WeightName) -> Result<TensorView<'_>, ModelError> {
        let name = Naming::HuggingFace.spell(name);
        match self.tensors.get(&name) {
            Some((dtype, shape, bytes)) => {
                Ok(TensorView { name, dtype: *dtype, shape: shape.clone(), bytes })
            }
            None => Err(ModelError::MissingTensor { file: self.origin(), tensor: name }),
        }
    }
}

/// `elements` values between −`bound` and `bound` (nearly), encoded as `dtype`.
fn blocks(random: &mut SplitMix64, dtype: Dtype, elements: usize, bound: f32) -> Vec<u8> {
    let blocks = elements / dtype.block_elements();
    assert_eq!(blocks * dtype.block_elements(), elements, "whole blocks of {dtype}");
    let half = |value: f32| f16::from_f32(value).to_le_bytes();
    let mut out = Vec::new();
    for _ in 0..blocks {
        let scale = bound * (0.75 + 0.25 * random.symmetric());
        let quants = dtype.block_elements();
        match dtype {
            Dtype::F32 => out.extend((bound * random.symmetric()).to_le_bytes()),
            Dtype::F16 => out.extend(half(bound * random.symmetric())),
            Dtype::Bf16 => out.extend(half::bf16::from_f32(bound * random.symmetric()).to_le_bytes()),
            Dtype::Q4_0 => {
                out.extend(half(scale / 8.0));
                out.extend((0..quants / 2).map(|_| random.next_u64() as u8));
            }
            Dtype::Q4_1 => {
                out.extend(half(scale / 7.5));
                out.extend(half(-scale));
                out.extend((0..quants / 2).map(|_| random.next_u64() as u8));
            }
            Dtype::Q8_0 => {
                out.extend(half(scale / 127.0));
                out.extend((0..quants).map(|_| random.next_u64() as u8));
            }
            other => panic!("no random weights of type {other}"),
        }
    }
    out
}
