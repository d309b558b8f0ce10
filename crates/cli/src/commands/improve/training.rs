//! An improvement's training: a run like any other, in its folder, which a killed one goes on from.

use super::{Stage, collection};
use crate::commands::align::{AlignArguments, ReferenceProgress, run_offline};
use crate::commands::training::{Interrupted, RunFolder, was_asked};
use anyhow::{Context, Result};
use clap::Parser;
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use zhenjin_align::configuration::{AnchorSection, Configuration, Method, TuningKind};
use zhenjin_files::{FileDigest, NewFolder};
use zhenjin_promotions::{Improvement, PASSES, Progress, SET};
use zhenjin_tensor::ComputeOptions;
use zhenjin_train::configuration::Overrides;
use zhenjin_train::metrics::Event;

/// Updates, unless a single pass has more: further ones at this rate change neutral text more than they teach.
const MOST_STEPS: usize = 40;
/// Rank of the adapter: a small one, as every answer pays for it.
const RANK: usize = 8;
/// Of the adapter's matrices, in the order in which they are tried: a high one teaches more, but changes neutral text in some models. The
/// log has the runs that they were chosen by.
const LEARNING_RATES: [f64; 3] = [2e-3, 7e-4, 3e-4];
/// The name of the chosen one in a recipe.
const LEARNING_RATE: &str = "learning_rate";
/// The name of a recipe's settings of KTO, one a line.
const JUDGED: &str = "judged";
/// The greatest weight of a kind of thumbs.
const MOST_WEIGHT: f64 = 100.0;
/// Examples of an update.
pub(super) const BATCH: usize = 8;
/// The files of an adapter.
pub(super) const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The steps by whose mean the rest is estimated.
const LATEST_STEPS: usize = 10;
/// How often the progress is written down.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// The options of a run, without the program around them.
#[derive(Debug, Parser)]
struct RunArguments {
    #[command(flatten)]
    align: AlignArguments,
}

/// Trains the adapter of the record into `adapter`, and completes the recipe.
pub(super) fn train(stage: &Stage<'_>, record: &mut Improvement) -> Result<()> {
    let method = method_of(&record.method);
    let passes: usize =
        record.recipe.settings.get(PASSES).and_then(|passes| passes.parse().ok()).unwrap_or(1);
    let one_pass = record.data.train.div_ceil(BATCH);
    let steps = (record.data.train * passes).div_ceil(BATCH).min(one_pass.max(MOST_STEPS));
    stage.tell(&record.id, "training", Some((0, steps as u64)))?;
    let mut settings = vec![
        format!("time={}", record.created_at.max(0) / 1000),
        format!("intervals.held_out={}", steps.div_ceil(3)),
        format!("intervals.checkpoint={}", steps.div_ceil(6).max(1)),
        // Sample texts would keep what people asked.
        "intervals.samples=0".to_owned(),
        format!("schedule.warmup_steps={}", steps.div_ceil(10)),
    ];
    if method == Method::Dpo {
        // What is preferred becomes more likely, not only less unlikely than the other answer.
        settings.push("preference.sft_weight=1".to_owned());
    }
    settings.extend(
        record.recipe.settings.get(JUDGED).map(String::as_str).unwrap_or_default().lines().map(str::to_owned),
    );
    let rate = record.recipe.settings.entry(LEARNING_RATE.to_owned());
    let rate = rate.or_insert_with(|| LEARNING_RATES[0].to_string());
    for key in ["optimiser.learning_rate", "optimiser.embedding_learning_rate"] {
        settings.push(format!("{key}={rate}"));
    }
    settings.extend(given_settings(record).map(str::to_owned));
    let run = stage.path("run");
    let folder = RunFolder::new(&run);
    if !stage.path("adapter").is_dir() {
        let data = Data {
            train: collection::train_file(stage),
            held_out: collection::held_out_file(stage),
            anchor: Some(collection::anchor_file(stage)),
            out: run.clone(),
        };
        let arguments = arguments(stage, record, &data, steps, &settings)?;
        let reference = arguments.reference.clone();
        while_telling(stage, &record.id, steps, &reference, || run_offline(stage.home, method, &arguments))?;
        keep_adapter(&folder, stage)?;
        expect_not_asked(steps)?;
    }
    let recipe = &mut record.recipe;
    recipe.configuration =
        std::fs::read_to_string(run.join("run.toml")).context("reading the run's configuration")?;
    recipe.adapter_sha256 = FileDigest::of(&stage.path("adapter").join(ADAPTER_FILES[1]))?.hexadecimal();
    recipe.simd = ComputeOptions::resolve(None, None)?.simd.name().to_owned();
    Ok(())
}

