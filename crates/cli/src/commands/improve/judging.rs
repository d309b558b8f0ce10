//! An improvement's gate: what is measured on held-out judgements, on answers to held-out questions, and on neutral text.

use super::compared::Answering;
use super::statistics::{SEED, area, count, mean, measured, question_means};
use super::training::{ADAPTER_FILES, BATCH, Data, arguments, expect_not_asked, lower_rate};
use super::{Stage, collection};
use crate::commands::align::{Loaded, paragraphs, run_offline};
use crate::commands::training::RunFolder;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;
use zhenjin_align::configuration::{Configuration, Method, RolloutSection, TuningSection};
use zhenjin_align::data::{
    BadPolicy, Body, Dataset, EncodeOptions, Encoded, EncodedPair, EncodedThumb, Encoder, Kind,
    LearntAnswers, Overlong, PromptSettings, ReadOptions,
};
use zhenjin_align::evaluation::{
    RewardModel, Scorer, answer_scores, answers, correct, learned_tokens, paired_scores, perplexity,
    reward_scores, win_rate,
};
use zhenjin_align::rollouts::{Answer, Rollouts};
use zhenjin_hub::OpenedModel;
use zhenjin_improve::gate::{self, Measured};
use zhenjin_improve::{Limits, neutral, opening};
use zhenjin_model::{Adapter, LoadOptions};
use zhenjin_promotions::{Criterion, Improvement};
use zhenjin_tensor::ComputeOptions;
use zhenjin_tokenizer::{EncodedDialogue, Specials};

/// Of the adapter: how much of what it learned is added.
const STRENGTHS: [f64; 9] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];
/// The strength below which a lower learning rate is tried.
const LEAST_STRENGTH: f64 = 0.8;
/// Pairs below which no judge is trained.
const LEAST_JUDGE_PAIRS: usize = 16;
/// Passes of the judge over its pairs.
const JUDGE_PASSES: usize = 4;
/// Pairs on which the judge is tested, and prompts that both models answer.
const MOST_TESTED: usize = 128;
const MOST_PROMPTS: usize = 64;
/// Answers of each model to one question, at most.
const MOST_ANSWERS: usize = 8;
/// The longest answer to a held-out question.
const ANSWER_TOKENS: usize = 160;
/// Tokens of each round of the comparison of speed.
const SPEED_TOKENS: usize = 48;

/// Everything that the criteria are measured with.
struct Bench<'a> {
    stage: &'a Stage<'a>,
    record: &'a Improvement,
    model: Loaded,
    scorer: Scorer,
    candidate: Arc<Adapter>,
    /// What answers now, if it is an adapter.
    current: Option<Arc<Adapter>>,
    /// The word for that in a record.
    compared_with: String,
}

/// Examples in tokens, and how the conversation of each begins. Examples of conversations that begin alike depend on each other, such as the
/// pairs of all liked and all disliked answers to one question, so they are resampled together.
struct Measurable<T> {
    examples: Vec<T>,
    openings: Vec<String>,
}

/// Held-out questions in tokens, and how the conversation of each begins.
struct Questions<'a> {
    prompts: Vec<Vec<u32>>,
    openings: Vec<&'a String>,
}

/// What became of a candidate.
pub(super) enum Verdict {
    /// All criteria.
    Measured(Vec<Criterion>),
    /// Little of it can be kept without changing neutral text; it should be trained at this learning rate instead.
    TooStrong { rate: f64 },
}

/// Measures all criteria.
pub(super) fn judge(stage: &Stage<'_>, record: &mut Improvement) -> Result<Verdict> {
    let mut told = 0;
    let id = record.id.clone();
    let mut tell = || {
        told += 1;
        stage.tell(&id, "judging", Some((told - 1, 4)))
    };
    tell()?;
    let mut bench = Bench::new(stage, record)?;
    let base_fingerprint = bench.model.weights.fingerprint.to_string();
    let compared_with = bench.compared_with.clone();
    let (strength, of_text) = bench.choose_strength()?;
    if strength < LEAST_STRENGTH
        && let Some(rate) = lower_rate(record)
    {
        return Ok(Verdict::TooStrong { rate });
    }
    tell()?;
    let mut criteria = bench.preferences()?;
    tell()?;
    criteria.push(bench.wins()?);
    tell()?;
    criteria.extend(of_text);
    criteria.push(bench.speed()?);
    record.compared_with = Some(compared_with);
    record.recipe.base_fingerprint = base_fingerprint;
    record.recipe.settings.insert("strength".to_owned(), strength.to_string());
    Ok(Verdict::Measured(criteria))
}

