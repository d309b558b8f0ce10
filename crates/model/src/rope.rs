//! The frequencies of rotary position embedding, stretched as a configuration says.

use std::f64::consts::TAU;

use zhenjin_tensor::{RotaryFrequencies, RotaryLayout};

use crate::config::{ModelConfig, RopeConfig, RopeLayout, RopeScaling};

/// The tables of a model: one for all layers, or a second for those with a window. [`ModelConfig::rope_table`] says which layer uses which.
pub fn tables(config: &ModelConfig) -> Vec<RotaryFrequencies> {
    std::iter::once(&config.rope).chain(&config.windowed_rope).map(frequencies).collect()
}

/// Radians per position for each pair of dimensions, with the factor that scaling puts on cosines and sines.
pub fn frequencies(config: &RopeConfig) -> RotaryFrequencies {
    let dim = config.rotary_dim as f64;
    let plain: Vec<f64> =
        (0..config.rotary_dim / 2).map(|pair| config.base.powf(-2.0 * pair as f64 / dim)).collect();
    let mut magnitude = 1.0;
    let radians = match &config.scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear { factor } => plain.iter().map(|radians| radians / factor).collect(),
        RopeScaling::Divisors(divisors) => {
            plain.iter().zip(divisors).map(|(radians, divisor)| radians / f64::from(*divisor)).collect()
        }
        RopeScaling::LongRope { factors, attention_factor, .. } => {
            magnitude = *attention_factor;
            plain.iter().zip(factors).map(|(radians, factor)| radians / factor).collect()
        }
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length,
        } => {
            let context = *original_context_length as f64;
            let (low, high) = (*low_frequency_factor, *high_frequency_factor);
            plain.iter().map(|radians| llama3(*radians, *factor, low, high, context)).collect()
        }
        RopeScaling::Yarn { factor, attention_factor, .. } => {
            magnitude =
                attention_factor.unwrap_or_else(|| if *factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 });
            yarn(&plain, config, &config.scaling)
        }
    };
    let layout = match config.layout {
        RopeLayout::Interleaved => RotaryLayout::Interleaved,
        RopeLayout::HalfSplit => RotaryLayout::HalfSplit,
    };
    RotaryFrequencies { radians, magnitude, layout }
}

/// Llama 3.1's rule: wavelengths that fit `high` times into the original context are kept, those that do not fit `low`
/// times are stretched, those between are mixed.
fn llama3(radians: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let turns = context * radians / TAU;
    if turns < low {
        radians / factor
    } else if turns > high {
        radians
    } else {
        let kept = (turns - low) / (high - low);
        (1.0 - kept) * radians / factor + kept * radians
    }
}

/// YaRN's "NTK by parts" (Peng et al. 2023, section 3.2).
fn yarn(plain: &[f64], config: &RopeConfig, scaling: &RopeScaling) -> Vec<f64> {
    let RopeScaling::Yarn { factor, original_context_length, beta_fast, beta_slow, truncate, .. } = scaling
    else {
        return plain.to_vec();
    };
    let dim = config.rotary_dim as f64;
    // The pair that turns `turns` times over the original context.
    let pair_with =
        |turns: f64| dim * (*original_context_length as f64 / (turns * TAU)).ln() / (2.0 * config.base.ln());
    let (mut low, mut high) = (pair_with(*beta_fast), pair_with(*beta_slow));
    if *truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let stretch = |(pair, radians): (usize, &f64)| {
        let stretched = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        radians / factor * stretched + radians * (1.0 - stretched)
    };
    plain.iter().enumerate().map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SlidingWindow;
    use crate::testing::tiny_config;

    fn config(scaling: RopeScaling) -> RopeConfig {
        RopeConfig { base: 10_000.0, rotary_dim: 8, layout: RopeLayout::HalfSplit, scaling }
    }

    fn assert_near(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() <= 1e-9 * expected.abs(), "{actual} instead of {expected}");
        }
    }

    #[test]
    fn plain_linear_and_divided() {
        assert_near(&frequencies(&config(RopeScaling::None)).radians, &[1.0, 0.1, 0.01, 0.001]);
        let linear = frequencies(&config(RopeScaling::Linear { factor: 4.0 }));
        assert_near(&linear.radians, &[0.25, 0.025, 0.0025, 0.000_25]);
        assert_eq!(linear.magnitude, 1.0);
        let divided = frequencies(&config(RopeScaling::Divisors(vec![1.0, 2.0, 4.0, 8.0])));
        assert_near(&divided.radians, &[1.0, 0.05, 0.0025, 0.000_125]);
        let long = frequencies(&config(RopeScaling::LongRope {
            factors: vec![1.0, 1.25, 2.0, 4.0],
            attention_factor: 1.19,
            original_context_length: 4096,
            long_factors: vec![2.0; 4],
            long_context_length: 8192,
        }));
        assert_near(&long.radians, &[1.0, 0.08, 0.005, 0.000_25]);
        assert_eq!(long.magnitude, 1.19);
    }

    #[test]
    fn layers_with_a_window_may_have_a_table_of_their_own() {
        let window = SlidingWindow { positions: 8, layers: vec![0, 2] };
        let plain = ModelConfig { layers: 4, sliding_window: Some(window), ..tiny_config() };
        assert_eq!(tables(&plain).len(), 1);
        assert_eq!([0, 1, 2, 3].map(|layer| plain.rope_table(layer)), [0; 4]);
        let other = RopeConfig { base: 500.0, ..plain.rope.clone() };
        let two = ModelConfig { windowed_rope: Some(other), ..plain };
        let found = tables(&two);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].radians, frequencies(&two.rope).radians);
        assert_near(&found[1].radians[1..2], &[500_f64.powf(-0.125)]);
        assert_eq!([0, 1, 2, 3].map(|layer| two.rope_table(layer)), [1, 0, 1, 0]);
    }

    // Numbers from transformers' `_compute_llama3_parameters` and `_compute_yarn_parameters` for the same settings.
    #[test]
    fn llama3_keeps_high_and_stretches_low_frequencies() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_length: 256,
        };
        let turns = 256.0 * 0.1 / TAU;
        assert!(turns > 4.0);
        // 256 · 0.01 turns 0.41 times, below 1.
        assert_near(&frequencies(&config(scaling)).radians, &[1.0, 0.1, 0.00125, 0.000_125]);
        // In the middle: 1.63 turns are kept to (1.63 − 1) / 3.
        let kept = (1024.0 * 0.01 / TAU - 1.0) / 3.0;
        assert_near(&[llama3(0.01, 8.0, 1.0, 4.0, 1024.0)], &[0.01 * kept + (1.0 - kept) * 0.00125]);
    }

    #[test]
    fn yarn_ramps_between_and_heats_attention() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_context_length: 2048,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            truncate: true,
        };
        let result = frequencies(&config(scaling));
        assert!((result.magnitude - (0.1 * 4.0f64.ln() + 1.0)).abs() < 1e-12);
        // The ramp goes from pair 1 (10.2 → 32 turns at 1.007) to pair 3 (1 turn at 2.51).
        assert_near(&result.radians, &[1.0, 0.1, 0.01 * 0.625, 0.000_25]);
    }
}
