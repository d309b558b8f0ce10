//! `zhenjin improve`: from what people judged in the chat to an adapter, measured before it may answer.

mod collection;
mod compared;
mod judging;
mod options;
mod show;
mod statistics;
mod training;

use super::promote::{answers, compared_with_other, now, promote_improvement};
use super::training::Interrupted;
use crate::home::Home;
use crate::text::shown;
use anyhow::{Context, Result, bail};
use clap::Args;
use collection::Collected;
pub(super) use collection::forget_withdrawn;
use judging::Verdict;
use sha2::Digest;
use std::path::PathBuf;
use zhenjin_hub::ModelStore;
use zhenjin_improve::{Limits, Method, Order, TooFew};
use zhenjin_promotions::{
    AGAIN_FOLDER, Improvement, ImprovementState, Improvements, Maker, Progress, Promotions, Recipe, Running,
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
    /// The most examples of one person to learn from, the newest first, and a fifth as many held out [default: as many as the other person with the
    /// most has, at most half as many as all others have; at least 20, of the operator, or of one of two people by choices and corrections, 200; at
    /// most 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_person: Option<u32>,
    /// Passes over the examples, at most: after 40 updates only the first pass goes on [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: Option<u32>,
    /// One setting of its training, as for `zhenjin dpo` (repeatable), such as optimiser.learning_rate=1e-4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Make one even if nothing was judged since the last one, or begin anew with other options what was interrupted
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

impl ImproveArguments {
    /// The improvement that a server has this program make: nobody else gives it its name and puts it behind everything else.
    fn for_server(&self) -> Option<String> {
        self.id.clone().filter(|_| self.background)
    }
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
        let (step, steps) = step.unzip();
        Ok(self
            .improvements
            .tell(id, &Progress { phase: phase.to_owned(), step, steps, seconds_left: None })?)
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
    improvements.tell_maker(&making, &Maker::of(std::process::id(), arguments.for_server()))?;
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
        None => {
            let models = ModelStore::new(home.models());
            collection::only_model(&judged, &|name| models.resolve(name).is_ok())?
        }
    };
    compared::expect_comparable(home, &model)?;
    let method = arguments.method.map(Method::as_str);
    let id = match &arguments.id {
        Some(id) => id.clone(),
        None => improvements.next_id(&model, method, now())?,
    };
    let stage = Stage { home, arguments, improvements, folder: improvements.folder_of(&id)? };
    // Whoever asked for it by its name waits for that name.
    let interrupted = if given_up.contains(&id) { None } else { begun(improvements, &id)? };
    let going_on = match interrupted {
        Some(record) => go_on(&stage, store, &judged, record, &model).await?,
        None => None,
    };
    let mut record = match going_on {
        Some(record) => record,
        None => begin(&stage, store, &judged, &id, &model).await?,
    };
    let ended = make(&stage, &mut record).await;
    if let Err(error) = ended {
        if error.is::<Interrupted>() {
            eprintln!("the improvement {id} goes on when it is asked for again");
        } else if let Err(left) = give_up(&stage, store, &mut record, &format!("{error:#}")).await {
            eprintln!("what the improvement {id} had computed could not be removed: {left:#}");
        }
        return Err(error);
    }
    record.finished_at = Some(now());
    improvements.write(&record)?;
    // What people wrote stays in the store alone, where it can be erased.
    improvements.forget_words(&id)?;
    show::record(&record, arguments.json)?;
    if arguments.auto && record.state == ImprovementState::Passed {
        promote_passed(home, &record)?;
    }
    Ok(())
}

/// Promotes what passed its gate, unless something else answers by now than what it was compared with.
fn promote_passed(home: &Home, record: &Improvement) -> Result<()> {
    let promotions = Promotions::new(home.promoted());
    if let Some(why) = compared_with_other(&promotions, record)? {
        let Improvement { id, model, .. } = record;
        eprintln!(
            "not promoted: {}; make another one with --again, or promote it all the same with `zhenjin promote {} --improvement {id}`",
            shown(&why),
            shown(model)
        );
        return Ok(());
    }
    let promoted = promote_improvement(home, &record.model, &record.id)?;
    eprintln!("promoted: {} {}", promoted.id, answers(&promotions, &record.model)?);
    Ok(())
}

