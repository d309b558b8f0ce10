//! A model whose "keys and values" are the tokens themselves, kept in pages, and whose logits are a hash of
//! the whole history as found through the pages. A page handed out twice, given up too early or filled out of
//! order changes the answer.

use std::sync::{Arc, Condvar, Mutex};

use zhenjin_engine::sampling::log_softmax::LogSoftmax;
use zhenjin_engine::{StepError, StepModel};
use zhenjin_model::{HiddenFor, LogitsFor, OutputRows, PAGE_TOKENS, RowScore, SequenceChunk, StepOutputs};
use zhenjin_tensor::{SimdLevel, TopLogit};

pub(crate) const VOCABULARY: usize = 50;
pub(crate) const EMPTY: u32 = u32::MAX;

/// What the fake does besides answering.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// Every so many steps, a step with several chunks fails after it has overwritten their pages; odd times
    /// by a panic.
    pub(crate) fail_every: Option<usize>,
    /// A chunk that holds this token always fails.
    pub(crate) poison: Option<u32>,
    /// A history that ends with this token gets NaN.
    pub(crate) nan_after: Option<u32>,
    /// A chunk of several tokens that asks for the logits of all of them fails.
    pub(crate) refuses_drafts: bool,
    /// Each step waits for a permit.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Lets steps through one by one.
#[derive(Default)]
pub(crate) struct Gate {
    permits: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn open(&self, steps: usize) {
        *self.permits.lock().unwrap() += steps;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut permits =
            self.changed.wait_while(self.permits.lock().unwrap(), |permits| *permits == 0).unwrap();
        *permits -= 1;
    }
}

pub(crate) struct FakeModel {
    pub(crate) context: usize,
    pub(crate) max_rows: usize,
    pub(crate) max_logits_rows: usize,
    pub(crate) faults: Faults,
    /// The last token decides most of the logits, so that answers repeat themselves, with exceptions.
    pub(crate) repeats_itself: bool,
    /// How much the rest of the history decides then.
    pub(crate) share_of_history: f32,
    /// Other numbers are other weights.
    pub(crate) weights: u64,
    /// The ids below it can be generated.
    pub(crate) usable_vocabulary: usize,
    pages: Vec<[u32; PAGE_TOKENS]>,
    steps: usize,
    logits: Vec<f32>,
    scores: Vec<RowScore>,
    hidden: Vec<f32>,
}

impl FakeModel {
    pub(crate) fn new(pages: usize) -> FakeModel {
        FakeModel {
            context: 1000,
            max_rows: 96,
            max_logits_rows: 48,
            faults: Faults::default(),
            repeats_itself: false,
            share_of_history: 1.0 / 32.0,
            weights: 17,
            usable_vocabulary: VOCABULARY,
            pages: vec![[EMPTY; PAGE_TOKENS]; pages],
            steps: 0,
            logits: Vec::new(),
            scores: Vec::new(),
            hidden: Vec::new(),
        }
    }

    fn logits_after(&self, chunk: &SequenceChunk<'_>, position: usize) -> Vec<f32> {
        let token_at = |position: usize| {
            self.pages[chunk.pages[position / PAGE_TOKENS].0 as usize][position % PAGE_TOKENS]
        };
        let history =
            (0..=position).fold(self.weights, |hash, position| mix(hash ^ u64::from(token_at(position))));
        if self.faults.nan_after == Some(token_at(position)) {
            return vec![f32::NAN; VOCABULARY];
        }
        let logit = |of: u64, id: u64| (mix(of ^ id << 40) >> 40) as f32 / (1 << 21) as f32;
        let last = mix(u64::from(token_at(position)) ^ self.weights << 32);
        let logit = |id| match self.repeats_itself {
            true => logit(last, id) + logit(history, id) * self.share_of_history,
            false => logit(history, id),
        };
        (0..VOCABULARY as u64).map(logit).collect()
    }
}

/// Width of a hidden state.
const HIDDEN: usize = 7;

