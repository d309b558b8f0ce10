//! The operations of encoders in f64 as their formulas say.

use crate::attention::AttentionShape;
use crate::error::expect;
use crate::reference_executor::dot;
use crate::{EncoderExecutor, Executor, Projection, ReferenceExecutor, ReferenceTensor, RotaryFrequencies};
use crate::{RotaryLayout, TensorError};

impl EncoderExecutor for ReferenceExecutor {
    fn begin_encoding(&mut self, lengths: &[usize]) -> Result<(), TensorError> {
        let rotary =
            RotaryFrequencies { radians: Vec::new(), magnitude: 1.0, layout: RotaryLayout::HalfSplit };
        self.begin_packed(lengths, &[rotary])?;
        self.see_whole_documents();
        Ok(())
    }

    fn layer_norm(
        &mut self,
        input: &ReferenceTensor,
        weight: &Vec<f64>,
        bias: &Vec<f64>,
        epsilon: f32,
    ) -> Result<ReferenceTensor, TensorError> {
        expect("layer_norm: weight", input.width, weight.len())?;
        expect("layer_norm: bias", input.width, bias.len())?;
        let normalise = |row: &[f64]| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let centred: Vec<f64> = row.iter().map(|value| value - mean).collect();
            let root = (dot(&centred, &centred) / row.len() as f64 + f64::from(epsilon)).sqrt();
            let scaled = centred.iter().zip(weight).map(|(value, weight)| value / root * weight);
            scaled.zip(bias).map(|(value, bias)| value + bias).collect()
        };
        Ok(ReferenceTensor::from_rows(input.width, input.rows().map(normalise)))
    }

    fn project<const N: usize>(
        &mut self,
        input: &ReferenceTensor,
        projections: [Projection<'_, ReferenceTensor, Vec<f64>>; N],
    ) -> Result<[ReferenceTensor; N], TensorError> {
        self.linear(input.clone(), projections)
    }

    fn gelu(&mut self, mut input: ReferenceTensor) -> Result<ReferenceTensor, TensorError> {
        for value in &mut input.values {
            *value *= 0.5 * (1.0 + error_function(*value * std::f64::consts::FRAC_1_SQRT_2));
        }
        Ok(input)
    }

    fn attention_to_all(
        &mut self,
        shape: AttentionShape,
        queries: ReferenceTensor,
        keys: ReferenceTensor,
        values: ReferenceTensor,
    ) -> Result<ReferenceTensor, TensorError> {
        self.attention(0, shape, None, queries, keys, values)
    }
}

/// erf(x) = 2/√π · ∫₀ˣ e^(−t²) dt: its power series near 0, the continued fraction of erfc beyond.
pub(crate) fn error_function(x: f64) -> f64 {
    const SERIES_UP_TO: f64 = 3.0;
    let magnitude = x.abs();
    if magnitude > SERIES_UP_TO {
        let fraction = (1..=60).rev().fold(0.0, |below, n| f64::from(n) / 2.0 / (magnitude + below));
        let complement =
            (-magnitude * magnitude).exp() / ((magnitude + fraction) * std::f64::consts::PI.sqrt());
        return (1.0 - complement).copysign(x);
    }
    // e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·5·…·(2n+1)), all of whose terms have one sign.
    let (mut term, mut sum) = (magnitude, magnitude);
    for n in 1..120 {
        term *= 2.0 * magnitude * magnitude / f64::from(2 * n + 1);
        sum += term;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-magnitude * magnitude).exp() * sum).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::error_function;

    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (3.5, 0.999_999_256_901_627_7),
        ] {
            assert!((error_function(x) - expected).abs() < 2e-15, "erf({x}) = {}", error_function(x));
        }
    }
}