/// The method of a run that trains an improvement, by its word in the record.
fn method_of(word: &str) -> Method {
    match word {
        "kto" => Method::Kto,
        "sft" => Method::Sft,
        _ => Method::Dpo,
    }
}

/// Refuses settings that no run of this method has.
pub(super) fn expect_settings(method: &str, settings: &[String]) -> Result<()> {
    let mut overrides = Overrides::new();
    settings.iter().try_for_each(|setting| overrides.add_assignment(setting))?;
    // There is always one.
    if !overrides.has("anchor.weight") {
        overrides.add("anchor.weight", AnchorSection::WEIGHT);
    }
    Configuration::resolve(method_of(method), TuningKind::Lora, 1, &overrides)?;
    Ok(())
}

/// Ends what was asked to stop at its last step of so many: the run has ended, but not what comes after it.
pub(super) fn expect_not_asked(steps: usize) -> Result<()> {
    if was_asked() {
        return Err(Interrupted { step: steps as u64 }.into());
    }
    Ok(())
}

/// Settings of KTO for so many liked and disliked answers. Both kinds weigh the same, however rare one is: people who mostly dislike
/// would otherwise make all answers less likely, the liked ones too (Ethayarajh et al. 2024, section 4.2, want the weights times the numbers
/// to be near each other). And what is liked becomes more likely, not only less unlikely than the rest.
pub(super) fn judged_settings(liked: usize, disliked: usize) -> (String, String) {
    let weight = |count: usize| ((liked + disliked) as f64 / (2 * count.max(1)) as f64).min(MOST_WEIGHT);
    let settings = format!(
        "judged.liked_weight={:.4}\njudged.disliked_weight={:.4}\njudged.sft_weight=1",
        weight(liked),
        weight(disliked)
    );
    (JUDGED.to_owned(), settings)
}

/// The settings that whoever asked for the improvement gave.
fn given_settings(record: &Improvement) -> impl Iterator<Item = &str> {
    record.recipe.settings.get(SET).map(String::as_str).unwrap_or_default().lines()
}

/// The learning rate to try after the record's, if there is one.
pub(super) fn lower_rate(record: &Improvement) -> Option<f64> {
    if given_settings(record).any(|setting| setting.starts_with("optimiser.learning_rate")) {
        return None;
    }
    let rate: f64 = record.recipe.settings.get(LEARNING_RATE)?.parse().ok()?;
    LEARNING_RATES.into_iter().find(|lower| *lower < rate)
}