/// The score of `target` by the formula that answers' reports use.
fn score(logits: &[f32], target: u32, top: usize) -> RowScore {
    match LogSoftmax::of(SimdLevel::detect(), logits) {
        Ok(softmax) => RowScore {
            log_probability: softmax.log_probability(logits[target as usize]),
            top: softmax
                .top(SimdLevel::detect(), logits, top)
                .iter()
                .map(|top| (top.id as usize, top.logprob))
                .collect(),
            broken: None,
        },
        Err(_) => RowScore {
            log_probability: f32::NAN,
            top: Vec::new(),
            broken: Some(TopLogit { index: 0, logit: f32::NAN }),
        },
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl StepModel for FakeModel {
    fn usable_vocabulary(&self) -> usize {
        self.usable_vocabulary
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn page_count(&self) -> usize {
        self.pages.len()
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn max_logits_rows(&self) -> usize {
        self.max_logits_rows
    }

    fn step(&mut self, chunks: &[SequenceChunk<'_>]) -> Result<StepOutputs<'_>, StepError> {
        if let Some(gate) = &self.faults.gate {
            gate.pass();
        }
        self.steps += 1;
        assert!(chunks.iter().map(|chunk| chunk.tokens.len()).sum::<usize>() <= self.max_rows);
        let fails =
            self.faults.fail_every.is_some_and(|every| self.steps.is_multiple_of(every)) && chunks.len() > 1;
        if fails {
            for chunk in chunks {
                let (first, last) = (chunk.start, chunk.start + chunk.tokens.len());
                for position in first..last {
                    self.pages[chunk.pages[position / PAGE_TOKENS].0 as usize][position % PAGE_TOKENS] =
                        EMPTY;
                }
            }
            assert!(self.steps.is_multiple_of(2), "an injected panic");
            return Err("an injected error".into());
        }
        if let Some(poison) = self.faults.poison
            && chunks.iter().any(|chunk| chunk.tokens.contains(&poison))
        {
            return Err(format!("token {poison} is poison").into());
        }
        if self.faults.refuses_drafts
            && chunks.iter().any(|chunk| chunk.logits == LogitsFor::All && chunk.tokens.len() > 1)
        {
            return Err("no drafts today".into());
        }
        // Backwards, so that a chunk cannot lean on what an earlier chunk of the same step writes.
        let (mut rows, mut hidden): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
        self.scores.clear();
        for chunk in chunks.iter().rev() {
            let end = chunk.start + chunk.tokens.len();
            assert_eq!(chunk.pages.len(), end.div_ceil(PAGE_TOKENS));
            for (position, &token) in (chunk.start..end).zip(chunk.tokens) {
                self.pages[chunk.pages[position / PAGE_TOKENS].0 as usize][position % PAGE_TOKENS] = token;
            }
            let first = match chunk.logits {
                LogitsFor::None => end,
                LogitsFor::Last => end - 1,
                LogitsFor::All => chunk.start,
            };
            rows.extend((first..end).rev().map(|position| self.logits_after(chunk, position)));
            let first = match chunk.hidden {
                HiddenFor::None => end,
                HiddenFor::Last => end - 1,
                HiddenFor::All => chunk.start,
            };
            let state = |position: usize| self.logits_after(chunk, position)[..HIDDEN].to_vec();
            hidden.extend((first..end).rev().map(state));
            for (row, &target) in chunk.scores.targets.iter().enumerate().rev() {
                let position = chunk.start + chunk.scores.first_row + row;
                assert!(position < end);
                let score = score(&self.logits_after(chunk, position), target, chunk.scores.top);
                self.scores.push(score);
            }
        }
        self.scores.reverse();
        hidden.reverse();
        self.hidden = hidden.concat();
        assert!(rows.len() <= self.max_logits_rows);
        rows.reverse();
        self.logits = rows.concat();
        let logits = OutputRows::new(&self.logits, VOCABULARY, self.usable_vocabulary)
            .ok_or("rows of the wrong width")?;
        let hidden = OutputRows::new(&self.hidden, HIDDEN, HIDDEN).ok_or("states of the wrong width")?;
        Ok(StepOutputs { logits, scores: &self.scores, hidden })
    }
}
