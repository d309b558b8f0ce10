//! The part of every key that is known before a text is: its bias, as far as positions leave it where it is.
//!
//! Keys of models with biases (Qwen2) have single dimensions that the bias makes twenty times as large as the others. Of
//! a pair of dimensions that RoPE turns slowly, the turned bias is nearly the same at all positions, and what is the same
//! in all keys changes no attention. So the KV cache takes it off before it rounds (`KvCache::set_key_centres`). In layers
//! without RoPE the whole bias is the same at all positions.

use zhenjin_tensor::{RotaryFrequencies, RotaryLayout};

use crate::config::ModelConfig;
use crate::weights::{LayerWeights, Weights};

/// The mean is taken over this many positions from the first. Bias that turns through this many positions is kept whole.
const POSITIONS: f64 = 4096.0;

/// For each layer and key/value head, the mean over the first positions of the bias, turned where the layer rotates, `[layers, kv_heads ·
/// head_dim]`; empty for a model whose keys have no bias, or a norm after it, which scales it differently in each key. `rotary` are the model's
/// tables ([`crate::rope::tables`]).
pub(crate) fn key_centres(config: &ModelConfig, weights: &Weights, rotary: &[RotaryFrequencies]) -> Vec<f32> {
    let has_bias = |layer: &LayerWeights| layer.key.bias.is_some() && layer.key_norm.is_none();
    if !weights.layers.iter().any(has_bias) {
        return Vec::new();
    }
    let width = config.kv_heads * config.head_dim;
    let mut centres = vec![0.0; weights.layers.len() * width];
    for (index, (layer, centres)) in weights.layers.iter().zip(centres.chunks_exact_mut(width)).enumerate() {
        let Some(bias) = layer.key.bias.as_ref().filter(|_| has_bias(layer)) else { continue };
        let heads = bias.chunks_exact(config.head_dim).zip(centres.chunks_exact_mut(config.head_dim));
        for (bias, centre) in heads {
            centre.copy_from_slice(bias);
            if config.rotates(index)
                && let Some(table) = rotary.get(config.rope_table(index))
            {
                turn_to_the_mean(centre, table);
            }
        }
    }
    centres
}

/// Replaces a head's bias by its mean over positions from 0 to N: pair (a, b), turned by θ a position, becomes
/// (a s − b c, a c + b s) with s = sin(θN)/(θN) and c = (1 − cos(θN))/(θN), the integrals of cosine and sine.
fn turn_to_the_mean(head: &mut [f32], rotary: &RotaryFrequencies) {
    let pairs = rotary.radians.len();
    for (pair, radians) in rotary.radians.iter().enumerate() {
        let angle = radians * POSITIONS;
        let (cosine, sine) =
            if angle == 0.0 { (1.0, 0.0) } else { (angle.sin() / angle, (1.0 - angle.cos()) / angle) };
        let (cosine, sine) = (cosine * rotary.magnitude, sine * rotary.magnitude);
        let (first, second) = match rotary.layout {
            RotaryLayout::Interleaved => (2 * pair, 2 * pair + 1),
            RotaryLayout::HalfSplit => (pair, pair + pairs),
        };
        let (a, b) = (f64::from(head[first]), f64::from(head[second]));
        head[first] = (a * cosine - b * sine) as f32;
        head[second] = (a * sine + b * cosine) as f32;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zhenjin_tensor::{Dtype, SimdLevel, ThreadTeam};

    use super::*;
    use crate::config::{RopeConfig, SlidingWindow};
    use crate::testing::{RandomWeights, tiny_config};
    use crate::weights::LoadOptions;

    /// Regression: keys of layers without RoPE would have had a centre that is turned, and lost bits of the 8 that they are kept in.
    #[test]
    fn the_centre_of_a_layer_that_does_not_rotate_is_its_bias() {
        let config = ModelConfig { attention_bias: true, unrotated_layers: vec![1], ..tiny_config() };
        let team = Arc::new(ThreadTeam::new(1).unwrap());
        let options = LoadOptions { simd: SimdLevel::detect(), team };
        let source = RandomWeights::new(config.clone(), Dtype::F32, 5);
        let weights = Weights::load(&config, &source, &options).unwrap();
        let centres = key_centres(&config, &weights, &crate::rope::tables(&config));
        let (rotated, unrotated) = centres.split_at(config.kv_width());
        let bias = |layer: usize| weights.layers[layer].key.bias.as_ref().unwrap()[..].to_vec();
        assert_eq!(unrotated, bias(1));
        assert_ne!(rotated, bias(0));
    }

    #[test]
    fn the_centre_of_a_layer_is_turned_by_the_table_of_that_layer() {
        let plain = ModelConfig {
            attention_bias: true,
            sliding_window: Some(SlidingWindow { positions: 8, layers: vec![1] }),
            ..tiny_config()
        };
        let other = RopeConfig { base: 100.0, ..plain.rope.clone() };
        let two_tables = ModelConfig { windowed_rope: Some(other.clone()), ..plain.clone() };
        let other_everywhere = ModelConfig { rope: other, ..plain.clone() };
        let team = Arc::new(ThreadTeam::new(1).unwrap());
        let options = LoadOptions { simd: SimdLevel::detect(), team };
        let source = RandomWeights::new(plain.clone(), Dtype::F32, 5);
        let weights = Weights::load(&plain, &source, &options).unwrap();
        let centres = |config: &ModelConfig| key_centres(config, &weights, &crate::rope::tables(config));
        let (first, second, both) = (centres(&plain), centres(&other_everywhere), centres(&two_tables));
        let width = plain.kv_width();
        assert_eq!(both[..width], first[..width]);
        assert_eq!(both[width..], second[width..]);
        assert_ne!(first[width..], second[width..]);
    }

    #[test]
    fn the_centre_is_the_mean_of_the_turned_bias() {
        for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
            let rotary = RotaryFrequencies { radians: vec![1.0, 1e-3, 1e-6, 0.0], magnitude: 1.5, layout };
            let bias: Vec<f32> = (0..10).map(|i| i as f32 * 20.0 - 90.0).collect();
            let mut mean = vec![0.0f64; 10];
            mean[8..].copy_from_slice(&[f64::from(bias[8]), f64::from(bias[9])]);
            for (pair, radians) in rotary.radians.iter().enumerate() {
                let (first, second) = match layout {
                    RotaryLayout::Interleaved => (2 * pair, 2 * pair + 1),
                    RotaryLayout::HalfSplit => (pair, pair + 4),
                };
                let (a, b) = (f64::from(bias[first]), f64::from(bias[second]));
                for position in 0..POSITIONS as usize {
                    let (sine, cosine) = ((position as f64 + 0.5) * radians).sin_cos();
                    mean[first] += 1.5 * (a * cosine - b * sine) / POSITIONS;
                    mean[second] += 1.5 * (a * sine + b * cosine) / POSITIONS;
                }
            }
            let mut centre = bias.clone();
            turn_to_the_mean(&mut centre, &rotary);
            for (centre, mean) in centre.iter().zip(&mean) {
                assert!((f64::from(*centre) - mean).abs() < 0.05, "{centre} instead of {mean}");
            }
            assert!(centre[0].abs() < 1.0, "a bias that turns fast has mean zero");
        }
    }
}
