//! How many rows of each request go into the next step. Decides by counts alone; does not hand out pages.

use std::collections::BTreeMap;
use std::time::Duration;

use zhenjin_model::PAGE_TOKENS;

use super::sequence::Sequence;

/// How many times as long a step may take while no answer is being generated: nobody waits for the next token then, but a new question,
/// a cancellation and the end of the engine wait for the step.
const TIMES_LONGER_ALONE: u32 = 8;

/// The measured speed of prompts, by which a step is kept short.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    seconds_per_row: Option<f64>,
}

impl Pace {
    /// Records a step. Steps of answers alone say little about prompts.
    pub(crate) fn note(&mut self, prefill_rows: usize, decode_rows: usize, duration: Duration) {
        const WEIGHT_OF_LATEST: f64 = 0.25;
        if prefill_rows < PAGE_TOKENS {
            return;
        }
        let latest = duration.as_secs_f64() / (prefill_rows + decode_rows) as f64;
        self.seconds_per_row = Some(match self.seconds_per_row {
            None => latest,
            Some(seconds) => seconds + WEIGHT_OF_LATEST * (latest - seconds),
        });
    }

    /// How many prompt rows fit into `step_time` beside `decode_rows`, at most `most`; into several times as long where there are none of
    /// these. At least a page, and half as many as answers have: where these alone take the time, prompts would wait for ever else.
    pub(crate) fn prefill_rows(&self, decode_rows: usize, step_time: Duration, most: usize) -> usize {
        let Some(seconds_per_row) = self.seconds_per_row else { return most };
        let step_time =
            if decode_rows > 0 { step_time } else { step_time.saturating_mul(TIMES_LONGER_ALONE) };
        let rows = (step_time.as_secs_f64() / seconds_per_row) as usize;
        let fair = decode_rows.div_ceil(2).max(1).next_multiple_of(PAGE_TOKENS);
        rows.saturating_sub(decode_rows).max(fair).min(most)
    }
}

/// What one step can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepLimits {
    /// Rows of prompts.
    pub(crate) prefill_rows: usize,
}

/// The rows of each request in the next step; requests without rows are left out.
///
/// Every answer gets its one row. Prompts share `prefill_rows`: the oldest gets half (or all, if no other prompt
/// can use the rest), so that it never starves; the others get the rest, the one with the least left first,
/// so that a short question need not wait for a long document. A prompt whose next page is being computed in
/// this very step for another one waits for that page.
pub(crate) fn choose_rows(running: &BTreeMap<u64, Sequence>, limits: StepLimits) -> BTreeMap<u64, usize> {
    let mut rows: BTreeMap<u64, usize> =
        running.values().filter(|s| is_answering(s)).map(|s| (s.id, 1)).collect();
    let mut prompts: Vec<&Sequence> = running.values().filter(|s| !is_answering(s)).collect();
    if prompts.len() > 1 {
        prompts[1..].sort_by_key(|sequence| (sequence.pending(), sequence.id));
    }
    let mut chooser = PromptRows { left: limits.prefill_rows, first_pages: Vec::new() };
    let Some((oldest, others)) = prompts.split_first() else { return rows };
    let half = if others.is_empty() { limits.prefill_rows } else { limits.prefill_rows.div_ceil(2) };
    let first_share = chooser.take(oldest, half);
    for sequence in others {
        if chooser.left == 0 {
            break;
        }
        if chooser.is_being_computed(sequence) {
            continue;
        }
        let share = chooser.take(sequence, chooser.left);
        if share > 0 {
            rows.insert(sequence.id, share);
        }
    }
    let share = chooser.extend(oldest, first_share);
    if share > 0 {
        rows.insert(oldest.id, share);
    }
    rows
}

/// One token to compute and nothing more to say about the prompt: a row like any other answer's.
pub(crate) fn is_answering(sequence: &Sequence) -> bool {
    sequence.pending() == 1 && sequence.about_prompt.first_wanted().is_none()
}

struct PromptRows<'a> {
    left: usize,
    /// The sequences whose next full page, from its beginning, is computed in this step.
    first_pages: Vec<&'a Sequence>,
}

impl<'a> PromptRows<'a> {
    /// Gives `sequence` at most `most` rows, up to the end of a page unless its prompt ends before.
    fn take(&mut self, sequence: &'a Sequence, most: usize) -> usize {
        let mut rows = most.min(self.left).min(sequence.pending());
        if rows < sequence.pending() {
            let beyond_page = (sequence.computed + rows) % PAGE_TOKENS;
            if beyond_page < rows {
                rows -= beyond_page;
            }
        }
        self.left -= rows;
        if sequence.is_at_new_page() && rows >= PAGE_TOKENS {
            self.first_pages.push(sequence);
        }
        rows
    }

    /// Gives `sequence`, which has `rows`, what is left.
    fn extend(&mut self, sequence: &'a Sequence, rows: usize) -> usize {
        self.left += rows;
        self.take(sequence, self.left)
    }

