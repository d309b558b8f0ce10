//! `zhenjin evaluate rewards`: what answers to prompts are worth by rewards that can be checked.

use super::RewardsArguments;
use super::alignment::{Against, Side, samples, samples_json, samples_text};
use crate::commands::align::{Loaded, reward_expression};
use crate::home::Home;
use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zhenjin_align::data::EncodedTask;
use zhenjin_align::evaluation::{Interval, mean_interval};
use zhenjin_align::methods::RewardSource;
use zhenjin_align::rewards::{Answer, WeightedRewards};
use zhenjin_tokenizer::ControlText;

/// The rewards of some prompts.
#[derive(Serialize)]
struct Row {
    /// All, or the value of a field.
    of: String,
    prompts: usize,
    /// The mean reward of each side.
    rewards: Vec<Interval>,
    /// The first side's less the second's, paired by prompts.
    difference: Option<Interval>,
}

pub(crate) fn run(home: &Home, arguments: &RewardsArguments) -> Result<()> {
    let (common, writing) = (&arguments.common, &arguments.writing);
    let mut rewards = reward_expression(&arguments.reward, &arguments.limits)?;
    let model = Loaded::new(home, &arguments.model, &common.load()?)?;
    let mut tasks = writing.tasks(common, &model)?;
    let mut groups = groups(arguments.by.as_deref(), &tasks)?;
    let adapter = arguments.adapter.as_deref();
    let first = writing.write(&model, adapter, &tasks, common.seed, "answers of the first model")?;
    let name = adapter.map_or(arguments.model.as_os_str(), |folder| folder.as_os_str());
    let mut written = vec![(name, first)];
    if let Some(against) = &arguments.against {
        let other = Against::new(against);
        written.push((against, writing.write_other(home, &model, &other, &tasks, common.seed)?));
    }
    let mut left_out = LeftOut::none_of(tasks.len());
    let mut sides = Vec::new();
    for (name, answers) in written {
        let scores = left_out.take(score(&mut rewards, &model, &tasks, &answers)?);
        sides.push(Side { name: name.to_string_lossy().into_owned(), answers, scores });
    }
    left_out.check()?;
    left_out.remove_from(&mut tasks);
    left_out.remove_from(&mut groups);
    for side in &mut sides {
        left_out.remove_from(&mut side.answers);
        left_out.remove_from(&mut side.scores);
    }
    let rows = rows(common.seed, &groups, &sides)?;
    let samples = samples(&model, &tasks, &sides, writing.show);
    let table = table(&rows, &sides) + &left_out.text() + &samples_text(&samples);
    common.tell(&json(&rows, &sides, &left_out, samples_json(&samples)), &table)
}

/// What each answer to a prompt is worth, or why that cannot be said.
type Scores = Vec<Result<f64, String>>;

/// Prompts with an answer that has no reward. Both sides are measured without them, as means of other prompts cannot be compared.
struct LeftOut {
    /// For each prompt, whether it is.
    places: Vec<bool>,
    /// The first of them, by its place, and why.
    first: Option<(usize, String)>,
}

impl LeftOut {
    fn none_of(prompts: usize) -> LeftOut {
        LeftOut { places: vec![false; prompts], first: None }
    }

    /// The scores of a side; its prompts with a fault are left out, whatever stands in their places.
    fn take(&mut self, scores: Vec<Scores>) -> Vec<Vec<f64>> {
        let mut taken = Vec::with_capacity(scores.len());
        for (place, scores) in scores.into_iter().enumerate() {
            let scores = scores.into_iter().collect::<Result<Vec<f64>, String>>();
            taken.push(scores.unwrap_or_else(|fault| {
                self.places[place] = true;
                if self.first.as_ref().is_none_or(|(first, _)| place < *first) {
                    self.first = Some((place, fault));
                }
                Vec::new()
            }));
        }
        taken
    }

    fn count(&self) -> usize {
        self.places.iter().filter(|is_left_out| **is_left_out).count()
    }

    fn remove_from<T>(&self, of_prompts: &mut Vec<T>) {
        let mut places = self.places.iter();
        of_prompts.retain(|_| places.next() != Some(&true));
    }

    /// Refuses to measure nothing.
    fn check(&self) -> Result<()> {
        match &self.first {
            Some((place, fault)) if self.count() == self.places.len() => bail!(
                "each of the {} prompts has an answer without a reward, so nothing can be measured; prompt {}: {fault}",
                self.places.len(),
                place + 1
            ),
            _ => Ok(()),
        }
    }

    /// For people.
    fn text(&self) -> String {
        let Some((place, fault)) = &self.first else { return String::new() };
        format!(
            "Prompts left out on all sides, as an answer has no reward: {} of {}; the first is prompt {}: {fault}\n",
            self.count(),
            self.places.len(),
            place + 1
        )
    }

    /// For programs; prompts are counted from 1.
    fn json(&self) -> Value {
        let first = self.first.as_ref().map(|(place, fault)| json!({ "prompt": place + 1, "fault": fault }));
        json!({ "prompts": self.count(), "first": first })
    }
}

