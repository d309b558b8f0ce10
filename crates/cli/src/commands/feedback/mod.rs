//! `zhenjin feedback`: what people say of answers, counted, written as data for training, and erased.

mod stats;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use zhenjin_files::NewFile;
use zhenjin_improve::{Item, Method, examples};
use zhenjin_promotions::{Improvements, PromotionError};
use zhenjin_store::{FeedbackStatistics, Owner, Store, TrainingFeedback};

use super::improve::forget_withdrawn;
use super::key::owner_named;
use crate::home::Home;
pub(crate) use zhenjin_server::judged;

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin feedback stats
  zhenjin feedback export --as preference --output pairs.jsonl
  zhenjin data check pairs.jsonl
  zhenjin feedback erase --owner anna";

#[derive(Debug, Subcommand)]
pub(crate) enum FeedbackCommand {
    /// Count the feedback: by kind, reason, model and owner, and how much of it can be learned from
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write feedback as JSON lines that `zhenjin data check`, `dpo`, `kto` and `sft` read; only of owners who allow
    /// learning from it
    Export(FeedbackExportArguments),
    /// Erase all feedback of an owner; the chats stay. This cannot be undone
    Erase {
        /// Whose: `local`, or a key's name or id
        #[arg(long, value_name = "OWNER")]
        owner: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FeedbackExportArguments {
    /// What the examples are
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: ExampleKind,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the feedback of this owner: `local`, or a key's name or id
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
}

/// The kinds of examples that training knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExampleKind {
    /// Pairs of answers: from choices, from corrections, from a liked answer beside a disliked one (for `dpo`, `reward`)
    Preference,
    /// Answers to imitate: corrections, and answers that are liked
    Sft,
    /// Single answers that are liked or not
    Kto,
}

impl ExampleKind {
    /// What learns from them.
    fn method(self) -> Method {
        match self {
            ExampleKind::Preference => Method::Dpo,
            ExampleKind::Sft => Method::Sft,
            ExampleKind::Kto => Method::Kto,
        }
    }
}

pub(crate) async fn run(home: &Home, command: FeedbackCommand) -> Result<()> {
    let store = Store::open_beside_owner(&home.database()).await?;
    match command {
        FeedbackCommand::Stats { json } => stats::print(&store, json).await?,
        FeedbackCommand::Export(arguments) => export(&store, &arguments).await?,
        FeedbackCommand::Erase { owner } => erase(home, &store, &owner).await?,
    }
    store.close().await;
    Ok(())
}

async fn export(store: &Store, arguments: &FeedbackExportArguments) -> Result<()> {
    let mut rows = store.training_feedback().await?;
    let mut in_trash = store.feedback_rows().await?;
    if let Some(name) = &arguments.owner {
        let owner = owner_named(store, name, "--owner").await?;
        if !store.training_consent(&owner).await?.allowed {
            bail!(
                "{owner} has not allowed learning from their feedback, so nothing of it is exported; they say so in the chat page's settings, and can take their own feedback along there"
            );
        }
        rows.retain(|row| row.owner == owner);
        in_trash.retain(|row| row.owner == owner);
    }
    let from = judgements(&rows);
    let (items, left_out) = examples(&judged(rows), arguments.kind.method());
    let lines: Vec<serde_json::Value> = items.iter().map(Item::to_json).collect();
    write(arguments.output.as_deref(), &lines)?;
    eprintln!("{} examples from {from}", lines.len());
    for (reason, count) in &left_out {
        eprintln!("left out, {reason}: {count}");
    }
    match FeedbackStatistics::of(&in_trash).in_trash {
        0 => {}
        count => eprintln!("left out, in the trash: {count}"),
    }
    Ok(())
}

fn judgements(rows: &[TrainingFeedback]) -> String {
    match rows.len() {
        1 => "1 judgement".to_owned(),
        count => format!("{count} judgements"),
    }
}

fn write(file: Option<&std::path::Path>, lines: &[serde_json::Value]) -> Result<()> {
    let write_all = |out: &mut dyn Write| lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    match file {
        Some(path) => {
            let mut out = NewFile::create(path)?;
            write_all(&mut out)?;
            out.finish()?;
        }
        None => write_all(&mut std::io::stdout().lock())?,
    }
    Ok(())
}

async fn erase(home: &Home, store: &Store, name: &str) -> Result<()> {
    let owner: Owner = owner_named(store, name, "--owner").await?;
    let mut erased = store.erase_feedback(&owner).await?;
    eprintln!("erased: {} of {owner}", erased.erased);
    let improvements = Improvements::new(home.improvements());
    match improvements.begin() {
        Ok(making) => {
            let given_up = forget_withdrawn(&improvements, &making, store).await?;
            erased.trained.retain(|improvement| !given_up.contains(improvement));
        }
        // The program that makes one looks itself when it ends.
        Err(PromotionError::Busy) => {}
        Err(error) => return Err(error.into()),
    }
    if !erased.trained.is_empty() {
        eprintln!(
            "These improvements learned from it and do not forget it by this: {}",
            erased.trained.join(", ")
        );
    }
    Ok(())
}
