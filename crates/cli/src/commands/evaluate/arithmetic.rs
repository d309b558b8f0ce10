//! `zhenjin evaluate arithmetic`: how many problems models solve, side by side.

use super::ArithmeticArguments;
use super::generation::{TOGETHER, completion, finish};
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use zhenjin_assistant::{CompletionPrompt, FinishReason, GenerationOptions, SamplingSettings, ServedModels};
use zhenjin_corpus::ArithmeticProblem;
use zhenjin_eval::Proportion;
use zhenjin_eval::arithmetic::{ArithmeticScores, ProblemKind};

/// One model's results.
struct Column {
    name: String,
    scores: ArithmeticScores,
    /// Answers that did not end within the limit of tokens.
    unfinished: usize,
}

pub(crate) async fn run(home: &Home, arguments: &ArithmeticArguments) -> Result<()> {
    if !arguments.name.is_empty() && arguments.name.len() != arguments.models.len() {
        bail!("--name is given {} times for {} models", arguments.name.len(), arguments.models.len());
    }
    let mut problems = Vec::new();
    for_each_problem(&arguments.data, |problem, place| {
        let kind = ProblemKind::of(&problem.question)
            .with_context(|| format!("{place}: `{}` is no question such as 47*36=", problem.question))?;
        problems.push((kind, problem));
        Ok(())
    })?;
    if problems.is_empty() {
        bail!("{}: there is no problem in it", arguments.data.display());
    }
    let trained_on = check_training(&arguments.training, &problems)?;
    let mut columns = Vec::new();
    for (number, model) in arguments.models.iter().enumerate() {
        let name = arguments.name.get(number).cloned();
        let name = name.unwrap_or_else(|| model.to_string_lossy().into_owned());
        columns.push(solve(home, arguments, model, name, &problems).await?);
    }
    let found = json(&columns, problems.len(), trained_on);
    if let Some(path) = &arguments.save {
        zhenjin_files::write_whole(path, &[format!("{found:#}\n").as_bytes()])?;
    }
    if arguments.json {
        println!("{found:#}");
    } else {
        print!("{}", table(&columns, trained_on));
    }
    Ok(())
}

/// Problems that were trained on, none of which may be among those of the test.
fn check_training(
    files: &[std::path::PathBuf],
    problems: &[(ProblemKind, ArithmeticProblem)],
) -> Result<Option<u64>> {
    let questions: HashSet<&str> = problems.iter().map(|(_, problem)| problem.question.as_str()).collect();
    let mut read = 0;
    for file in files {
        for_each_problem(file, |problem, place| {
            read += 1;
            if questions.contains(problem.question.as_str()) {
                bail!(
                    "{place}: {} was trained on and is in the test too; the result would say nothing",
                    problem.question
                );
            }
            Ok(())
        })?;
    }
    Ok((!files.is_empty()).then_some(read))
}

/// Calls `take` with the problems of a file of JSON lines, and with where each stands.
fn for_each_problem(path: &Path, mut take: impl FnMut(ArithmeticProblem, &str) -> Result<()>) -> Result<()> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let place = format!("{}, line {}", path.display(), number + 1);
        let line = line.with_context(|| place.clone())?;
        let problem = serde_json::from_str(&line)
            .with_context(|| format!("{place}: not a problem as `zhenjin generate arithmetic` makes them"))?;
        take(problem, &place)?;
    }
    Ok(())
}

async fn solve(
    home: &Home,
    arguments: &ArithmeticArguments,
    model: &OsStr,
    name: String,
    problems: &[(ProblemKind, ArithmeticProblem)],
) -> Result<Column> {
    let spec = machine::model_spec(home, Some(model))?;
    let spec_name = spec.name.clone();
    let models =
        ServedModels::new(vec![spec], machine::serve_options(&arguments.engine, TOGETHER, TOGETHER)?)?;
    let assistant = models.get(&spec_name).await?;
    let mut column = Column { name, scores: ArithmeticScores::default(), unfinished: 0 };
    for group in problems.chunks(TOGETHER) {
        let mut running = Vec::new();
        for (kind, problem) in group {
            let sampling = SamplingSettings { temperature: Some(0.0), ..SamplingSettings::default() };
            let max_tokens = Some(arguments.max_tokens);
            let options = GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() };
            let prompt = CompletionPrompt::Text(problem.question.clone());
            running.push((*kind, &problem.answer, assistant.complete(&completion(prompt, options))?));
        }
        for (kind, expected, generation) in running {
            let answer = finish(generation).await?;
            column.unfinished +=
                usize::from(matches!(answer.reason, Some(FinishReason::Length | FinishReason::Repetition)));
            column.scores.judge(kind, &answer.text, expected);
        }
    }
    Ok(column)
}

#[derive(Serialize)]
struct Solved {
    solved: usize,
    problems: usize,
    share: Option<f64>,
    /// 95 %, Wilson's.
    interval: (f64, f64),
}

impl From<Proportion> for Solved {
    fn from(of: Proportion) -> Solved {
        Solved { solved: of.count, problems: of.of, share: of.share(), interval: of.interval() }
    }
}

fn json(columns: &[Column], problems: usize, trained_on: Option<u64>) -> Value {
    let models: Vec<Value> = columns
        .iter()
        .map(|column| {
            let kinds: Vec<Value> = column
                .scores
                .by_kind()
                .map(|(kind, solved)| {
                    json!({ "operation": kind.operation, "digits": kind.digits, "result": Solved::from(solved) })
                })
                .collect();
            json!({ "name": column.name, "all": Solved::from(column.scores.total()),
                    "unfinished": column.unfinished, "kinds": kinds })
        })
        .collect();
    json!({ "problems": problems, "training_problems_compared": trained_on,
            "training_problems_in_test": trained_on.map(|_| 0), "models": models })
}

/// The results as a table in Markdown.
fn table(columns: &[Column], trained_on: Option<u64>) -> String {
    let cell = |solved: Proportion| {
        let (low, high) = solved.interval();
        let share = solved.share().map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        format!("{share} ({:.1}–{:.1})", 100.0 * low, 100.0 * high)
    };
    let mut text = String::from("| problems | number |");
    columns.iter().for_each(|column| text.push_str(&format!(" {} |", column.name)));
    text.push_str(&format!("\n|---|---:|{}\n", "---:|".repeat(columns.len())));
    let mut row = |name: String, of: &dyn Fn(&ArithmeticScores) -> Proportion| {
        let count = columns.first().map_or(0, |column| of(&column.scores).of);
        text.push_str(&format!("| {name} | {count} |"));
        columns.iter().for_each(|column| text.push_str(&format!(" {} |", cell(of(&column.scores)))));
        text.push('\n');
    };
    let kinds: Vec<ProblemKind> =
        columns.iter().take(1).flat_map(|column| column.scores.by_kind().map(|(kind, _)| kind)).collect();
    for kind in kinds {
        row(format!("{}, {}-digit", kind.operation.name(), kind.digits), &|scores| {
            scores.by_kind().find(|(other, _)| *other == kind).map_or(Proportion::default(), |(_, of)| of)
        });
    }
    row("all".to_owned(), &ArithmeticScores::total);
    text.push_str("\nExact answers, greedy; in brackets the 95 % interval (Wilson).");
    if let Some(count) = trained_on {
        text.push_str(&format!(" None of the questions is among the {count} that were trained on."));
    }
    for column in columns.iter().filter(|column| column.unfinished > 0) {
        text.push_str(&format!(" {}: {} answers did not end.", column.name, column.unfinished));
    }
    text.push('\n');
    text
}