/// The rewards of all answers, prompt by prompt.
fn score(
    rewards: &mut WeightedRewards,
    model: &Loaded,
    tasks: &[EncodedTask],
    written: &[Vec<zhenjin_align::rollouts::Answer>],
) -> Result<Vec<Scores>> {
    let texts: Vec<Vec<String>> = written
        .iter()
        .map(|answers| {
            let text = |answer: &zhenjin_align::rollouts::Answer| {
                // The tokens that end an answer are no text.
                let end = answer.tokens.len() - usize::from(answer.ended);
                model.opened.tokenizer.decode(&answer.tokens[..end], ControlText::Hide).unwrap_or_default()
            };
            answers.iter().map(text).collect()
        })
        .collect();
    let all = tasks.iter().zip(written.iter().zip(&texts));
    let answers: Vec<Answer<'_>> = all
        .flat_map(|(task, (answers, texts))| {
            answers.iter().zip(texts).map(move |(answer, text)| Answer {
                task,
                tokens: &answer.tokens,
                text,
                ended: answer.ended,
            })
        })
        .collect();
    let judgements = RewardSource::judge(rewards, &answers)?;
    for note in RewardSource::notes(rewards) {
        eprintln!("note: {}", crate::text::shown(&note));
    }
    let mut totals = judgements.into_iter().map(|judgement| match judgement.total {
        // A sum of finite parts may be none.
        Ok(total) if !total.is_finite() => Err(format!("the reward is {total}")),
        total => total,
    });
    Ok(written.iter().map(|answers| totals.by_ref().take(answers.len()).collect()).collect())
}

/// The name of each prompt's group, by the field that was asked for; none without one.
fn groups(field: Option<&str>, tasks: &[EncodedTask]) -> Result<Vec<String>> {
    let Some(field) = field else { return Ok(Vec::new()) };
    let group = |(place, task): (usize, &EncodedTask)| match task.fields.get(field) {
        None => Err(anyhow!(
            "--by {field}: prompt {} has no such field; {}",
            place + 1,
            crate::text::shown(&fields_of(task))
        )),
        Some(Value::String(text)) => Ok(format!("{field} {text}")),
        Some(other) => Ok(format!("{field} {other}")),
    };
    tasks.iter().enumerate().map(group).collect()
}

/// The fields by which a prompt can be grouped.
fn fields_of(task: &EncodedTask) -> String {
    let names: Vec<&str> = task.fields.keys().map(String::as_str).collect();
    match names.is_empty() {
        true => "beside the prompt its record has none".to_owned(),
        false => format!("beside the prompt its record has {}", names.join(", ")),
    }
}

/// All prompts, and those of each group.
fn rows(seed: u64, groups: &[String], sides: &[Side]) -> Result<Vec<Row>> {
    let mut places_of: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        places_of.entry(group.clone()).or_default().push(place);
    }
    let prompts = sides.first().map_or(0, |side| side.scores.len());
    let mut rows = Vec::new();
    for (of, places) in places_of.into_iter().chain([("all".to_owned(), (0..prompts).collect())]) {
        let means = |side: &Side| -> Vec<f64> {
            let mean = |scores: &Vec<f64>| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            places.iter().map(|place| mean(&side.scores[*place])).collect()
        };
        let values: Vec<Vec<f64>> = sides.iter().map(means).collect();
        let intervals = values.iter().map(|values| mean_interval(values, seed));
        let rewards: Vec<Interval> = intervals.collect::<Option<_>>().context("there are no prompts")?;
        let difference = match &values[..] {
            [first, second] => {
                let differences: Vec<f64> =
                    first.iter().zip(second).map(|(first, second)| first - second).collect();
                mean_interval(&differences, seed)
            }
            _ => None,
        };
        rows.push(Row { of, prompts: places.len(), rewards, difference });
    }
    Ok(rows)
}

fn json(rows: &[Row], sides: &[Side], left_out: &LeftOut, samples: Value) -> Value {
    let side =
        |side: &Side| json!({ "name": side.name, "mean_tokens": side.tokens(), "ended": side.ended() });
    let sides: Vec<Value> = sides.iter().map(side).collect();
    json!({ "rows": rows, "sides": sides, "left_out": left_out.json(), "samples": samples })
}

/// The results as tables in Markdown.
fn table(rows: &[Row], sides: &[Side]) -> String {
    let shown = |of: &Interval| format!("{:.3} ({:.3}–{:.3})", of.mean, of.lower, of.upper);
    let mut text = String::from("| prompts | number |");
    sides.iter().for_each(|side| text += &format!(" {} |", side.name));
    if sides.len() > 1 {
        text += " difference |";
    }
    text += &format!("\n|---|---:|{}\n", "---:|".repeat(if sides.len() > 1 { 3 } else { 1 }));
    for Row { of, prompts, rewards, difference } in rows {
        text += &format!("| {of} | {prompts} |");
        rewards.iter().for_each(|reward| text += &format!(" {} |", shown(reward)));
        if let Some(Interval { mean, lower, upper }) = difference {
            text += &format!(" {mean:+.3} ({lower:+.3} to {upper:+.3}) |");
        }
        text.push('\n');
    }
    text += "\nMean rewards, in brackets 95 % intervals (bootstrap over prompts).";
    for side in sides {
        text += &format!(
            " {}: {:.1} tokens, {:.1} % of the answers ended by themselves.",
            side.name,
            side.tokens(),
            100.0 * side.ended()
        );
    }
    text.push('\n');
    text
}