impl<'a> Bench<'a> {
    fn new(stage: &'a Stage<'a>, record: &'a Improvement) -> Result<Bench<'a>> {
        let compute = ComputeOptions::resolve(None, stage.arguments.threads.map(usize::from))?;
        let load = LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) };
        let model = Loaded::new(stage.home, record.model.as_ref(), &load)?;
        let scorer = model.scorer()?;
        let candidate = scorer.open_adapter(&stage.improvements.adapter_of(&record.id)?)?;
        let answering = Answering::of(stage.home, &record.model)?;
        let current = answering.adapter().map(|folder| scorer.open_adapter(&folder)).transpose()?;
        let compared_with = answering.word().to_owned();
        Ok(Bench { stage, record, model, scorer, candidate, current, compared_with })
    }

    /// Held-out or trained examples of a kind, in tokens; those that are too long are left out, as in training.
    fn examples<T>(
        &self,
        file: PathBuf,
        kind: Kind,
        encode: impl Fn(
            &Encoder<'_>,
            &Dataset,
            &EncodeOptions,
        ) -> Result<Encoded<T>, zhenjin_align::data::DataError>,
    ) -> Result<Measurable<T>> {
        let time = OffsetDateTime::from_unix_timestamp(self.record.created_at.max(0) / 1000)?;
        let OpenedModel { tokenizer, template, .. } = &self.model.opened;
        let encoder = Encoder::new(tokenizer, template.as_ref(), PromptSettings::at(time))?;
        let options = EncodeOptions {
            context: self.model.weights.config.context_length,
            overlong: Overlong::Drop,
            learnt: LearntAnswers::Last,
            bad: BadPolicy::Stop,
            threads: NonZeroUsize::new(self.model.load.team.threads()).unwrap_or(NonZeroUsize::MIN),
        };
        let dataset = Dataset::read(&[file], &ReadOptions::default())?.for_kind(kind)?;
        let Encoded { examples, sources, .. } = encode(&encoder, &dataset, &options)?;
        let openings = sources.iter().map(|source| opening_of(&dataset.examples[*source].body)).collect();
        Ok(Measurable { examples, openings })
    }

    fn pairs(&self, file: PathBuf) -> Result<Measurable<EncodedPair>> {
        self.examples(file, Kind::Pairs, |encoder, data, options| encoder.encode_pairs(data, options))
    }

    /// log π of the candidate and of what answers now.
    fn scores(&mut self, documents: &[&EncodedDialogue]) -> Result<[Vec<f64>; 2]> {
        let candidate = self.scorer.dialogue_scores(Some(&self.candidate), documents, &mut |_| {})?;
        let current = self.scorer.dialogue_scores(self.current.as_ref(), documents, &mut |_| {})?;
        Ok([candidate, current])
    }

    /// The agreement with held-out judgements, and what became of liked answers.
    fn preferences(&mut self) -> Result<Vec<Criterion>> {
        match self.record.method.as_str() {
            "dpo" => self.paired(),
            _ => self.unpaired(),
        }
    }

    fn paired(&mut self) -> Result<Vec<Criterion>> {
        let Measurable { examples: pairs, openings } = self.pairs(collection::held_out_file(self.stage))?;
        let documents: Vec<&EncodedDialogue> =
            pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let [candidate, current] = self.scores(&documents)?;
        let mut agreement = Vec::new();
        let mut agreed_before = Vec::new();
        let mut liked = Vec::new();
        for ((pair, candidate), current) in
            pairs.iter().zip(candidate.chunks_exact(2)).zip(current.chunks_exact(2))
        {
            let tokens = [&pair.chosen, &pair.rejected].map(answer_tokens);
            agreement.push(correct((candidate[0] - current[0]) - (candidate[1] - current[1])));
            agreed_before.push(correct(current[0] / tokens[0] - current[1] / tokens[1]));
            liked.push((candidate[0] - current[0]) / tokens[0]);
        }
        let note = "of the candidate: whether it prefers the chosen answer more than what answers now does; of what answers now: whether it \
                    finds the chosen answer more probable for each token";
        let base = question_means(&agreed_before, &openings);
        let base = base.iter().sum::<f64>() / base.len().max(1) as f64;
        Ok(vec![
            agreement_criterion(mean(&agreement, &openings), base, note),
            liked_criterion(&liked, &openings),
        ])
    }

    fn unpaired(&mut self) -> Result<Vec<Criterion>> {
        let file = collection::held_out_file(self.stage);
        let Measurable { examples: thumbs, openings } = match self.record.method.as_str() {
            "kto" => self.examples(file, Kind::Thumbs, |encoder, data, options| {
                encoder.encode_thumbs(data, options)
            })?,
            _ => {
                let answers = self.examples(file, Kind::Conversations, |encoder, data, options| {
                    encoder.encode_conversations(data, options)
                })?;
                let liked = |dialogue| EncodedThumb { dialogue, liked: true };
                let examples = answers.examples.into_iter().map(liked).collect();
                Measurable { examples, openings: answers.openings }
            }
        };
        let documents: Vec<&EncodedDialogue> = thumbs.iter().map(|thumb| &thumb.dialogue).collect();
        let [candidate, current] = self.scores(&documents)?;
        let change =
            |index: usize| (candidate[index] - current[index]) / answer_tokens(&thumbs[index].dialogue);
        let changes: Vec<f64> = (0..thumbs.len()).map(change).collect();
        let is_liked = |index: usize| thumbs[index].liked;
        let (liked, liked_openings): (Vec<f64>, Vec<&String>) = (0..thumbs.len())
            .filter(|index| is_liked(*index))
            .map(|index| (changes[index], &openings[index]))
            .unzip();
        let (measured, note) = if liked.len() < thumbs.len() {
            let note = "how often a liked answer became more probable than a disliked one, each against what answers now";
            (area(&changes, &openings, &is_liked), note)
        } else {
            let gains: Vec<f64> = liked.iter().map(|change| correct(*change)).collect();
            (
                mean(&gains, &liked_openings),
                "the share of good answers that became more probable than they are for what answers now",
            )
        };
        Ok(vec![agreement_criterion(measured, gate::CHANCE, note), liked_criterion(&liked, &liked_openings)])
    }

    /// Who writes better answers to held-out questions, by a judge that learned from the held-out pairs alone.
    fn wins(&mut self) -> Result<Criterion> {
        let unmeasured = |why: &str| Ok(gate::not_measured("win_rate", gate::CHANCE, why.to_owned()));
        if self.record.method != "dpo" {
            return unmeasured("a judge learns from pairs, and there are none");
        }
        let held_out = self.pairs(collection::held_out_file(self.stage))?;
        if held_out.examples.len() < LEAST_JUDGE_PAIRS {
            return unmeasured("there are too few held-out pairs for a judge to learn from");
        }
        let mut tested = self.pairs(collection::train_file(self.stage))?;
        tested.examples.truncate(MOST_TESTED);
        tested.openings.truncate(MOST_TESTED);
        let questions = self.questions(&held_out);
        if let Some(unmeasured) = too_few_for_judge(&tested.openings, &questions) {
            return Ok(unmeasured);
        }
        let mut judge = self.train_judge(held_out.examples.len())?;
        let ids: Vec<&[u32]> =
            tested.examples.iter().flat_map(|pair| [&pair.chosen.ids[..], &pair.rejected.ids[..]]).collect();
        let values = reward_scores(&mut judge, &ids, &mut |_| {})?;
        let agreed: Vec<f64> = values.chunks_exact(2).map(|values| correct(values[0] - values[1])).collect();
        let Some(accuracy) = mean(&agreed, &tested.openings) else {
            return unmeasured("there are no pairs to test the judge on");
        };
        let judged = format!(
            "the judge agrees with {:.3} ({:.3} to {:.3}) of {} judgements that it did not see",
            accuracy.mean, accuracy.lower, accuracy.upper, accuracy.examples
        );
        if accuracy.units < Limits::LEAST_HELD_OUT || accuracy.lower <= gate::CHANCE {
            return unmeasured(&format!("{judged}: too little to decide anything"));
        }
        let scores = self.compared_answers(&questions, &mut judge)?;
        match win_rate(&scores, SEED) {
            Some(wins) => {
                let found = measured(wins.rate, questions.prompts.len(), wins.prompts);
                Ok(gate::win_rate(found, Some(judged)))
            }
            None => unmeasured("there are no held-out questions"),
        }
    }

    fn train_judge(&self, pairs: usize) -> Result<RewardModel> {
        let out = self.stage.path("judge");
        // The other way round: it learns from what was held out.
        let data = Data {
            train: collection::held_out_file(self.stage),
            held_out: collection::train_file(self.stage),
            anchor: None,
            out: out.clone(),
        };
        let steps = (pairs * JUDGE_PASSES).div_ceil(BATCH);
        let settings = [
            format!("time={}", self.record.created_at.max(0) / 1000),
            format!("schedule.warmup_steps={}", steps.div_ceil(10)),
            // It is tested once, at its end.
            "intervals.held_out=0".to_owned(),
        ];
        let arguments = arguments(self.stage, self.record, &data, steps, &settings)?;
        run_offline(self.stage.home, Method::Reward, &arguments)?;
        expect_not_asked(steps)?;
        let last = RunFolder::new(&out).last_checkpoint().context("the judge's run left no checkpoint")?;
        self.model.reward_model(&last)
    }

    /// The held-out questions that both models answer.
    fn questions<'p>(&self, pairs: &'p Measurable<EncodedPair>) -> Questions<'p> {
        let room = self.model.weights.config.context_length.saturating_sub(ANSWER_TOKENS);
        let prompt = |pair: &EncodedPair| {
            let end = pair.chosen.assistant_mask.iter().position(|is_answer| *is_answer);
            pair.chosen.ids[..end.unwrap_or(0)].to_vec()
        };
        let prompts: BTreeMap<Vec<u32>, &String> = pairs
            .examples
            .iter()
            .map(prompt)
            .zip(&pairs.openings)
            .filter(|(prompt, _)| !prompt.is_empty() && prompt.len() <= room)
            .collect();
        let (prompts, openings) = prompts.into_iter().take(MOST_PROMPTS).unzip();
        Questions { prompts, openings }
    }

    /// The judge's scores of both models' answers to held-out questions, those of conversations that begin alike together.
    fn compared_answers(
        &self,
        questions: &Questions<'_>,
        judge: &mut RewardModel,
    ) -> Result<Vec<Vec<[f64; 2]>>> {
        let Questions { prompts, openings } = questions;
        let asked: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let mut rollouts = self.rollouts(ANSWER_TOKENS);
        // Of few questions more answers each, so that chance decides less.
        let each = (MOST_PROMPTS / asked.len().max(1)).clamp(1, MOST_ANSWERS);
        let mut write = |adapter: Option<&Arc<Adapter>>| {
            answers(&mut rollouts, &self.model.weights, adapter, &asked, each, SEED, &mut |_| {})
        };
        let written = [write(Some(&self.candidate))?, write(self.current.as_ref())?];
        let mut score = |written: &[Vec<Answer>]| answer_scores(judge, &asked, written, &mut |_| {});
        let scores = paired_scores(&score(&written[0])?, &score(&written[1])?);
        let mut alike: BTreeMap<&String, Vec<[f64; 2]>> = BTreeMap::new();
        for (opening, scores) in openings.iter().zip(scores) {
            alike.entry(opening).or_default().extend(scores);
        }
        Ok(alike.into_values().collect())
    }

    /// The greatest strength of the adapter at which neutral text in both languages stays what it was, with what was measured there; the
    /// least one if none is small enough. A small set of judgements teaches best by going too far and taking a part of it back.
    fn choose_strength(&mut self) -> Result<(f64, Vec<Criterion>)> {
        let folder = self.stage.improvements.adapter_of(&self.record.id)?;
        let origin = Path::new("the configuration of the improvement's run");
        let run = Configuration::from_toml(&self.record.recipe.configuration, origin)?;
        let alpha = saved_alpha(&run.tuning);
        let mut texts = Vec::new();
        for (language, text) in [("en", neutral::ENGLISH), ("zh", neutral::CHINESE)] {
            let tokens = self.tokens(text)?;
            let current = self.perplexity(&tokens, false)?;
            texts.push((language, tokens, current));
        }
        let mut found = (1.0, Vec::new());
        for strength in STRENGTHS {
            set_alpha(&folder, alpha * strength)?;
            self.candidate = self.scorer.open_adapter(&folder)?;
            let mut criteria = Vec::new();
            for (language, tokens, (current, count)) in &texts {
                let (candidate, _) = self.perplexity(tokens, true)?;
                criteria.push(gate::perplexity(language, candidate, *current, *count));
            }
            if strength < 1.0 {
                let note = format!(
                    "the adapter at {strength} of its strength, as more of it changes neutral text too much"
                );
                criteria.iter_mut().for_each(|criterion| criterion.note = Some(note.clone()));
            }
            let is_small = criteria.iter().all(|criterion| criterion.passed == Some(true));
            found = (strength, criteria);
            if is_small {
                break;
            }
        }
        Ok(found)
    }

    fn rollouts(&self, max_tokens: usize) -> Rollouts {
        self.model.rollouts(RolloutSection {
            answers: 1,
            max_tokens,
            temperature: 0.7,
            top_p: 0.95,
            top_k: 0,
            drop_overlong: false,
        })
    }

    /// The paragraphs of a text, in tokens.
    fn tokens(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        paragraphs(text, &self.model.opened.tokenizer, self.model.weights.config.context_length)
    }

    /// The perplexity of texts for the candidate or for what answers now, and the tokens behind it.
    fn perplexity(&mut self, texts: &[Vec<u32>], is_candidate: bool) -> Result<(f64, usize)> {
        let adapter = if is_candidate { Some(&self.candidate) } else { self.current.as_ref() };
        let found = perplexity(&mut self.scorer, adapter, texts)?;
        Ok((found.value().context("the neutral text has no tokens")?, found.tokens.iter().sum()))
    }

    fn speed(&self) -> Result<Criterion> {
        let mut rollouts = self.rollouts(SPEED_TOKENS);
        let prompt = self.model.opened.tokenizer.encode("The weather today is", Specials::AsText)?;
        gate::speed(|whose| {
            let adapter = match whose {
                gate::Answers::Candidate => Some(&self.candidate),
                gate::Answers::Current => self.current.as_ref(),
            };
            let started = Instant::now();
            let written =
                answers(&mut rollouts, &self.model.weights, adapter, &[&prompt], 1, SEED, &mut |_| {})?;
            let tokens: usize = written.iter().flatten().map(|answer| answer.tokens.len()).sum();
            Ok(tokens as f64 / started.elapsed().as_secs_f64())
        })
    }
}

