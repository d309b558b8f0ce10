//! Watchers against self-deception: what a step's answers look like, and when a rising reward is not a better model.

use std::collections::{HashSet, VecDeque};

use crate::configuration::WatchSection;

/// From this correlation of reward and length on, the reward is said to be paid for length.
const STRONG_CORRELATION: f64 = 0.5;

/// The share of an answer's tokens that lie in a group of four that stood before.
pub fn repetition(tokens: &[u32]) -> f64 {
    if tokens.len() < 4 {
        return 0.0;
    }
    let mut seen = HashSet::new();
    let repeated = tokens.windows(4).filter(|group| !seen.insert(*group)).count();
    repeated as f64 / (tokens.len() - 3) as f64
}

/// So many tokens in a row that also stand in the prompt are copied.
const COPIED_RUN: usize = 8;

/// The share of an answer's tokens that lie in a run of eight that stands in its prompt.
pub fn copied(prompt: &[u32], answer: &[u32]) -> f64 {
    let runs: HashSet<&[u32]> = prompt.windows(COPIED_RUN).collect();
    let mut covered = vec![false; answer.len()];
    for (start, run) in answer.windows(COPIED_RUN).enumerate() {
        if runs.contains(run) {
            covered[start..start + COPIED_RUN].fill(true);
        }
    }
    covered.iter().filter(|covered| **covered).count() as f64 / answer.len().max(1) as f64
}

/// The share of distinct pairs of neighbouring tokens among all pairs of these answers (Li et al. 2016, "distinct-2").
pub fn distinct_pairs<'a>(answers: impl Iterator<Item = &'a [u32]>) -> Option<f64> {
    let (mut distinct, mut all) = (HashSet::new(), 0usize);
    for answer in answers {
        for pair in answer.windows(2) {
            distinct.insert([pair[0], pair[1]]);
            all += 1;
        }
    }
    (all > 0).then(|| distinct.len() as f64 / all as f64)
}

/// Pearson's correlation; `None` where one of the two does not vary.
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let count = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count.max(1.0);
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>();
    let covariance = sum(&|pair| (pair.0 - x) * (pair.1 - y));
    let variance = sum(&|pair| (pair.0 - x).powi(2)) * sum(&|pair| (pair.1 - y).powi(2));
    (variance > 0.0).then(|| covariance / variance.sqrt())
}

/// What is remembered of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watched {
    /// Mean reward.
    pub reward: f64,
    /// Mean tokens of an answer.
    pub answer_tokens: f64,
    /// Correlation of reward and length over the step's answers; NaN where there is none.
    pub correlation: f64,
    /// Mean reward by a judge that is not trained on; NaN where there is none.
    pub judge: f64,
}

/// The latest steps, and what they mean together.
#[derive(Debug)]
pub struct Watch {
    section: WatchSection,
    steps: VecDeque<Watched>,
}

impl Watch {
    /// Nothing has been seen.
    pub fn new(section: WatchSection) -> Watch {
        Watch { section, steps: VecDeque::new() }
    }

    /// Why the run must end by the rules of the section, if it must. Values are those of one step.
    pub fn rule_broken(&self, kl: Option<f64>, entropy: f64, repetition: f64) -> Option<String> {
        let WatchSection { most_kl, least_entropy, most_repetition, .. } = self.section;
        if most_kl > 0.0
            && let Some(kl) = kl.filter(|kl| *kl > most_kl)
        {
            return Some(format!(
                "the divergence from the reference is {kl:.4}, more than watch.most_kl = {most_kl}"
            ));
        }
        if least_entropy > 0.0 && entropy < least_entropy {
            return Some(format!(
                "the entropy is {entropy:.4}, less than watch.least_entropy = {least_entropy}"
            ));
        }
        (most_repetition > 0.0 && repetition > most_repetition).then(|| {
            format!("the share of repeated tokens is {repetition:.4}, more than watch.most_repetition = {most_repetition}")
        })
    }

    /// Takes a step; what to warn of, once per window.
    pub fn take(&mut self, step: Watched) -> Option<String> {
        self.steps.push_back(step);
        if self.steps.len() < self.section.window {
            return None;
        }
        let warning = self.warning();
        if warning.is_some() {
            self.steps.clear();
        } else {
            self.steps.pop_front();
        }
        warning
    }

