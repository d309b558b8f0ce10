//! Two models' answers to the same prompts, and which of them a judge prefers.

use std::sync::Arc;

use serde::Serialize;
use zhenjin_model::{Adapter, Model};
use zhenjin_random::SplitMix64;

use super::bootstrap::{Interval, interval, mean_interval};
use super::pairs::Group;
use super::scorer::{RewardModel, reward_scores};
use crate::error::AlignError;
use crate::rollouts::{Answer, Job, Rollouts};

/// Answers that the engine writes at once: memory for keys and values grows with them.
const TOGETHER: usize = 64;

/// Writes `each` answers to every prompt. The seed of an answer is a function of `seed`, the prompt's number and the answer's number alone, so
/// that models which are compared sample alike.
///
/// # Errors
/// As for [`Rollouts::write`].
pub fn answers(
    rollouts: &mut Rollouts,
    model: &Arc<Model>,
    adapter: Option<&Arc<Adapter>>,
    prompts: &[&[u32]],
    each: usize,
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Answer>>, AlignError> {
    let jobs: Vec<Job<'_>> = (0..prompts.len() * each)
        .map(|place| Job {
            prompt: prompts[place / each],
            seed: SplitMix64::of(seed, "evaluated answers", place as u64).next_u64(),
        })
        .collect();
    let mut written = Vec::with_capacity(jobs.len());
    for some in jobs.chunks(TOGETHER) {
        written.extend(rollouts.write(model, adapter, some)?);
        progress(written.len());
    }
    let mut written = written.into_iter();
    Ok(prompts.iter().map(|_| written.by_ref().take(each).collect()).collect())
}

/// What the judge says of answers behind their prompts, as many for each prompt as there are answers. `progress` is told how many are done.
///
/// # Errors
/// As for [`reward_scores`].
pub fn answer_scores(
    judge: &mut RewardModel,
    prompts: &[&[u32]],
    written: &[Vec<Answer>],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f64>>, AlignError> {
    let dialogues: Vec<Vec<u32>> = prompts
        .iter()
        .zip(written)
        .flat_map(|(prompt, answers)| answers.iter().map(|answer| [prompt, &answer.tokens[..]].concat()))
        .collect();
    let dialogues: Vec<&[u32]> = dialogues.iter().map(Vec::as_slice).collect();
    let mut scores = reward_scores(judge, &dialogues, progress)?.into_iter();
    Ok(written.iter().map(|answers| scores.by_ref().take(answers.len()).collect()).collect())
}

/// For each prompt, the score of each answer of the first side beside that of the second side's answer with the same number.
pub fn paired_scores(first: &[Vec<f64>], second: &[Vec<f64>]) -> Vec<Vec<[f64; 2]>> {
    let of_prompt = |(first, second): (&Vec<f64>, &Vec<f64>)| {
        first.iter().zip(second).map(|(first, second)| [*first, *second]).collect()
    };
    first.iter().zip(second).map(of_prompt).collect()
}

/// How often the first of two answers is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wins {
    /// Prompts.
    pub prompts: usize,
    /// Pairs of answers whose first is preferred.
    pub wins: usize,
    /// Pairs whose answers are judged alike.
    pub ties: usize,
    /// Pairs whose second is preferred.
    pub losses: usize,
    /// Wins and half the ties, over all pairs; the interval is by resampling prompts with all their answers.
    pub rate: Interval,
    /// The mean difference of the judge's scores.
    pub difference: Interval,
}

/// Win rates where the first of two answers is shorter and where it is longer, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WinsByLength {
    /// Pairs whose first answer has fewer tokens, and the share of them that it wins.
    pub first_shorter: Option<Group>,
    /// Pairs whose first answer has more tokens, and the share of them that it wins.
    pub first_longer: Option<Group>,
    /// The mean of these two shares: a judge who merely prefers shorter answers, or longer ones, gives ½. `None` where one of them has no
    /// pairs.
    pub length_controlled: Option<Interval>,
}

/// Win rates by the judge's scores for pairs of answers with these numbers of tokens, in the order of `scores`; ties count half, and
/// intervals are by resampling prompts with all their answers.
pub fn wins_by_length(scores: &[Vec<[f64; 2]>], tokens: &[Vec<[usize; 2]>], seed: u64) -> WinsByLength {
    // Of each prompt: wins and pairs whose first answer is shorter, and those whose first answer is longer.
    let sums: Vec<[(f64, usize); 2]> = scores
        .iter()
        .zip(tokens)
        .map(|(scores, tokens)| {
            let mut sums = [(0.0, 0); 2];
            for (score, [first, second]) in scores.iter().zip(tokens) {
                if first != second {
                    let (won_of, count) = &mut sums[usize::from(first > second)];
                    *won_of += won(score);
                    *count += 1;
                }
            }
            sums
        })
        .collect();
    let share = |indices: &[usize], group: usize| {
        let (won, count) = indices.iter().fold((0.0, 0), |(won, count), index| {
            let (of_prompt, pairs) = sums[*index][group];
            (won + of_prompt, count + pairs)
        });
        (count > 0).then(|| won / count as f64)
    };
    let group = |group: usize| {
        let pairs = sums.iter().map(|sums| sums[group].1).sum();
        let accuracy = interval(sums.len(), seed, &|indices| share(indices, group))?;
        Some(Group { pairs, accuracy })
    };
    WinsByLength {
        first_shorter: group(0),
        first_longer: group(1),
        length_controlled: interval(sums.len(), seed, &|indices| {
            Some((share(indices, 0)? + share(indices, 1)?) / 2.0)
        }),
    }
}

