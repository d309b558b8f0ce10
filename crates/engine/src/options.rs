//! The engine's settings.

use std::sync::Arc;
use std::time::Duration;

use zhenjin_tensor::{ComputeOptions, SimdLevel};

use crate::speculation::Speculation;
use crate::stats::EngineObserver;

/// How an engine shares one model among many requests. None of it changes an answer, only when it comes.
#[derive(Clone)]
pub struct EngineOptions {
    /// The most requests that run at once.
    pub max_batch: usize,
    /// The most prompt tokens in one step, over all requests.
    pub prefill_chunk: usize,
    /// How long a step should take at most while answers are being generated: a prompt's part of it is cut to
    /// fit, by the measured speed, so that running chats do not stall. Eight times as long while none is.
    pub step_time: Duration,
    /// The most requests that wait while `max_batch` run; more are refused.
    pub queue_limit: usize,
    /// How the next tokens are guessed, so that one step can check several.
    pub speculation: Speculation,
    /// Which instructions sampling uses. The model's own level, if log-probabilities are to equal those of
    /// other code.
    pub simd: SimdLevel,
    /// Told of steps, tokens and ends.
    pub observer: Option<Arc<dyn EngineObserver>>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            max_batch: 32,
            prefill_chunk: 512,
            step_time: Duration::from_millis(150),
            queue_limit: 128,
            speculation: Speculation::default(),
            simd: ComputeOptions::detect().simd,
            observer: None,
        }
    }
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EngineOptions")
            .field("max_batch", &self.max_batch)
            .field("prefill_chunk", &self.prefill_chunk)
            .field("step_time", &self.step_time)
            .field("queue_limit", &self.queue_limit)
            .field("speculation", &self.speculation)
            .field("simd", &self.simd)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}
