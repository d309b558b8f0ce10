//! `zhenjin evaluate rewards`: what answers to prompts are worth by rewards that can be checked.

use super::RewardsArguments;
use super::alignment::{Against, Side, samples, samples_json, samples_text};
use crate::commands::align::{Loaded, reward_expression};
use crate::home::Home;
use anyhow::{Context, Result, anyhow};
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
    let tasks = writing.tasks(common, &model)?;
    let adapter = arguments.adapter.as_deref();
    let first = writing.write(&model, adapter, &tasks, common.seed, "answers of the first model")?;
    let name = adapter.map_or(arguments.model.as_os_str(), |folder| folder.as_os_str());
    let mut written = vec![(name, first)];
    if let Some(against) = &arguments.against {
        let other = Against::new(against);
        written.push((against, writing.write_other(home, &model, &other, &tasks, common.seed)?));
    }
    let mut sides = Vec::new();
    for (name, answers) in written {
        let mut side = Side { name: name.to_string_lossy().into_owned(), answers, scores: Vec::new() };
        score(&mut rewards, &model, &tasks, &mut side)?;
        sides.push(side);
    }
    let rows = rows(arguments, &tasks, &sides)?;
    let samples = samples(&model, &tasks, &sides, writing.show);
    let table = table(&rows, &sides) + &samples_text(&samples);
    common.tell(&json(&rows, &sides, samples_json(&samples)), &table)
}

fn score(
    rewards: &mut WeightedRewards,
    model: &Loaded,
    tasks: &[EncodedTask],
    side: &mut Side,
) -> Result<()> {
    let texts: Vec<Vec<String>> = side
        .answers
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
    let all = tasks.iter().zip(side.answers.iter().zip(&texts));
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
    let totals = judgements.into_iter().enumerate().map(|(number, judgement)| {
        judgement.total.map_err(|fault| anyhow!("answer {} has no reward: {fault}", number + 1))
    });
    let mut totals = totals.collect::<Result<Vec<f64>>>()?.into_iter();
    side.scores = side.answers.iter().map(|answers| totals.by_ref().take(answers.len()).collect()).collect();
    Ok(())
}

/// All prompts, and those of each value of the field that was asked for.
fn rows(arguments: &RewardsArguments, tasks: &[EncodedTask], sides: &[Side]) -> Result<Vec<Row>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    if let Some(field) = &arguments.by {
        for (place, task) in tasks.iter().enumerate() {
            let value = match task.fields.get(field) {
                None => return Err(anyhow!("--by {field}: prompt {} has no such field", place + 1)),
                Some(Value::String(text)) => format!("{field} {text}"),
                Some(other) => format!("{field} {other}"),
            };
            groups.entry(value).or_default().push(place);
        }
    }
    let mut rows = Vec::new();
    for (of, places) in groups.into_iter().chain([("all".to_owned(), (0..tasks.len()).collect())]) {
        let seed = arguments.common.seed;
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

fn json(rows: &[Row], sides: &[Side], samples: Value) -> Value {
    let side =
        |side: &Side| json!({ "name": side.name, "mean_tokens": side.tokens(), "ended": side.ended() });
    json!({ "rows": rows, "sides": sides.iter().map(side).collect::<Vec<_>>(), "samples": samples })
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
