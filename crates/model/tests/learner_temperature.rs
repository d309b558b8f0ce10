//! Scores at a temperature: against log softmax of the divided logits in f64, with their gradients, and against what an answer's
//! tokens are drawn with.

use std::ops::Range;
use std::sync::Arc;

use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config};
use zhenjin_model::{Learned, Learner, LearnerOptions, LoadOptions, TokenBatch, Weights};
use zhenjin_tensor::{
    Dtype, Gradients, LogSumExp, LogitLoss, ParameterId, ScoreGradient, SimdLevel, TensorError, ThreadTeam,
    TokenScore,
};

const LENGTHS: [usize; 3] = [29, 1, 70];
/// Factor of the squared log-sum-exp in the loss.
const Z_LOSS: f32 = 0.03;

fn importance(row: usize) -> f32 {
    0.5 + (row % 5) as f32 / 4.0
}

/// The derivatives of Σ importance · (−log-probability + Z_LOSS · log-sum-exp²).
fn slope(row: usize, score: TokenScore) -> ScoreGradient {
    let weight = importance(row);
    ScoreGradient { log_probability: -weight, log_sum_exp: weight * 2.0 * Z_LOSS * score.log_sum_exp }
}

/// The same loss as a formula of the logits, in f64. Every row has a target.
struct Formula<'a> {
    temperature: f64,
    targets: &'a [Option<u32>],
}

impl LogitLoss for Formula<'_> {
    type Score = (f64, f64);

    fn begin(&mut self, _: Range<usize>) -> Result<(), TensorError> {
        Ok(())
    }

    fn row(&self, row: usize, logits: &mut [f32]) -> (f64, f64) {
        let target = self.targets[row].unwrap() as usize;
        let divided: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) / self.temperature).collect();
        let log_sum = divided.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let by_log_sum = 1.0 + 2.0 * f64::from(Z_LOSS) * log_sum;
        for (token, (logit, divided)) in logits.iter_mut().zip(&divided).enumerate() {
            let own = f64::from(u8::from(token == target));
            let by_divided = by_log_sum * (divided - log_sum).exp() - own;
            *logit = (f64::from(importance(row)) * by_divided / self.temperature) as f32;
        }
        (divided[target] - log_sum, log_sum)
    }
}

fn assert_near(actual: &Gradients, expected: &Gradients, what: &str) {
    for id in (0..expected.len() as u32).map(ParameterId) {
        let largest = expected.get(id).iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let mut pairs = actual.get(id).iter().zip(expected.get(id));
        assert!(
            pairs.all(|(one, other)| (one - other).abs() <= 2e-5 * largest),
            "{what}, parameter {}",
            id.0
        );
    }
}

#[test]
fn scores_and_gradients_are_those_of_divided_logits() {
    let config = tiny_config();
    let tokens: Vec<u32> = (0..100).map(|row| row * 37 % config.vocabulary_size as u32).collect();
    let targets: Vec<Option<u32>> =
        tokens.iter().map(|token| Some((token * 5 + 1) % config.vocabulary_size as u32)).collect();
    let batch = TokenBatch { tokens: &tokens, document_lengths: &LENGTHS, targets: &targets };
    for simd in SimdLevel::available() {
        let options = LoadOptions { simd, team: Arc::new(ThreadTeam::new(2).unwrap()) };
        let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
        let weights = Weights::load(&config, &source, &options).unwrap();
        let first = weights.parameters().count();
        let adapter = random_adapter(&config, 5, 9).pack(simd, &options.team).unwrap();
        let adapter = adapter.with_parameters(first);
        let learned = Learned::from(&weights).with_adapter(Some(&adapter));
        let shapes = learned.parameter_shapes();
        for temperature in [0.6f32, 1.7] {
            let mut learner =
                Learner::new(&config, LearnerOptions { load: options.clone(), recompute: false }).unwrap();
            learner.set_score_temperature(temperature);
            // With a head that learns, and with a frozen one, whose gradients are multiplied with their slopes at the end.
            for first_learning in [0, first] {
                let what = format!("temperature {temperature}, from parameter {first_learning} on, {simd}");
                let room = || Gradients::of_some(&shapes, |id| id.0 as usize >= first_learning).unwrap();
                let mut expected = room();
                let mut formula = Formula { temperature: f64::from(temperature), targets: &targets };
                let by_formula =
                    learner.accumulate_logits(learned, &batch, &mut formula, &mut expected).unwrap();
                let mut by_rows = room();
                let scores = learner.accumulate(learned, &batch, &slope, &mut by_rows).unwrap();
                for (score, (log_probability, log_sum_exp)) in scores.iter().zip(by_formula) {
                    assert!((f64::from(score.log_probability) - log_probability).abs() < 1e-5, "{what}");
                    assert!((f64::from(score.log_sum_exp) - log_sum_exp).abs() < 1e-5, "{what}");
                }
                assert_near(&by_rows, &expected, &what);
                let mut slopes = |found: &[TokenScore]| {
                    found.iter().enumerate().map(|(row, score)| slope(row, *score)).collect()
                };
                let mut by_batch = room();
                let same = learner.accumulate_together(learned, &batch, &mut slopes, &mut by_batch).unwrap();
                assert_eq!(same, scores, "{what}");
                assert_near(&by_batch, &expected, &what);
                assert_eq!(learner.score(learned, &batch).unwrap(), scores, "{what}");
            }
        }
    }
}

/// A sampler that reports log-probabilities has whole rows of logits; the learner's scores come piece by piece.
#[test]
fn whole_rows_and_pieces_have_the_same_bits_at_a_temperature() {
    let logits: Vec<f32> =
        (0..5 * LogSumExp::PART + 77).map(|index| ((index * 7919) % 613) as f32 * 0.05 - 15.0).collect();
    for simd in SimdLevel::available() {
        let of = |temperature: f32, pieces: usize| {
            let mut total = LogSumExp::at_temperature(temperature);
            logits.chunks(pieces).for_each(|piece| total.add(simd, piece));
            total
        };
        for temperature in [0.3f32, 0.7, 1.3] {
            let whole = of(temperature, logits.len());
            assert_eq!(of(temperature, LogSumExp::PART), whole, "{simd}");
            assert_eq!(of(temperature, 2 * LogSumExp::PART), whole, "{simd}");
            let divided: Vec<f64> =
                logits.iter().map(|logit| f64::from(*logit) / f64::from(temperature)).collect();
            let exact = divided.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            for (logit, divided) in logits.iter().zip(&divided) {
                let log_probability = f64::from(whole.log_probability(*logit));
                assert!((log_probability - (divided - exact)).abs() < 1e-5, "{temperature}, {simd}");
            }
        }
        assert_eq!(of(1.0, 1024), zhenjin_tensor::log_sum_exp(simd, &logits));
    }
}
