//! Perplexity over token ids by llama.cpp's method, so that the figures of both programs can be compared.
//!
//! The tokens are cut into windows that do not overlap, each is computed from an empty cache, and the predictions in
//! the second half of each window are scored (`tools/perplexity/perplexity.cpp` of llama.cpp).

use std::sync::Arc;

use zhenjin_tensor::{KvDtype, PAGE_TOKENS, PageId, SimdLevel, ThreadTeam};

use crate::adapter::Adapter;
use crate::batch::{Scoring, SequenceChunk};
use crate::errors::ModelError;
use crate::model::Model;
use crate::runner::{Runner, RunnerOptions};

/// The smallest window of which a prediction is scored.
const MIN_WINDOW: usize = 4;

/// The most tokens of a step; more does not compute faster.
const MAX_ROWS: usize = 512;

/// How perplexity is measured.
#[derive(Debug, Clone)]
pub struct PerplexityOptions {
    /// Tokens in a window; 512 is customary.
    pub context: usize,
    /// Windows to score, from the beginning; `None` for all that the text fills.
    pub windows: Option<usize>,
    /// The token that the tokenizer puts before every text, if it does: it begins the text, and replaces the first token
    /// of each window.
    pub bos: Option<u32>,
    /// The token ids below it can be predicted; see [`RunnerOptions::usable_vocabulary`].
    pub usable_vocabulary: Option<usize>,
    /// What is added to the weights.
    pub adapter: Option<Arc<Adapter>>,
    /// How keys and values are kept.
    pub kv_dtype: KvDtype,
    /// The instruction set of the small operations and of attention.
    pub simd: SimdLevel,
    /// The threads that compute.
    pub team: Arc<ThreadTeam>,
}

/// The figure after some of the windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerplexityProgress {
    /// Windows scored so far.
    pub window: usize,
    /// Windows that will be scored in all.
    pub windows: usize,
    /// Perplexity so far.
    pub perplexity: f64,
}

/// A measured perplexity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood, NaN when a logit is.
    pub perplexity: f64,
    /// The standard error of the perplexity.
    pub standard_error: f64,
    /// Predictions scored.
    pub scored_tokens: usize,
    /// Windows scored.
    pub windows: usize,
}

/// Why a perplexity cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerplexityError {
    /// The window is too small to score anything.
    #[error("a window of {window} tokens is too small; it must have at least {MIN_WINDOW}")]
    WindowTooSmall {
        /// The window.
        window: usize,
    },
    /// No window was asked for.
    #[error("0 windows were asked for; ask for at least 1")]
    NoWindows,
    /// The window is larger than the model's context.
    #[error("a window of {window} tokens does not fit the model's context of {context} positions")]
    WindowTooLarge {
        /// The window.
        window: usize,
        /// Positions of the context.
        context: usize,
    },
    /// The text is too short.
    #[error("the text has {tokens} tokens, but windows of {window} need at least {}", window.saturating_mul(2))]
    TooFewTokens {
        /// Tokens of the text.
        tokens: usize,
        /// The window.
        window: usize,
    },
    /// A step failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Measures the perplexity of `tokens`, given without the token that begins every text. `observe` sees the figure after
/// each window.
///
/// # Errors
/// [`PerplexityError`] when the window does not fit the text or the model, or a step fails.
pub fn measure(
    model: Arc<Model>,
    tokens: &[u32],
    options: &PerplexityOptions,
    observe: &mut dyn FnMut(&PerplexityProgress),
) -> Result<Perplexity, PerplexityError> {
    let window = options.context;
    let context = model.config.context_length;
    if window < MIN_WINDOW {
        return Err(PerplexityError::WindowTooSmall { window });
    }
    if window > context {
        return Err(PerplexityError::WindowTooLarge { window, context });
    }
    let tokens: Vec<u32> = options.bos.into_iter().chain(tokens.iter().copied()).collect();
    if tokens.len() / 2 < window {
        return Err(PerplexityError::TooFewTokens { tokens: tokens.len(), window });
    }
    let windows = options.windows.unwrap_or(usize::MAX).min(tokens.len() / window);
    if windows == 0 {
        return Err(PerplexityError::NoWindows);
    }
    let max_rows = MAX_ROWS.min(window);
    let runner_options = RunnerOptions {
        pages: window.div_ceil(PAGE_TOKENS),
        kv_dtype: options.kv_dtype,
        max_rows,
        max_logits_rows: 0,
        context_length: Some(window),
        usable_vocabulary: options.usable_vocabulary,
        simd: options.simd,
        team: Arc::clone(&options.team),
    };
    let mut runner = Runner::new(model, runner_options)?;
    let mut sums = Sums::default();
    for (index, input) in tokens.chunks_exact(window).take(windows).enumerate() {
        let mut input = input.to_vec();
        if let Some(bos) = options.bos {
            input[0] = bos;
        }
        score_window(&mut runner, options.adapter.as_deref(), &input, &mut sums)?;
        observe(&PerplexityProgress { window: index + 1, windows, perplexity: sums.mean().exp() });
    }
    let perplexity = sums.mean().exp();
    let standard_error = sums.standard_error() * perplexity;
    Ok(Perplexity { perplexity, standard_error, scored_tokens: sums.count, windows })
}

