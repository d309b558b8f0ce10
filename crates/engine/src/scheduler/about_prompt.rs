//! What a request asks about its prompt besides an answer: log-probabilities of its tokens, a pooled hidden state.
//! Knows what is still wanted, and collects it chunk by chunk.

use std::ops::Range;

use zhenjin_model::{HiddenFor, OutputRows, Pool, Pooling, PoolingRows, RowScore};

use crate::request::{PromptLogprobs, Request, TokenLogprob, TokenReport};
use crate::sampling::log_softmax::BrokenLogit;

/// The answers so far. A position is asked for once, also when it is computed again after a preemption.
#[derive(Debug)]
pub(crate) struct AboutPrompt {
    prompt_tokens: usize,
    /// How many of the most likely tokens are reported.
    top: usize,
    reports: Vec<TokenReport>,
    /// The next position whose token is to be scored; none if all are.
    next_scored: Option<usize>,
    pooling: Option<Pooling>,
    pool: Pool,
    /// The next position whose hidden state is to be pooled; none if all are.
    next_pooled: Option<usize>,
}

/// What of it a chunk brings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PromptRowsWanted {
    /// The row of the chunk after which the first token is scored.
    pub(crate) first_scored_row: usize,
    /// Tokens that are scored.
    pub(crate) scored: usize,
    /// Rows whose hidden states are pooled.
    pub(crate) hidden: HiddenFor,
}

impl AboutPrompt {
    /// What `request` asks about the prompt `tokens`.
    pub(crate) fn new(request: &Request, tokens: &[u32]) -> AboutPrompt {
        let PromptLogprobs { from, top } =
            request.prompt_logprobs.unwrap_or(PromptLogprobs { from: usize::MAX, top: 0 });
        // Nothing predicts the first token.
        let first = tokens.first().filter(|_| from == 0);
        let first_report = first.map(|&id| TokenReport { id, logprob: None, top: Vec::new() });
        let prompt_tokens = tokens.len();
        let next_pooled = request.pooling.map(|pooling| match pooling.rows {
            PoolingRows::Last => prompt_tokens.saturating_sub(1),
            PoolingRows::Mean => 0,
        });
        AboutPrompt {
            prompt_tokens,
            top,
            reports: first_report.into_iter().collect(),
            next_scored: Some(from.max(1)).filter(|from| *from < prompt_tokens),
            pooling: request.pooling,
            pool: Pool::default(),
            next_pooled,
        }
    }

    /// The first position of which something is still wanted.
    pub(crate) fn first_wanted(&self) -> Option<usize> {
        // The row before a token predicts it.
        let predicting = self.next_scored.map(|position| position - 1);
        predicting.into_iter().chain(self.next_pooled).min()
    }

    /// What is wanted of a chunk at `positions`.
    pub(crate) fn wanted(&self, positions: Range<usize>) -> PromptRowsWanted {
        let mut wanted = PromptRowsWanted::default();
        if let Some(next) = self.next_scored {
            let first = (next - 1).max(positions.start);
            wanted.scored = positions.end.min(self.prompt_tokens - 1).saturating_sub(first);
            wanted.first_scored_row = first - positions.start;
        }
        wanted.hidden = match self.next_pooled {
            Some(next) if next < positions.end && next + 1 == self.prompt_tokens => HiddenFor::Last,
            Some(next) if next < positions.end => HiddenFor::All,
            _ => HiddenFor::None,
        };
        wanted
    }

    /// How many of the most likely tokens are reported.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// Takes in the scores of the next tokens of the prompt, whose ids are `targets`.
    pub(crate) fn add_scores(&mut self, targets: &[u32], scores: &[RowScore]) -> Result<(), BrokenLogit> {
        for (&id, score) in targets.iter().zip(scores) {
            let Some(next) = self.next_scored else { return Ok(()) };
            if let Some(broken) = score.broken {
                return Err(broken.into());
            }
            let logprob = Some(score.log_probability);
            let ranked = |&(id, logprob): &(usize, f32)| TokenLogprob { id: id as u32, logprob };
            let top = score.top.iter().map(ranked).collect();
            self.reports.push(TokenReport { id, logprob, top });
            self.next_scored = Some(next + 1).filter(|next| *next < self.prompt_tokens);
        }
        Ok(())
    }

    /// Takes in the hidden states of a chunk that ends at position `end`.
    pub(crate) fn add_hidden(&mut self, end: usize, rows: OutputRows<'_>, numbers: Range<usize>) {
        let first = end - numbers.len();
        for (position, number) in (first..).zip(numbers) {
            if self.next_pooled == Some(position) {
                self.pool.add(rows.row(number));
                self.next_pooled = Some(position + 1).filter(|next| *next < self.prompt_tokens);
            }
        }
    }

    /// The reports and the pooled vector, once nothing more is wanted.
    pub(crate) fn take(&mut self) -> (Vec<TokenReport>, Option<Vec<f32>>) {
        let pooled = self.pooling.map(|pooling| self.pool.finish(pooling.normalise));
        (std::mem::take(&mut self.reports), pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Sampling;

    #[test]
    fn hidden_states_are_wanted_of_the_rows_that_are_pooled_alone() {
        let about = |rows| {
            let pooling = Some(Pooling { rows, normalise: false });
            let request = Request { pooling, ..Request::new(vec![7; 10], 0, Sampling::greedy()) };
            AboutPrompt::new(&request, &[7; 10])
        };
        let last = about(PoolingRows::Last);
        assert_eq!(last.wanted(0..9).hidden, HiddenFor::None);
        assert_eq!(last.wanted(4..10).hidden, HiddenFor::Last);
        let mean = about(PoolingRows::Mean);
        assert_eq!((mean.wanted(0..4).hidden, mean.wanted(0..10).hidden), (HiddenFor::All, HiddenFor::All));
    }
}
