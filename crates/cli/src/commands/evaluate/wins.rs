//! `zhenjin evaluate wins`: whose answers to the same prompts a reward model prefers.

use super::WinsArguments;
use super::alignment::{Against, Sample, Side, samples, samples_json, samples_text, tenths};
use super::preferences::percent;
use crate::commands::align::{Loaded, check_room};
use crate::home::Home;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use zhenjin_align::data::EncodedTask;
use zhenjin_align::evaluation::pairs::Group;
use zhenjin_align::evaluation::{
    Interval, RewardModel, Wins, WinsByLength, answer_scores, paired_scores, win_rate, wins_by_length,
};
use zhenjin_align::rollouts::Answer;

pub(crate) fn run(home: &Home, arguments: &WinsArguments) -> Result<()> {
    let (common, writing) = (&arguments.common, &arguments.writing);
    let against = Against::new(&arguments.against);
    if arguments.adapter.is_none() && matches!(against, Against::Base) {
        bail!("both sides are {}: give --adapter, or another --against", arguments.model.display());
    }
    let model = Loaded::new(home, &arguments.model, &common.load()?)?;
    let mut judge = judge(home, arguments, &model)?;
    let tasks = writing.tasks(common, &model)?;
    let longest = tasks.iter().map(|task| task.prompt.len()).max().unwrap_or(0);
    check_room(&arguments.judge_model, judge.context_length(), longest.saturating_add(writing.max_tokens))?;
    let adapter = arguments.adapter.as_deref();
    let first = writing.write(&model, adapter, &tasks, common.seed, "answers of the first model")?;
    let second = writing.write_other(home, &model, &against, &tasks, common.seed)?;
    let name = adapter.map_or(arguments.model.as_os_str(), |folder| folder.as_os_str());
    let mut sides = [(name, first), (arguments.against.as_os_str(), second)].map(|(name, answers)| Side {
        name: name.to_string_lossy().into_owned(),
        answers,
        scores: Vec::new(),
    });
    sides.iter_mut().try_for_each(|side| score(&mut judge, &tasks, side))?;
    let scores = paired_scores(&sides[0].scores, &sides[1].scores);
    let wins = win_rate(&scores, common.seed).context("there are no prompts to answer")?;
    let by_length = wins_by_length(&scores, &lengths(&sides), common.seed);
    let samples = samples(&model, &tasks, &sides, writing.show);
    common.tell(
        &json(&wins, &by_length, &sides, &samples),
        &(table(&wins, &by_length, &sides) + &samples_text(&samples)),
    )
}

fn judge(home: &Home, arguments: &WinsArguments, model: &Loaded) -> Result<RewardModel> {
    match &arguments.judge_base {
        None => model.reward_model(&arguments.judge_model),
        Some(name) => {
            let base = Loaded::new(home, name, &model.load)?;
            model.check_tokens(&base, name)?;
            base.reward_model(&arguments.judge_model)
        }
    }
}

/// What the judge says of a side's answers behind the prompts.
fn score(judge: &mut RewardModel, tasks: &[EncodedTask], side: &mut Side) -> Result<()> {
    let prompts: Vec<&[u32]> = tasks.iter().map(|task| &task.prompt[..]).collect();
    let mut progress = tenths("answers judged", side.answers.iter().map(Vec::len).sum());
    side.scores = answer_scores(judge, &prompts, &side.answers, &mut progress)?;
    Ok(())
}

/// Tokens of the answers of both sides, as their scores are paired.
fn lengths(sides: &[Side; 2]) -> Vec<Vec<[usize; 2]>> {
    let [first, second] = sides;
    let of_prompt = |(first, second): (&Vec<Answer>, &Vec<Answer>)| {
        first.iter().zip(second).map(|(first, second)| [first.tokens.len(), second.tokens.len()]).collect()
    };
    first.answers.iter().zip(&second.answers).map(of_prompt).collect()
}

fn json(wins: &Wins, by_length: &WinsByLength, sides: &[Side; 2], samples: &[Sample]) -> Value {
    let side = |side: &Side| json!({ "name": side.name, "mean_tokens": side.tokens(), "ended": side.ended(), "mean_score": side.score() });
    json!({ "wins": wins, "by_length": by_length, "sides": sides.iter().map(side).collect::<Vec<_>>(), "samples": samples_json(samples) })
}

/// The results as tables in Markdown.
fn table(wins: &Wins, by_length: &WinsByLength, sides: &[Side; 2]) -> String {
    let Wins { prompts, wins: won, ties, losses, rate, difference } = wins;
    let Interval { mean, lower, upper } = difference;
    let mut text = format!(
        "The first wins {}: {won} wins, {ties} ties (half each), {losses} losses on {prompts} prompts.\nThe judge's scores differ by \
         {mean:+.3} ({lower:+.3} to {upper:+.3}). In brackets 95 % intervals (bootstrap over prompts).\n\n{}\n\
         | answers of | tokens | ended by themselves | judge's score |\n|---|---:|---:|---:|\n",
        percent(*rate),
        length_table(by_length)
    );
    for side in sides {
        text += &format!(
            "| {} | {:.1} | {:.1} % | {:.3} |\n",
            side.name,
            side.tokens(),
            100.0 * side.ended(),
            side.score()
        );
    }
    text
}

/// Win rates by length: a judge that likes short answers lets whoever writes shorter ones win.
fn length_table(by_length: &WinsByLength) -> String {
    let row = |name: &str, group: Option<Group>| match group {
        Some(Group { pairs, accuracy }) => format!("| {name} | {pairs} | {} |\n", percent(accuracy)),
        None => format!("| {name} | 0 | – |\n"),
    };
    let controlled = by_length.length_controlled.map_or("–".to_owned(), percent);
    "| where the first's answer is | pairs | it wins |\n|---|---:|---:|\n".to_owned()
        + &row("shorter", by_length.first_shorter)
        + &row("longer", by_length.first_longer)
        + &format!("| length-controlled: the mean of both | | {controlled} |\n")
}