/// The alpha with which training saved the adapter. A saved adapter is always multiplied with alpha / rank, so that of a rank-stabilised run
/// is greater than the run's own.
fn saved_alpha(tuning: &TuningSection) -> f64 {
    let rank = tuning.rank as f64;
    let divisor = if tuning.rank_stabilised { rank.sqrt() } else { rank };
    // In f32 as in training, so that at full strength the adapter is what was trained, bit for bit.
    f64::from((tuning.alpha / divisor) as f32) * rank
}

/// Writes by how much an adapter's matrices are multiplied.
fn set_alpha(folder: &Path, alpha: f64) -> Result<()> {
    let path = folder.join(ADAPTER_FILES[0]);
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut settings: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    settings["lora_alpha"] = serde_json::json!(alpha);
    Ok(zhenjin_files::write_whole(&path, &[&serde_json::to_vec_pretty(&settings)?])?)
}

/// Tokens that the log-probability of an answer is of, at least 1.
fn answer_tokens(dialogue: &EncodedDialogue) -> f64 {
    learned_tokens(dialogue).max(1) as f64
}

/// How the conversation of an example begins, as examples are divided by.
fn opening_of(body: &Body) -> String {
    opening(body.messages().map(|message| (message.role.name(), message.content.as_str())))
}

