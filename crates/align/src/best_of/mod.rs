//! Best-of-n and rejection sampling: several answers to each prompt, judged; the best become examples to imitate, or the best and the
//! worst a preference pair (Stiennon et al. 2020, arXiv 2009.01325; Touvron et al. 2023, arXiv 2307.09288, section 3.2.3).

mod choice;
mod records;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zhenjin_conversation::Message;
use zhenjin_model::{Adapter, Model};
use zhenjin_random::SplitMix64;

use crate::data::{EncodedTask, Encoder, Task, WrittenFault};
use crate::error::AlignError;
use crate::methods::{Decode, RewardSource};
use crate::rewards;
use crate::rollouts::{Answer, Job, Rollouts};
pub use choice::{Choice, Chosen, LeftOut};
pub use records::{conversation_record, pair_record};
pub use summary::{BestOf, Summary, expected_best, kl_bound};

/// Answers that the engine writes at once: memory for keys and values grows with them.
const TOGETHER: usize = 64;

/// Why an answer cannot become an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// It was cut at the most tokens: imitated, it would teach to stop in the middle.
    Cut,
    /// It has no words.
    Empty,
    /// The template would write other text than the model wrote, or it is no text: half a character, control tokens.
    Rewritten,
}

/// An answer with what it is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What was said, without a thought.
    pub text: String,
    /// What was thought before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought: Option<String>,
    /// Its tokens, the one that ends it included.
    pub tokens: usize,
    /// The seed of its sampling.
    pub seed: u64,
    /// What it is worth; nothing where the reward failed.
    pub reward: Option<f64>,
    /// What the reward is made of, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
    /// Why there is no reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Why it cannot become an example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<Unusable>,
}

impl Candidate {
    /// What it is worth, where it can be chosen.
    pub fn worth(&self) -> Option<f64> {
        self.reward.filter(|_| self.unusable.is_none())
    }

    /// Lets it be chosen although it was cut.
    pub fn keep_cut(&mut self) {
        self.unusable = self.unusable.filter(|reason| *reason != Unusable::Cut);
    }

    /// Whether both say the same.
    fn is_same(&self, other: &Candidate) -> bool {
        (self.text.trim(), &self.thought) == (other.text.trim(), &other.thought)
    }
}

/// How answers are written and judged.
pub struct Sampler<'a> {
    /// Writes them.
    pub rollouts: Rollouts,
    /// The weights.
    pub model: &'a Arc<Model>,
    /// An adapter to them.
    pub adapter: Option<Arc<Adapter>>,
    /// Writes an answer into a conversation, and says whether it stays what it was.
    pub encoder: &'a Encoder<'a>,
    /// Tokens to text, for rewards.
    pub decode: Decode,
    /// What answers are worth; without it nothing is, and all are alike.
    pub rewards: Option<Box<dyn RewardSource>>,
    /// Answers to each prompt.
    pub answers: usize,
    /// Of sampling.
    pub seed: u64,
}

impl std::fmt::Debug for Sampler<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sampler").field("answers", &self.answers).finish_non_exhaustive()
    }
}

impl Sampler<'_> {
    /// Prompts that are answered together, so that the engine is busy and memory is bounded.
    pub fn prompts_together(&self) -> usize {
        (TOGETHER / self.answers.max(1)).max(1)
    }

    /// Answers to some prompts, of which the first has number `first`. What is sampled is a function of the seed, the prompt's number and the
    /// answer's number alone: more answers are the same ones and others behind them.
    ///
    /// # Errors
    /// As for [`Rollouts::write`], and those of the reward when it can judge no answer any more.
    pub fn answer(
        &mut self,
        tasks: &[Task],
        encoded: &[EncodedTask],
        first: usize,
    ) -> Result<Vec<Vec<Candidate>>, AlignError> {
        let each = self.answers;
        let seed = |number: usize| {
            let prompt =
                SplitMix64::of(self.seed, "prompts of best-of-n", (first + number / each) as u64).next_u64();
            SplitMix64::of(prompt, "answers of best-of-n", (number % each) as u64).next_u64()
        };
        let prompts = encoded.iter().flat_map(|task| std::iter::repeat_n(&task.prompt[..], each));
        let jobs: Vec<Job<'_>> =
            prompts.enumerate().map(|(number, prompt)| Job { prompt, seed: seed(number) }).collect();
        let mut written = Vec::with_capacity(jobs.len());
        for some in jobs.chunks(TOGETHER) {
            written.extend(self.rollouts.write(self.model, self.adapter.as_ref(), some)?);
        }
        let mut candidates: Vec<Candidate> = Vec::with_capacity(written.len());
        for (number, answer) in written.iter().enumerate() {
            candidates
                .push(Candidate { seed: jobs[number].seed, ..self.candidate(&tasks[number / each], answer) });
        }
        self.judge(encoded, &written, &mut candidates)?;
        let mut candidates = candidates.into_iter();
        Ok(encoded.iter().map(|_| candidates.by_ref().take(each).collect()).collect())
    }

    /// What the rewards have to say since this was last asked, as [`RewardSource::notes`].
    pub fn notes(&mut self) -> Vec<String> {
        self.rewards.as_mut().map(|source| source.notes()).unwrap_or_default()
    }

    fn candidate(&self, task: &Task, answer: &Answer) -> Candidate {
        let said = without_end(answer);
        let (message, fault) = match self.encoder.written_answer(task, said) {
            Ok(message) => (Some(message), None),
            Err(WrittenFault::Empty) => (None, Some(Unusable::Empty)),
            Err(WrittenFault::Rewritten) => (None, Some(Unusable::Rewritten)),
        };
        let cut = (!answer.ended).then_some(Unusable::Cut);
        let (text, thought) = match message {
            Some(Message { content, thought, .. }) => (content, thought),
            None => ((self.decode)(said), None),
        };
        let unusable = fault.or(cut);
        Candidate { text, thought, tokens: answer.tokens.len(), unusable, ..Candidate::default() }
    }

    fn judge(
        &mut self,
        encoded: &[EncodedTask],
        written: &[Answer],
        candidates: &mut [Candidate],
    ) -> Result<(), AlignError> {
        let Some(source) = &mut self.rewards else {
            candidates.iter_mut().for_each(|candidate| candidate.reward = Some(0.0));
            return Ok(());
        };
        let texts: Vec<String> = written.iter().map(|answer| (self.decode)(without_end(answer))).collect();
        let answers: Vec<rewards::Answer<'_>> = written
            .iter()
            .zip(&texts)
            .enumerate()
            .map(|(number, (answer, text))| rewards::Answer {
                task: &encoded[number / self.answers],
                text,
                tokens: &answer.tokens,
                ended: answer.ended,
            })
            .collect();
        let judgements = source.judge(&answers)?;
        if judgements.len() != candidates.len() {
            return Err(AlignError::Input(format!(
                "the reward judged {} answers of {}",
                judgements.len(),
                candidates.len()
            )));
        }
        for (candidate, judgement) in candidates.iter_mut().zip(judgements) {
            candidate.parts = judgement.parts.into_iter().collect();
            match judgement.total {
                Ok(total) if total.is_finite() => candidate.reward = Some(total),
                Ok(total) => candidate.fault = Some(format!("the reward is {total}")),
                Err(fault) => candidate.fault = Some(fault),
            }
        }
        Ok(())
    }
}

/// The token that ends an answer is no text.
fn without_end(answer: &Answer) -> &[u32] {
    &answer.tokens[..answer.tokens.len() - usize::from(answer.ended)]
}