    fn warning(&self) -> Option<String> {
        let half = self.steps.len() / 2;
        let mean = |range: std::ops::Range<usize>, of: fn(&Watched) -> f64| -> f64 {
            let values: Vec<f64> =
                range.map(|index| of(&self.steps[index])).filter(|value| !value.is_nan()).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let change = |of: fn(&Watched) -> f64| mean(half..self.steps.len(), of) - mean(0..half, of);
        let correlation = mean(0..self.steps.len(), |step| step.correlation);
        let (reward, judge, length) =
            (change(|step| step.reward), change(|step| step.judge), change(|step| step.answer_tokens));
        let over = self.steps.len();
        if reward > 0.0 && judge < 0.0 {
            let cause = match correlation > STRONG_CORRELATION {
                true => {
                    format!(", and the reward goes with the answers' length (correlation {correlation:.2})")
                }
                false => String::new(),
            };
            return Some(format!(
                "warning: over {over} steps the reward rose by {reward:.4} while the held-out judge fell by {:.4}{cause}: the model learns \
                 to please the reward, not to answer better",
                -judge
            ));
        }
        (correlation > STRONG_CORRELATION && length > 0.0 && reward > 0.0).then(|| {
            format!(
                "warning: over {over} steps rewards go with the answers' length (correlation {correlation:.2}), and answers grew by \
                 {length:.1} tokens: look whether longer is better"
            )
        })
    }

    /// What is remembered, as bits.
    pub fn memory(&self) -> Vec<[u64; 2]> {
        let pairs = |step: &Watched| {
            [[step.reward, step.answer_tokens], [step.correlation, step.judge]]
                .map(|pair| pair.map(f64::to_bits))
        };
        self.steps.iter().flat_map(pairs).collect()
    }

    /// Takes that over.
    pub fn remember(&mut self, memory: &[[u64; 2]]) {
        let step = |pairs: &[[u64; 2]; 2]| {
            let [[reward, answer_tokens], [correlation, judge]] = pairs.map(|pair| pair.map(f64::from_bits));
            Watched { reward, answer_tokens, correlation, judge }
        };
        self.steps = memory.as_chunks::<2>().0.iter().map(step).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(window: usize) -> WatchSection {
        WatchSection { most_kl: 0.5, least_entropy: 0.1, most_repetition: 0.3, window }
    }

    #[test]
    fn repeated_groups_and_distinct_pairs() {
        assert_eq!(repetition(&[1, 2, 3]), 0.0);
        assert_eq!(repetition(&[1, 2, 3, 4, 5]), 0.0);
        assert_eq!(repetition(&[7; 8]), 0.8);
        let answers: [&[u32]; 2] = [&[1, 2, 1, 2], &[1, 2]];
        assert_eq!(distinct_pairs(answers.into_iter()), Some(0.5));
        assert_eq!(distinct_pairs(std::iter::empty()), None);
    }

    #[test]
    fn runs_of_the_prompt_are_copied_and_single_words_are_not() {
        let prompt: Vec<u32> = (0..20).collect();
        let answer: Vec<u32> = [50, 51].into_iter().chain(3..12).chain([5, 6, 7]).collect();
        assert_eq!(copied(&prompt, &answer), 9.0 / 14.0);
        assert_eq!(copied(&prompt, &prompt[..7]), 0.0);
        assert_eq!(copied(&prompt, &prompt), 1.0);
        assert_eq!(copied(&[], &answer), 0.0);
        assert_eq!(copied(&prompt, &[]), 0.0);
    }

    #[test]
    fn correlations() {
        assert!((correlation(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]).unwrap() - 1.0).abs() < 1e-12);
        assert!((correlation(&[(1.0, 2.0), (2.0, 1.0)]).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 1.0)]), None);
        assert_eq!(correlation(&[]), None);
    }

    #[test]
    fn rules_name_themselves() {
        let watch = Watch::new(section(4));
        assert!(watch.rule_broken(Some(0.6), 1.0, 0.0).unwrap().contains("watch.most_kl"));
        assert!(watch.rule_broken(None, 0.05, 0.0).unwrap().contains("watch.least_entropy"));
        assert!(watch.rule_broken(Some(0.5), 1.0, 0.31).unwrap().contains("watch.most_repetition"));
        assert_eq!(watch.rule_broken(Some(0.5), 0.1, 0.3), None);
        let never = WatchSection { most_kl: 0.0, least_entropy: 0.0, most_repetition: 0.0, window: 4 };
        assert_eq!(Watch::new(never).rule_broken(Some(9.0), 0.0, 1.0), None);
    }

    /// A reward that is paid for length rises with it, while a judge that does not look at length falls.
    #[test]
    fn a_length_biased_reward_rings_the_alarm_and_a_good_one_does_not() {
        let run = |judge_by_step: f64, correlation: f64| -> Vec<String> {
            let mut watch = Watch::new(section(10));
            (0..20)
                .filter_map(|step| {
                    let step = f64::from(step);
                    watch.take(Watched {
                        reward: 0.1 * step,
                        answer_tokens: 20.0 + step,
                        correlation,
                        judge: judge_by_step * step,
                    })
                })
                .collect()
        };
        let warnings = run(-0.05, 0.9);
        assert!(warnings.len() == 2 && warnings[0].contains("held-out judge fell"), "{warnings:?}");
        assert!(warnings[0].contains("length"));
        assert_eq!(run(0.05, 0.1), Vec::<String>::new());
        let without_judge = run(f64::NAN, 0.9);
        assert!(without_judge[0].contains("look whether longer is better"), "{without_judge:?}");
    }

    #[test]
    fn what_is_remembered_survives() {
        let mut watch = Watch::new(section(10));
        for step in 0..3 {
            let number = f64::from(step);
            watch.take(Watched { reward: number, answer_tokens: 0.1, correlation: f64::NAN, judge: -number });
        }
        let mut other = Watch::new(section(10));
        other.remember(&watch.memory());
        assert_eq!(other.memory(), watch.memory());
        assert_eq!(other.steps.len(), 3);
    }
}