/// Scores the predictions of the window's second half, except the last, whose truth lies in the next window.
fn score_window(
    runner: &mut Runner,
    adapter: Option<&Adapter>,
    window: &[u32],
    sums: &mut Sums,
) -> Result<(), ModelError> {
    let pages: Vec<PageId> = (0..).take(window.len().div_ceil(PAGE_TOKENS)).map(PageId).collect();
    let first = window.len() / 2;
    let last = window.len() - 1;
    let rows_at_once = runner.max_rows();
    let mut start = 0;
    while start < last {
        let end = last.min(start + rows_at_once);
        let first_row = first.saturating_sub(start).min(end - start);
        let scores = Scoring { first_row, targets: &window[start + first_row + 1..=end], top: 0 };
        let chunk = SequenceChunk {
            tokens: &window[start..end],
            start,
            pages: &pages,
            scores,
            adapter,
            ..SequenceChunk::default()
        };
        for score in runner.step(&[chunk])?.scores {
            // The bits that a request for log-probabilities gets.
            sums.add(-f64::from(score.log_probability));
        }
        start = end;
    }
    Ok(())
}

/// Sums over the negative log-likelihoods of the predictions scored so far.
#[derive(Debug, Default)]
struct Sums {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, negative_log_likelihood: f64) {
        self.count += 1;
        self.sum += negative_log_likelihood;
        self.squares += negative_log_likelihood * negative_log_likelihood;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Of the mean; infinite for a single prediction.
    fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return f64::INFINITY;
        }
        let variance = (self.squares / self.count as f64 - self.mean().powi(2)).max(0.0);
        (variance / (self.count - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use zhenjin_tensor::Dtype;

    use super::*;
    use crate::batch::LogitsFor;
    use crate::testing::{RandomWeights, random_adapter, tiny_config};
    use crate::weights::LoadOptions;

    fn model() -> (Arc<Model>, PerplexityOptions) {
        let team = Arc::new(ThreadTeam::new(1).unwrap());
        let simd = SimdLevel::detect();
        let weights = RandomWeights::new(tiny_config(), Dtype::F32, 3);
        let options = LoadOptions { simd, team: Arc::clone(&team) };
        let model = Arc::new(Model::from_source(tiny_config(), &weights, &options).unwrap());
        (
            model,
            PerplexityOptions {
                context: 300,
                windows: None,
                bos: None,
                usable_vocabulary: None,
                adapter: None,
                kv_dtype: KvDtype::F32,
                simd,
                team,
            },
        )
    }

    fn text(tokens: usize) -> Vec<u32> {
        (0..tokens as u32)
            .map(|index| index.wrapping_mul(2_654_435_761) >> 7)
            .map(|number| number % 96)
            .collect()
    }

    /// The mean over the scored positions of one whole pass per window.
    fn reference(model: &Arc<Model>, options: &PerplexityOptions, windows: &[Vec<u32>]) -> f64 {
        let usable = options.usable_vocabulary.unwrap_or(model.config.vocabulary_size);
        let mut scores = Vec::new();
        for window in windows {
            let runner_options = RunnerOptions {
                pages: 16,
                kv_dtype: options.kv_dtype,
                max_rows: window.len(),
                max_logits_rows: window.len(),
                context_length: None,
                usable_vocabulary: None,
                simd: options.simd,
                team: Arc::clone(&options.team),
            };
            let mut runner = Runner::new(Arc::clone(model), runner_options).unwrap();
            let pages: Vec<PageId> = (0..16).map(PageId).collect();
            let logits = LogitsFor::All;
            let chunk = SequenceChunk { tokens: window, pages: &pages, logits, ..SequenceChunk::default() };
            let logits = runner.step(&[chunk]).unwrap().logits;
            for position in window.len() / 2..window.len() - 1 {
                let row = &logits.row(position)[..usable];
                let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                scores.push(sum.ln() - f64::from(row[window[position + 1] as usize]));
            }
        }
        (scores.iter().sum::<f64>() / scores.len() as f64).exp()
    }

    #[test]
    fn scores_the_second_half_of_each_window() {
        let (model, options) = model();
        let tokens = text(1000);
        let mut seen = Vec::new();
        let result =
            measure(Arc::clone(&model), &tokens, &options, &mut |progress| seen.push(progress.window))
                .unwrap();
        let windows: Vec<Vec<u32>> = tokens.chunks_exact(300).map(<[u32]>::to_vec).collect();
        let expected = reference(&model, &options, &windows);
        assert!(
            (result.perplexity / expected - 1.0).abs() < 1e-6,
            "{} instead of {expected}",
            result.perplexity
        );
        assert_eq!((result.scored_tokens, result.windows, seen), (3 * 149, 3, vec![1, 2, 3]));
        assert!(result.standard_error > 0.0 && result.standard_error < result.perplexity);
    }

    #[test]
    fn the_beginning_token_shifts_the_text_and_replaces_the_first_of_each_window() {
        let (model, mut options) = model();
        (options.bos, options.windows) = (Some(5), Some(2));
        let tokens = text(1000);
        let result = measure(Arc::clone(&model), &tokens, &options, &mut |_| {}).unwrap();
        let windows = [[&[5], &tokens[..299]].concat(), [&[5], &tokens[300..599]].concat()];
        let expected = reference(&model, &options, &windows);
        assert!(
            (result.perplexity / expected - 1.0).abs() < 1e-6,
            "{} instead of {expected}",
            result.perplexity
        );
    }

    #[test]
    fn rows_beyond_the_usable_vocabulary_take_no_probability() {
        let (model, options) = model();
        let all = measure(Arc::clone(&model), &text(700), &options, &mut |_| {}).unwrap();
        let tokens: Vec<u32> = text(700).into_iter().map(|token| token % 50).collect();
        let options = PerplexityOptions { usable_vocabulary: Some(50), ..options };
        let result = measure(Arc::clone(&model), &tokens, &options, &mut |_| {}).unwrap();
        let windows: Vec<Vec<u32>> = tokens.chunks_exact(300).map(<[u32]>::to_vec).collect();
        let expected = reference(&model, &options, &windows);
        assert!((result.perplexity / expected - 1.0).abs() < 1e-6, "{result:?} instead of {expected}");
        assert!(result.perplexity < 0.8 * all.perplexity, "{result:?}, with 96 tokens {all:?}");
    }

    #[test]
    fn an_adapter_is_measured_with_the_model() {
        let (model, options) = model();
        let alone = measure(Arc::clone(&model), &text(700), &options, &mut |_| {}).unwrap();
        let adapter = random_adapter(&model.config, 4, 9).pack(options.simd, &options.team).unwrap();
        let options = PerplexityOptions { adapter: Some(Arc::new(adapter)), ..options };
        let adapted = measure(Arc::clone(&model), &text(700), &options, &mut |_| {}).unwrap();
        assert!((adapted.perplexity / alone.perplexity - 1.0).abs() > 1e-4, "{adapted:?}, alone {alone:?}");
    }

    #[test]
    fn says_what_does_not_fit() {
        let (model, options) = model();
        for (context, windows, tokens, problem) in [
            (3, None, 1000, "a window of 3 tokens is too small"),
            (513, None, 5000, "does not fit the model's context of 512"),
            (300, None, 599, "the text has 599 tokens, but windows of 300 need at least 600"),
            (300, Some(0), 1000, "ask for at least 1"),
        ] {
            let options = PerplexityOptions { context, windows, ..options.clone() };
            let error = measure(Arc::clone(&model), &text(tokens), &options, &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