/// Why no judge is trained, where it is known before that nothing could be decided by it.
fn too_few_for_judge(tested: &[String], questions: &Questions<'_>) -> Option<Criterion> {
    const NAME: &str = "win_rate";
    let least = Limits::LEAST_HELD_OUT;
    let why = match (count(tested), questions.prompts.len()) {
        (0, _) => "there are no pairs to test the judge on".to_owned(),
        (there, _) if there < least => format!(
            "the pairs to test the judge on are of too few first questions: {there}, and at least {least} are needed"
        ),
        (_, 0) => "there are no held-out questions".to_owned(),
        (_, prompts) => return gate::of_too_few(NAME, gate::CHANCE, prompts, count(&questions.openings)),
    };
    Some(gate::not_measured(NAME, gate::CHANCE, why))
}

fn agreement_criterion(agreement: Option<Measured>, base: f64, note: &str) -> Criterion {
    match agreement {
        Some(measured) => gate::preference_accuracy(measured, base, Some(note.to_owned())),
        None => nothing_held_out("preference_accuracy", gate::CHANCE),
    }
}

fn liked_criterion<T: Ord>(changes: &[f64], openings: &[T]) -> Criterion {
    match mean(changes, openings) {
        Some(change) => gate::liked_answers(change),
        None => nothing_held_out("liked_answers", -gate::MOST_LIKED_LOSS),
    }
}

