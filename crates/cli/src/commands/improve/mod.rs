//! `zhenjin improve`: from what people judged in the chat to an adapter, measured before it may answer.

mod collection;
mod judging;
mod show;
mod training;

use super::promote::{answers, now, promote_improvement};
use crate::home::Home;
use anyhow::{Context, Result, bail};
use clap::Args;
use collection::Collected;
pub(super) use collection::forget_withdrawn;
use judging::Verdict;
use sha2::Digest;
use std::path::{Path, PathBuf};
use zhenjin_improve::{Limits, Method, TooFew};
use zhenjin_promotions::{
    AGAIN_FOLDER, Improvement, ImprovementState, Improvements, Progress, Promotions, Recipe, Running,
};
use zhenjin_store::Store;

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin improve smollm2:135m
  zhenjin improve smollm2:135m --auto
  zhenjin improve --list
  zhenjin improve --show 20261127-101500
  zhenjin improve --reproduce 20261127-101500

Only judgements of people who allow it are used (`zhenjin feedback stats`). What passes its gate is promoted with --auto, by
`zhenjin promote MODEL --improvement ID`, or in the chat page; `zhenjin rollback MODEL` takes it back.";

#[derive(Debug, Args)]
pub(crate) struct ImproveArguments {
    /// The model that is to be improved [default: the only one whose answers were judged]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// How it learns [default: from pairs if there are enough, else from thumbs, else from good answers]
    #[arg(long, value_name = "dpo|kto|sft")]
    method: Option<Method>,
    /// Promote it at once if it passes
    #[arg(long)]
    auto: bool,
    /// The most examples of one person, the newest first [default: as many as the other person with the most has, at most half as many as all others
    /// have; at least 20, of the operator, or of one of two people by choices and corrections, 200; at most 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_person: Option<u32>,
    /// Passes over the examples, at most: after 40 updates only the first pass goes on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: u32,
    /// One setting of its training, as for `zhenjin dpo` (repeatable), such as optimiser.learning_rate=1e-4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Make one even if nothing was judged since the last one
    #[arg(long)]
    again: bool,
    /// Let other programs go first
    #[arg(long)]
    background: bool,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The name of the improvement [default: the time]
    #[arg(long, value_name = "ID", hide = true)]
    id: Option<String>,
    /// List all improvements and end
    #[arg(long, conflicts_with_all = ["model", "show", "reproduce"])]
    list: bool,
    /// Show one improvement's record and end
    #[arg(long, value_name = "ID", conflicts_with_all = ["model", "reproduce"])]
    show: Option<String>,
    /// Train an improvement's adapter again from its record, and compare
    #[arg(long, value_name = "ID", conflicts_with = "model")]
    reproduce: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the stages of an improvement work with.
struct Stage<'a> {
    home: &'a Home,
    arguments: &'a ImproveArguments,
    improvements: &'a Improvements,
    folder: PathBuf,
}

