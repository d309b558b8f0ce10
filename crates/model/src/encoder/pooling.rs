//! One vector for a whole text from the hidden states of all its tokens, as the library sentence-transformers pools them.
//!
//! Sums are in f64 over ascending positions.

use super::dense::Dense;

/// How the hidden states of a text become one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderPooling {
    /// One or several, whose results are put one behind the other.
    pub modes: Vec<PoolingMode>,
    /// Layers that the vector then goes through.
    pub dense: Vec<Dense>,
    /// Divide the vector by its Euclidean length, so that dot products are cosines. A vector of zeros stays one.
    pub normalise: bool,
}

/// A way to pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingMode {
    /// The first token's hidden state.
    Cls,
    /// Of each dimension the greatest.
    Max,
    /// The mean.
    Mean,
    /// The sum, divided by the root of the number of tokens.
    MeanSqrtLength,
    /// The mean in which the first token counts once, the second twice, and so on.
    WeightedMean,
    /// The last token's hidden state.
    Last,
}

impl PoolingMode {
    /// All of them.
    pub const ALL: [PoolingMode; 6] = [
        PoolingMode::Cls,
        PoolingMode::Max,
        PoolingMode::Mean,
        PoolingMode::MeanSqrtLength,
        PoolingMode::WeightedMean,
        PoolingMode::Last,
    ];

    /// What sentence-transformers calls it.
    pub fn name(self) -> &'static str {
        match self {
            PoolingMode::Cls => "cls",
            PoolingMode::Max => "max",
            PoolingMode::Mean => "mean",
            PoolingMode::MeanSqrtLength => "mean_sqrt_len_tokens",
            PoolingMode::WeightedMean => "weightedmean",
            PoolingMode::Last => "lasttoken",
        }
    }

    /// The way of that name.
    pub fn of_name(name: &str) -> Option<PoolingMode> {
        PoolingMode::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The number that GGUF files have for it; `None` for a way that they cannot say.
    pub fn gguf_number(self) -> Option<u64> {
        match self {
            PoolingMode::Mean => Some(1),
            PoolingMode::Cls => Some(2),
            PoolingMode::Last => Some(3),
            PoolingMode::Max | PoolingMode::MeanSqrtLength | PoolingMode::WeightedMean => None,
        }
    }

    fn pool(self, rows: &[f32], width: usize) -> Vec<f32> {
        let count = rows.len() / width;
        let sums = |weight: &dyn Fn(usize) -> f64| {
            let mut sums = vec![0.0f64; width];
            for (index, row) in rows.chunks_exact(width).enumerate() {
                let weight = weight(index);
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
            sums
        };
        let divided = |sums: Vec<f64>, divisor: f64| -> Vec<f32> {
            sums.into_iter().map(|sum| (sum / divisor) as f32).collect()
        };
        match self {
            PoolingMode::Cls => rows[..width].to_vec(),
            PoolingMode::Last => rows[rows.len() - width..].to_vec(),
            PoolingMode::Max => {
                let mut greatest = rows[..width].to_vec();
                for row in rows.chunks_exact(width).skip(1) {
                    greatest.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(*value));
                }
                greatest
            }
            PoolingMode::Mean => divided(sums(&|_| 1.0), count as f64),
            PoolingMode::MeanSqrtLength => divided(sums(&|_| 1.0), (count as f64).sqrt()),
            PoolingMode::WeightedMean => {
                divided(sums(&|index| (index + 1) as f64), (count * (count + 1)) as f64 / 2.0)
            }
        }
    }
}

impl EncoderPooling {
    /// By one way, without a layer behind it.
    pub fn of_mode(mode: PoolingMode, normalise: bool) -> EncoderPooling {
        EncoderPooling { modes: vec![mode], dense: Vec::new(), normalise }
    }

    /// Width of the vector that hidden states of `hidden_size` become.
    pub fn width(&self, hidden_size: usize) -> usize {
        self.dense.last().map_or(self.modes.len() * hidden_size, Dense::outputs)
    }

    /// Bytes of the layers' weights.
    pub fn weight_bytes(&self) -> u64 {
        self.dense.iter().map(Dense::bytes).sum()
    }

    /// The vector of a text whose hidden states are `rows`, `[tokens, width]`; there is at least one token.
    pub fn pool(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let pooled: Vec<f32> = self.modes.iter().flat_map(|mode| mode.pool(rows, width)).collect();
        let mut vector = self.dense.iter().fold(pooled, |vector, layer| layer.apply(&vector));
        if self.normalise {
            normalise(&mut vector);
        }
        vector
    }
}

/// Divides a vector by its Euclidean length; one of zeros stays as it is.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_by_hand() {
        let rows = [1.0, -4.0, 0.0, 5.0, 12.0, -3.0, 6.0, -2.0, -3.0];
        for (mode, expected) in [
            (PoolingMode::Cls, [1.0, -4.0, 0.0]),
            (PoolingMode::Max, [6.0, 12.0, 0.0]),
            (PoolingMode::Mean, [4.0, 2.0, -2.0]),
            (PoolingMode::MeanSqrtLength, [12.0, 6.0, -6.0].map(|sum| (sum / 3f64.sqrt()) as f32)),
            (PoolingMode::WeightedMean, [29.0 / 6.0, 14.0 / 6.0, -15.0 / 6.0]),
            (PoolingMode::Last, [6.0, -2.0, -3.0]),
        ] {
            let pooling = EncoderPooling::of_mode(mode, false);
            assert_eq!(pooling.pool(&rows, 3), expected, "{mode:?}");
            assert_eq!(PoolingMode::of_name(mode.name()), Some(mode));
        }
        let modes = vec![PoolingMode::Cls, PoolingMode::Last];
        let both = EncoderPooling { modes, dense: Vec::new(), normalise: true };
        let vector = both.pool(&[3.0, 0.0, 0.0, 4.0], 2);
        assert_eq!((vector, both.width(2)), (vec![0.6, 0.0, 0.0, 0.8], 4));
        let mut zeros = [0.0; 3];
        normalise(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
        assert_eq!(PoolingMode::of_name("median"), None);
    }
}