fn nothing_held_out(name: &str, limit: f64) -> Criterion {
    gate::not_measured(name, limit, "nothing held out fits into the model's context".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_align::configuration::{Projections, TuningKind};

    /// A rank-stabilised adapter was once weakened by the square root of its rank.
    #[test]
    fn at_full_strength_an_adapter_is_what_was_trained() {
        for (rank, alpha, rank_stabilised) in [(8, 16.0, false), (8, 16.0, true), (3, 7.0, true)] {
            let (kind, projections) = (TuningKind::Lora, Projections::ALL);
            let saved = saved_alpha(&TuningSection { kind, rank, alpha, rank_stabilised, projections });
            let divisor = if rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
            // As a saved adapter is read, and as it was trained.
            assert_eq!((saved / rank as f64) as f32, (alpha / divisor) as f32, "{rank} {rank_stabilised}");
        }
    }

    /// Of `units` first questions with `pairs` pairs each, the first `agreed` questions' pairs are agreed with, and those of the others are not.
    fn agreement(units: usize, pairs: usize, agreed: usize) -> Criterion {
        let openings: Vec<String> = (0..units * pairs).map(|pair| (pair / pairs).to_string()).collect();
        let value = |pair: usize| f64::from(u8::from(pair / pairs < agreed));
        let values: Vec<f64> = (0..units * pairs).map(value).collect();
        agreement_criterion(mean(&values, &openings), 0.5, "note")
    }

    /// The pairs of four liked and four disliked answers to one question once counted as sixteen examples, and passed.
    #[test]
    fn sixteen_pairs_of_one_question_do_not_pass() {
        let of_one = agreement(1, 16, 1);
        assert_eq!((of_one.passed, of_one.value, of_one.base), (None, None, None));
        let note = of_one.note.as_deref().expect("a reason");
        assert!(note.contains("16 examples of 1, and at least 5"), "{note}");
        assert!(!gate::passes(&[of_one]));
        assert!(!gate::passes(&[agreement(4, 16, 4)]));
        // 12 of 20 questions, with 16 pairs each, are as little as 12 of 20 pairs, and 192 of 320 pairs would be enough.
        let of_twenty = agreement(20, 16, 12);
        assert!(of_twenty.passed == Some(false) && of_twenty.lower < Some(0.45), "{of_twenty:?}");
        assert_eq!((of_twenty.value, of_twenty.examples), (Some(0.6), 320));
        let apart: Vec<usize> = (0..320).collect();
        let values: Vec<f64> = apart.iter().map(|pair| f64::from(u8::from(*pair < 192))).collect();
        assert!(mean(&values, &apart).expect("values").lower > 0.5);
        // Where each pair is of a question of its own, nothing has changed.
        let certain = agreement(40, 1, 32);
        let note = certain.note.as_deref().expect("a note");
        assert!(
            certain.passed == Some(true) && note == "note; 40 examples of 40 first questions",
            "{certain:?}"
        );
    }

    /// The judge was once trained where it was known already that its win rate would not be measured.
    #[test]
    fn no_judge_is_trained_where_nothing_could_be_decided_by_it() {
        let of = |numbers: &[usize]| -> Vec<String> { numbers.iter().map(ToString::to_string).collect() };
        let why = |tested: &[usize], held_out: &[usize]| {
            let openings = of(held_out);
            let prompts = vec![vec![1]; held_out.len()];
            let questions = Questions { prompts, openings: openings.iter().collect() };
            let unmeasured = too_few_for_judge(&of(tested), &questions)?;
            assert_eq!((unmeasured.passed, unmeasured.value, unmeasured.limit), (None, None, 0.5));
            unmeasured.note
        };
        let enough = [1, 2, 3, 4, 5];
        assert_eq!(why(&enough, &enough), None);
        let note = |why: Option<String>| why.expect("a reason");
        assert!(note(why(&[], &enough)).contains("no pairs to test the judge on"));
        assert!(note(why(&[1, 1, 2, 3, 4, 4], &enough)).contains("first questions: 4, and at least 5"));
        assert!(note(why(&enough, &[])).contains("no held-out questions"));
        assert!(note(why(&enough, &[7; 16])).contains("16 examples of 1, and at least 5"));
    }
}