impl Stage<'_> {
    fn tell(&self, id: &str, phase: &str, step: Option<(u64, u64)>) -> Result<()> {
        let progress =
            Progress { phase: phase.to_owned(), step: step.map(|at| at.0), steps: step.map(|at| at.1) };
        Ok(self.improvements.tell(id, &progress)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

pub(crate) async fn run(home: &Home, arguments: ImproveArguments) -> Result<()> {
    let improvements = Improvements::new(home.improvements());
    if arguments.list {
        return show::list(&improvements, arguments.json);
    }
    if let Some(id) = &arguments.show {
        return show::record(&improvements.read(id)?, arguments.json);
    }
    if arguments.background {
        crate::priority::go_behind();
    }
    let making = improvements.begin()?;
    let store = Store::open_beside_owner(&home.database()).await?;
    let done = make_or_reproduce(home, &arguments, &improvements, &making, &store).await;
    // What was withdrawn meanwhile does not stay in an interrupted improvement either.
    let forgotten = forget_withdrawn(&improvements, &making, &store).await;
    store.close().await;
    if let (Err(_), Err(error)) = (&done, &forgotten) {
        eprintln!("what people wrote could not be removed from {}: {error:#}", home.improvements().display());
    }
    done?;
    forgotten.map(|_| ())
}

async fn make_or_reproduce(
    home: &Home,
    arguments: &ImproveArguments,
    improvements: &Improvements,
    making: &Running,
    store: &Store,
) -> Result<()> {
    // Nobody goes on with what was erased since.
    let given_up = forget_withdrawn(improvements, making, store).await?;
    match &arguments.reproduce {
        Some(id) => reproduce(home, arguments, improvements, store, id).await,
        None => improve(home, arguments, improvements, store, &given_up).await,
    }
}

async fn improve(
    home: &Home,
    arguments: &ImproveArguments,
    improvements: &Improvements,
    store: &Store,
    given_up: &[String],
) -> Result<()> {
    let judged = collection::read(store).await?;
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => collection::only_model(&judged)?,
    };
    let method = arguments.method.map(Method::as_str);
    let id = match &arguments.id {
        Some(id) => id.clone(),
        None => improvements.next_id(&model, method, now())?,
    };
    let stage = Stage { home, arguments, improvements, folder: improvements.folder_of(&id)? };
    // Whoever asked for it by its name waits for that name.
    let interrupted = if given_up.contains(&id) { None } else { begun(improvements, &id)? };
    let going_on = match interrupted {
        Some(record) => go_on(&stage, store, &judged, record).await?,
        None => None,
    };
    let mut record = match going_on {
        Some(record) => record,
        None => begin(&stage, store, &judged, &id, &model).await?,
    };
    let ended = make(&stage, &mut record).await;
    record.finished_at = Some(now());
    if let Err(error) = &ended {
        if error.is::<super::training::Interrupted>() {
            return ended;
        }
        record.state = ImprovementState::Failed;
        record.error = Some(format!("{error:#}"));
    }
    improvements.write(&record)?;
    // What people wrote stays in the store alone, where it can be erased.
    improvements.forget_words(&id)?;
    ended?;
    show::record(&record, arguments.json)?;
    if arguments.auto && record.state == ImprovementState::Passed {
        let promoted = promote_improvement(home, &model, &id)?;
        eprintln!("promoted: {} {}", promoted.id, answers(&Promotions::new(home.promoted()), &model)?);
    }
    Ok(())
}

/// The record of an improvement that was interrupted.
fn begun(improvements: &Improvements, id: &str) -> Result<Option<Improvement>> {
    let is_there = improvements.list()?.into_iter().find(|record| record.id == id);
    match is_there {
        Some(record) if record.state == ImprovementState::Running => Ok(Some(record)),
        Some(_) => bail!("the improvement {id} has ended already"),
        None => Ok(None),
    }
}

/// The record of an interrupted improvement, if it can go on; else it is given up.
async fn go_on(
    stage: &Stage<'_>,
    store: &Store,
    judged: &[collection::Row],
    mut record: Improvement,
) -> Result<Option<Improvement>> {
    let id = record.id.clone();
    if collection::restore(stage, store, judged, &record).await? {
        eprintln!("going on with the improvement {id}");
        return Ok(Some(record));
    }
    let reason =
        "the examples that it had begun with are gone and cannot be made again as they were: begin a new one";
    stage.improvements.give_up(&mut record, reason, now())?;
    store.forget_training(&id).await?;
    eprintln!(
        "the improvement {id} begins anew: its examples are gone and cannot be made again as they were"
    );
    Ok(None)
}

async fn begin(
    stage: &Stage<'_>,
    store: &Store,
    judged: &[collection::Row],
    id: &str,
    model: &str,
) -> Result<Improvement> {
    let arguments = stage.arguments;
    let limits = Limits { of_a_person: arguments.per_person.map(|n| n as usize), ..Limits::default() };
    let collected = Collected::of(judged, model, arguments.method, &limits).inspect_err(|error| {
        // A record that cannot be written does not hide why there is nothing to learn.
        if let Some(few) = error.downcast_ref::<TooFew>()
            && let Err(unwritten) = note_too_few(stage, id, model, few)
        {
            eprintln!("the record of {id} could not be written: {unwritten:#}");
        }
    })?;
    if !arguments.again {
        collection::expect_news(stage.improvements, model, &collected)?;
    }
    let mut settings = std::collections::BTreeMap::new();
    settings.insert("passes".to_owned(), arguments.passes.to_string());
    settings.insert("set".to_owned(), arguments.set.join("\n"));
    if collected.collection.method == Method::Kto {
        let (liked, disliked) = collected.collection.liked_and_disliked();
        settings.extend([training::judged_settings(liked, disliked)]);
    }
    let recipe = Recipe {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        settings,
        rows: collected.rows.clone(),
        division: limits.division.as_str().to_owned(),
        without: collected.collection.without.clone(),
        train_sha256: collected.train_sha256.clone(),
        held_out_sha256: collected.held_out_sha256.clone(),
        ..Recipe::default()
    };
    let record = Improvement {
        data: collected.collection.counts.clone(),
        recipe,
        ..Improvement::begun(id, model, collected.collection.method.as_str(), now())
    };
    // The record first, then the note, then the copies: no copy is without a record that says what it is of, not even after a crash.
    stage.improvements.write(&record)?;
    collected.note(store, judged, id).await?;
    collected.write(stage)?;
    stage.tell(id, "collecting", None)?;
    show::data(&record);
    eprintln!("held-out examples are of {} first questions of chats", collected.collection.held_out_units());
    Ok(record)
}

/// Whoever asked for an improvement by its name finds under it why there is none, and what was counted.
fn note_too_few(stage: &Stage<'_>, id: &str, model: &str, few: &TooFew) -> Result<()> {
    if stage.arguments.id.is_none() || stage.improvements.read(id).is_ok() {
        return Ok(());
    }
    let record = Improvement {
        finished_at: Some(now()),
        state: ImprovementState::Failed,
        error: Some(few.to_string()),
        data: few.counts.as_ref().clone(),
        recipe: Recipe { program: env!("CARGO_PKG_VERSION").to_owned(), ..Recipe::default() },
        ..Improvement::begun(id, model, few.method.as_str(), now())
    };
    Ok(stage.improvements.write(&record)?)
}

/// Trains and judges; the record is complete afterwards.
async fn make(stage: &Stage<'_>, record: &mut Improvement) -> Result<()> {
    // The library of databases needs its own threads while this one computes.
    tokio::task::block_in_place(|| {
        collection::expect_files(stage, record)?;
        record.gate = loop {
            training::train(stage, record)?;
            stage.improvements.write(record)?;
            match judging::judge(stage, record)? {
                Verdict::Measured(criteria) => break criteria,
                Verdict::TooStrong { rate } => {
                    eprintln!("that learning rate changes neutral text too much: again at {rate}");
                    training::begin_anew(stage, record, rate)?;
                }
            }
        };
        record.state = match zhenjin_improve::gate::passes(&record.gate) {
            true => ImprovementState::Passed,
            false => ImprovementState::Refused,
        };
        Ok(())
    })
}

/// Trains an adapter again by its record, beside it, and compares.
async fn reproduce(
    home: &Home,
    arguments: &ImproveArguments,
    improvements: &Improvements,
    store: &Store,
    id: &str,
) -> Result<()> {
    let record = improvements.read(id)?;
    if record.recipe.adapter_sha256.is_empty() {
        bail!("the improvement {id} has no adapter: it was not trained to its end");
    }
    let judged = collection::read(store).await?;
    let recipe = &record.recipe;
    let Some(collected) = Collected::again(&judged, &record)? else {
        bail!("{}", collection::why_not_again(&record));
    };
    let folder = improvements.folder_of(id)?.join(AGAIN_FOLDER);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let stage = Stage { home, arguments, improvements, folder: folder.clone() };
    collected.write(&stage)?;
    let mut again = record.clone();
    let trained = tokio::task::block_in_place(|| training::train(&stage, &mut again));
    // What people wrote does not stay here.
    std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    trained?;
    if again.recipe.adapter_sha256 == recipe.adapter_sha256 {
        println!("the same adapter, bit for bit: SHA-256 {}", recipe.adapter_sha256);
        return Ok(());
    }
    bail!(
        "another adapter: SHA-256 {} instead of {}; then by the program {} with {}, now by {} with {}",
        again.recipe.adapter_sha256,
        recipe.adapter_sha256,
        recipe.program,
        recipe.simd,
        env!("CARGO_PKG_VERSION"),
        again.recipe.simd
    )
}

/// The SHA-256 of bytes, in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// That of a file.
fn file_sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(sha256(&bytes))
}