/// Gives an improvement up: what it had computed is removed, and what people wrote.
async fn give_up(stage: &Stage<'_>, store: &Store, record: &mut Improvement, reason: &str) -> Result<()> {
    // The note after what it is about, and the record last: what says that it has failed has left nothing, and what is found half removed
    // after a crash may still go on.
    stage.improvements.forget_all(&record.id)?;
    store.forget_training(&record.id).await?;
    Ok(stage.improvements.give_up(record, reason, now())?)
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
///
/// # Errors
/// Where it would go on with other options than those that are given, or none can begin in its place.
async fn go_on(
    stage: &Stage<'_>,
    store: &Store,
    judged: &[collection::Row],
    mut record: Improvement,
    model: &str,
) -> Result<Option<Improvement>> {
    let id = record.id.clone();
    let other = options::different(stage.arguments, &record);
    let reason = if !other.is_empty() {
        if !stage.arguments.again {
            bail!(
                "the improvement {id} was interrupted, and goes on with the options that it began with, but now there is {}: leave that out to go \
                 on, or begin it anew with --again",
                other.join(", ")
            );
        }
        // Nothing is given up for what cannot begin.
        training::expect_settings(
            collected(stage, judged, model)?.collection.method.as_str(),
            &stage.arguments.set,
        )?;
        eprintln!("the improvement {id} begins anew: now there is {}", other.join(", "));
        "it was interrupted, and begun anew with other options"
    } else if collection::restore(stage, store, judged, &record).await? {
        eprintln!("going on with the improvement {id}");
        return Ok(Some(record));
    } else {
        eprintln!(
            "the improvement {id} begins anew: its examples are gone and cannot be made again as they were"
        );
        "the examples that it had begun with are gone and cannot be made again as they were: begin a new one"
    };
    give_up(stage, store, &mut record, reason).await?;
    Ok(None)
}

/// The examples of an improvement that begins now.
fn collected(stage: &Stage<'_>, judged: &[collection::Row], model: &str) -> Result<Collected> {
    let ImproveArguments { method, per_person, .. } = stage.arguments;
    let limits = Limits { of_a_person: per_person.map(|count| count as usize), ..Limits::default() };
    Collected::of(judged, model, *method, &limits)
}

async fn begin(
    stage: &Stage<'_>,
    store: &Store,
    judged: &[collection::Row],
    id: &str,
    model: &str,
) -> Result<Improvement> {
    let arguments = stage.arguments;
    let collected = collected(stage, judged, model).inspect_err(|error| {
        // A record that cannot be written does not hide why there is nothing to learn.
        if let Some(few) = error.downcast_ref::<TooFew>()
            && let Err(unwritten) = note_too_few(stage, id, model, few)
        {
            eprintln!("the record of {id} could not be written: {unwritten:#}");
        }
    })?;
    training::expect_settings(collected.collection.method.as_str(), &arguments.set)?;
    let recipe = Recipe {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        settings: options::settings(arguments, &collected.collection),
        rows: collected.rows.clone(),
        division: collected.collection.division.to_string(),
        order: Order::Name.as_str().to_owned(),
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
    if !arguments.again {
        collection::expect_news(stage.improvements, &record)?;
    }
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
                Verdict::Measured(criteria) => break zhenjin_improve::gate::settled(criteria),
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
    trained.map_err(|error| match error.is::<Interrupted>() {
        true => anyhow::anyhow!("asked to stop: nothing of what was trained again is kept"),
        false => error,
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use zhenjin_promotions::Origin;

    /// What had passed against the model itself was once promoted in the place of whatever answered by then.
    #[test]
    fn what_was_compared_with_something_else_is_not_promoted_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::open(Some(folder.path())).expect("a home");
        let adapter = |folder: &Path, content: &str| {
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(folder.join("adapter_config.json"), "{}").expect("a file");
            std::fs::write(folder.join("adapter_model.safetensors"), content).expect("a file");
        };
        let improvements = Improvements::new(home.improvements());
        let mut record = Improvement {
            state: ImprovementState::Passed,
            compared_with: Some(Improvement::word_of(None).to_owned()),
            ..Improvement::begun("one", "tiny", "dpo", 1)
        };
        improvements.write(&record).expect("written");
        adapter(&improvements.adapter_of("one").expect("a path"), "learned");
        let other = folder.path().join("other");
        adapter(&other, "other");
        let promotions = Promotions::new(home.promoted());
        let answering = || promotions.read().expect("a list").remove("tiny").and_then(|tiny| tiny.now);
        let promoted = promotions.promote("tiny", &other, 2, Origin::default()).expect("promoted");
        promote_passed(&home, &record).expect("not promoted");
        assert_eq!(answering(), Some(promoted.clone()));
        record.compared_with = Some(promoted.id);
        promote_passed(&home, &record).expect("promoted");
        let now = answering().expect("a promotion");
        assert_eq!(now.origin.improvement.as_deref(), Some("one"));
    }
}