/// Forgets what was trained, so that the record is trained anew at this rate.
pub(super) fn begin_anew(stage: &Stage<'_>, record: &mut Improvement, rate: f64) -> Result<()> {
    // The adapter first: one that is there is not trained again, so it must not outlive its rate.
    for name in ["adapter", "run"] {
        let path = stage.path(name);
        std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    record.recipe.settings.insert(LEARNING_RATE.to_owned(), rate.to_string());
    Ok(stage.improvements.write(record)?)
}

/// The files of a run.
pub(super) struct Data {
    pub(super) train: std::path::PathBuf,
    pub(super) held_out: std::path::PathBuf,
    /// Text that stays as probable as it is.
    pub(super) anchor: Option<std::path::PathBuf>,
    pub(super) out: std::path::PathBuf,
}

/// A run's options, as if they were given on the command line.
pub(super) fn arguments(
    stage: &Stage<'_>,
    record: &Improvement,
    data: &Data,
    steps: usize,
    settings: &[String],
) -> Result<AlignArguments> {
    let mut words: Vec<OsString> = vec!["zhenjin".into(), (&record.model).into()];
    let mut add = |name: &str, value: OsString| words.extend([name.into(), value]);
    add("--data", data.train.clone().into());
    add("--held-out", data.held_out.clone().into());
    if let Some(anchor) = &data.anchor {
        add("--anchor", anchor.clone().into());
    }
    add("--out", data.out.clone().into());
    add("--steps", steps.to_string().into());
    add("--batch", BATCH.to_string().into());
    add("--rank", RANK.to_string().into());
    add("--seed", "1".into());
    add("--resume", "auto".into());
    add("--overlong", "drop".into());
    if record.method == "sft" {
        add("--learn", "last".into());
    }
    for setting in settings {
        add("--set", setting.into());
    }
    if let Some(threads) = stage.arguments.threads {
        add("--threads", threads.to_string().into());
    }
    // Whether it goes behind others was decided for the whole improvement.
    words.extend(["--plain", "--priority", "normal"].map(Into::into));
    // People may have their words erased, and then no copy may be left.
    words.push("--no-kept-examples".into());
    Ok(RunArguments::try_parse_from(words)?.align)
}

/// Does `work` and says meanwhile how far the run has come, by its own log.
fn while_telling<T>(
    stage: &Stage<'_>,
    id: &str,
    steps: usize,
    reference: &ReferenceProgress,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let metrics = stage.path("run/metrics.jsonl");
        scope.spawn(move || {
            while is_done.recv_timeout(TELL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = stage.improvements.tell(id, &progress(&metrics, steps as u64, reference))
                {
                    tracing::warn!(%error, "how far the improvement has come cannot be written down");
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// How far a run of so many steps has come. Before its first step it computes how probable the model itself finds the examples, which takes minutes.
fn progress(metrics: &Path, steps: u64, reference: &ReferenceProgress) -> Progress {
    if let Some((known, examples)) = reference.under_way() {
        let phase = "reference".to_owned();
        return Progress { phase, step: Some(known), steps: Some(examples), seconds_left: None };
    }
    let text = std::fs::read_to_string(metrics).unwrap_or_default();
    let made = |line: &str| match serde_json::from_str::<Event>(line) {
        Ok(Event::Step(step)) => Some((step.step, step.seconds)),
        _ => None,
    };
    // The newest first; the very last line may be half written.
    let latest: Vec<(u64, f64)> = text.lines().rev().filter_map(made).take(LATEST_STEPS).collect();
    let step = latest.first().map_or(0, |(step, _)| *step);
    let seconds: f64 = latest.iter().map(|(_, seconds)| seconds).sum();
    let left = seconds / latest.len() as f64 * steps.saturating_sub(step) as f64;
    // Not a number before the first step.
    let seconds_left = left.is_finite().then(|| left.max(0.0).ceil() as u64);
    Progress { phase: "training".to_owned(), step: Some(step), steps: Some(steps), seconds_left }
}

/// Copies the adapter out of the last checkpoint.
fn keep_adapter(run: &RunFolder, stage: &Stage<'_>) -> Result<()> {
    let last = run.last_checkpoint().context("the run left no checkpoint")?;
    let new = NewFolder::create(&stage.path("adapter"))?;
    for name in ADAPTER_FILES {
        copy(&last.join(name), &new.temporary_path().join(name))?;
    }
    Ok(new.finish()?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    Ok(zhenjin_files::write_whole(to, &[&bytes])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: "Training, step 0 of 40" stood there for minutes while the reference's log-probabilities were computed.
    #[test]
    fn the_reference_is_a_phase_of_its_own_and_training_says_how_long_it_takes_from_now_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = folder.path().join("metrics.jsonl");
        let reference = ReferenceProgress::default();
        let seen = || {
            let Progress { phase, step, steps, seconds_left } = progress(&metrics, 40, &reference);
            (phase, step, steps, seconds_left)
        };
        let training = |step, left| ("training".to_owned(), Some(step), Some(40), left);
        assert_eq!(seen(), training(0, None));
        reference.clone().tell(172, 214);
        assert_eq!(seen(), ("reference".to_owned(), Some(172), Some(214), None));
        reference.tell(214, 214);
        assert_eq!(seen(), training(0, None));
        let step = |step: u64, seconds: f64| {
            format!(
                r#"{{"event":"step","step":{step},"tokens":1,"loss":1.0,"z_loss":0.0,"gradient_norm":1.0,"clipped":false,"learning_rate":0.1,"seconds":{seconds:?},"tokens_per_second":1.0,"model_flops":1.0,"peak_fraction":null,"resident_bytes":null,"energy":null,"targets":1,"skipped":null}}"#
            )
        };
        let log = format!(
            "{}\n{}\n{}\n{}",
            step(1, 3.0),
            step(2, 5.0),
            r#"{"event":"note","step":2,"text":"a note"}"#,
            r#"{"event":"st"#
        );
        std::fs::write(&metrics, log).expect("a file");
        assert_eq!(seen(), training(2, Some(4 * 38)));
    }
}