    fn is_being_computed(&self, sequence: &Sequence) -> bool {
        // Its last token is always computed by itself, so a page that ends with it cannot be shared.
        if !sequence.is_at_new_page() || sequence.computed + PAGE_TOKENS > sequence.reusable_until() {
            return false;
        }
        let page = sequence.page_tokens(sequence.published);
        self.first_pages
            .iter()
            .any(|other| other.chain == sequence.chain && other.page_tokens(other.published) == page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Submission;
    use crate::request::Request;
    use crate::sampling::Sampling;
    use proptest::prelude::*;

    fn running(prompts: &[Vec<u32>]) -> BTreeMap<u64, Sequence> {
        let sequence = |(index, prompt): (usize, &Vec<u32>)| {
            let (events, _) = tokio::sync::mpsc::unbounded_channel();
            let request = Request::new(prompt.clone(), 8, Sampling::greedy());
            let id = index as u64;
            (
                id,
                Sequence::new(
                    Submission {
                        id,
                        request,
                        seed: 0,
                        submitted: std::time::Instant::now(),
                        events,
                        weights: crate::weights::WeightsVersion::first(None),
                    },
                    1000,
                ),
            )
        };
        prompts.iter().enumerate().map(sequence).collect()
    }

    fn prompt(first: u32, length: usize) -> Vec<u32> {
        (first..first + length as u32).collect()
    }

    #[test]
    fn a_long_prompt_leaves_room_for_short_ones_and_answers() {
        let sequences = running(&[prompt(0, 4000), prompt(5000, 300), prompt(6000, 20), prompt(7000, 1)]);
        let rows = choose_rows(&sequences, StepLimits { prefill_rows: 256 });
        assert_eq!(rows[&3], 1);
        assert_eq!(rows[&2], 20);
        assert_eq!(rows[&0], 128);
        assert_eq!(rows[&1], 96);
    }

    #[test]
    fn an_equal_beginning_is_computed_once() {
        let mut second = prompt(0, 200);
        second[150] = 9;
        let sequences = running(&[prompt(0, 200), second, prompt(0, 33), prompt(0, 32)]);
        let rows = choose_rows(&sequences, StepLimits { prefill_rows: 512 });
        // The last one's page ends with its last token, whose logits it needs.
        assert_eq!(rows, BTreeMap::from([(0, 200), (3, 32)]));
    }

    proptest! {
        /// Hundreds of answers that alone take longer than a step may: every prompt is computed, whatever arrives after it.
        #[test]
        fn no_prompt_starves_beside_hundreds_of_answers(
            lengths in proptest::collection::vec(2usize..700, 1..24),
            answers in 1usize..600,
            arrivals_every in 1usize..4,
        ) {
            let mut pace = Pace::default();
            pace.note(100, 0, Duration::from_secs(1));
            let rows_of_step = pace.prefill_rows(answers, Duration::from_millis(10), 512);
            prop_assert!(rows_of_step >= PAGE_TOKENS && 2 * rows_of_step >= answers.min(1024));
            let prompts: Vec<Vec<u32>> =
                (0..).zip(&lengths).map(|(index, &length)| prompt(index * 1000, length)).collect();
            let mut to_come = running(&prompts);
            let mut sequences = BTreeMap::new();
            // The oldest gets half of a step's rows, in whole pages if it can be, and once less, to the end of a page.
            let half = if rows_of_step < 2 * PAGE_TOKENS { rows_of_step / 2 } else { rows_of_step / 2 / PAGE_TOKENS * PAGE_TOKENS };
            let most_steps: usize = lengths.iter().map(|length| length.div_ceil(half) + 1 + arrivals_every).sum();
            for step in 0..most_steps {
                if step % arrivals_every == 0 && let Some((id, sequence)) = to_come.pop_first() {
                    sequences.insert(id, sequence);
                }
                let rows = choose_rows(&sequences, StepLimits { prefill_rows: rows_of_step });
                prop_assert!(rows.values().sum::<usize>() <= rows_of_step + sequences.len());
                prop_assert!(sequences.first_key_value().is_none_or(|(id, _)| rows.contains_key(id)));
                for (id, rows) in rows {
                    let is_done = sequences.get_mut(&id).is_some_and(|sequence| {
                        sequence.computed += rows;
                        sequence.pending() == 0
                    });
                    if is_done {
                        sequences.remove(&id);
                    }
                }
            }
            prop_assert!(to_come.is_empty() && sequences.is_empty(), "{} prompts are left", sequences.len());
        }
    }

    /// Regression: while no answer was being generated a step was as long as a long prompt made it, and a short question, a cancellation
    /// or a shutdown waited for all of it, on a slow machine for many seconds.
    #[test]
    fn a_step_is_bounded_in_time_while_no_answer_runs() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill_rows(0, Duration::from_millis(150), 512), 512, "nothing is known yet");
        pace.note(64, 0, Duration::from_secs(2));
        assert_eq!(pace.prefill_rows(0, Duration::from_secs(1), 512), 256);
        assert_eq!(pace.prefill_rows(0, Duration::from_millis(150), 512), 38);
        assert_eq!(pace.prefill_rows(0, Duration::ZERO, 512), PAGE_TOKENS);
        assert_eq!(pace.prefill_rows(0, Duration::MAX, 512), 512);
    }

    #[test]
    fn pace_keeps_steps_shorter_while_answers_run() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill_rows(4, Duration::from_millis(100), 512), 512);
        pace.note(100, 0, Duration::from_millis(100));
        assert_eq!(pace.prefill_rows(4, Duration::from_millis(100), 512), 96);
        assert_eq!(pace.prefill_rows(0, Duration::from_millis(100), 512), 512);
        assert_eq!(pace.prefill_rows(4, Duration::from_millis(1), 512), PAGE_TOKENS);
        assert_eq!(pace.prefill_rows(500, Duration::from_millis(1), 512), 256);
    }
}