/// 1 where the first has the greater score, ½ where both are alike.
fn won([first, second]: &[f64; 2]) -> f64 {
    match first.partial_cmp(second) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

/// The win rate by the judge's scores: for each prompt, of each pair of answers the score of the first and that of the second. `None`
/// without prompts, or where a prompt has no answers.
pub fn win_rate(scores: &[Vec<[f64; 2]>], seed: u64) -> Option<Wins> {
    if scores.iter().any(Vec::is_empty) {
        return None;
    }
    let mean = |of: &dyn Fn(&[f64; 2]) -> f64| -> Vec<f64> {
        scores.iter().map(|pairs| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64).collect()
    };
    let count = |value: f64| scores.iter().flatten().filter(|pair| won(pair) == value).count();
    Some(Wins {
        prompts: scores.len(),
        wins: count(1.0),
        ties: count(0.5),
        losses: count(0.0),
        rate: mean_interval(&mean(&won), seed)?,
        difference: mean_interval(&mean(&|[first, second]| first - second), seed)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_half_and_prompts_are_resampled_with_all_their_answers() {
        let scores = vec![vec![[1.0, 0.0], [0.0, 0.0]], vec![[0.0, 2.0], [3.0, 1.0]]];
        let wins = win_rate(&scores, 1).unwrap();
        assert_eq!((wins.prompts, wins.wins, wins.ties, wins.losses), (2, 2, 1, 1));
        // The means of the prompts are ¾ and ½.
        assert_eq!(wins.rate, Interval { mean: 0.625, lower: 0.5, upper: 0.75 });
        assert_eq!(wins.difference, Interval { mean: 0.25, lower: 0.0, upper: 0.5 });
        assert_eq!(win_rate(&[], 1), None);
        assert_eq!(win_rate(&[vec![]], 1), None);
    }

    #[test]
    fn a_judge_of_length_alone_gives_half_when_lengths_are_controlled() {
        // The shorter answer wins always; the first is the shorter one three times in four.
        let tokens: Vec<Vec<[usize; 2]>> =
            (0..40).map(|number| vec![if number % 4 == 0 { [9, 4] } else { [4, 9] }]).collect();
        let scores: Vec<Vec<[f64; 2]>> = tokens
            .iter()
            .map(|pairs| pairs.iter().map(|pair| pair.map(|count| -(count as f64))).collect())
            .collect();
        assert_eq!(win_rate(&scores, 1).unwrap().rate.mean, 0.75);
        let by_length = wins_by_length(&scores, &tokens, 1);
        assert_eq!(by_length.length_controlled, Some(Interval { mean: 0.5, lower: 0.5, upper: 0.5 }));
        let group = by_length.first_shorter.unwrap();
        assert_eq!((group.pairs, group.accuracy.mean), (30, 1.0));
        assert_eq!(by_length.first_longer.map(|group| group.pairs), Some(10));
    }

    #[test]
    fn answers_of_one_length_tell_nothing_about_lengths() {
        let scores = vec![vec![[1.0, 0.0], [2.0, 0.0]], vec![[0.0, 1.0]]];
        let equal = wins_by_length(&scores, &[vec![[3, 3], [2, 2]], vec![[1, 1]]], 1);
        assert_eq!(equal, WinsByLength { first_shorter: None, first_longer: None, length_controlled: None });
        // Ties count half; pairs of equal length do not count.
        let scores = vec![vec![[1.0, 1.0], [1.0, 0.0]], vec![[1.0, 0.0]]];
        let some = wins_by_length(&scores, &[vec![[3, 4], [5, 4]], vec![[1, 1]]], 1);
        assert_eq!(some.length_controlled.map(|interval| interval.mean), Some(0.75));
    }

    #[test]
    fn the_same_answers_win_half() {
        let wins = win_rate(&vec![vec![[0.3, 0.3]]; 50], 1).unwrap();
        assert_eq!(wins.rate, Interval { mean: 0.5, lower: 0.5, upper: 0.5 });
        assert_eq!(wins.ties, 50);
    }

    /// 60 of 100: the binomial distribution has its 2.5 % points at 50 and 69.
    #[test]
    fn the_interval_of_a_win_rate_is_the_binomial_one() {
        let scores: Vec<Vec<[f64; 2]>> =
            (0..100).map(|number| vec![if number % 5 < 3 { [1.0, 0.0] } else { [0.0, 1.0] }]).collect();
        let rate = win_rate(&scores, 1).unwrap().rate;
        assert_eq!(rate.mean, 0.6);
        assert!((rate.lower - 0.50).abs() < 0.012 && (rate.upper - 0.695).abs() < 0.012, "{rate:?}");
    }
}
