//! `zhenjin best-of-n`: several answers to each prompt, judged; the best become examples for `sft`, or the best and the worst a preference
//! pair for `dpo`.

mod arguments;
mod contents;
mod journal;
mod prompts;
mod records;
mod report;
mod rewards;

pub(crate) use arguments::{BestOfArguments, EXAMPLES, SamplingArguments};
pub(crate) use contents::{of_files, of_schemas};
pub(crate) use journal::settings;
pub(crate) use prompts::{Prompts, ReadPrompts};
pub(crate) use records::write;
pub(crate) use report::counts;

use crate::commands::align::Loaded;
use crate::home::Home;
use crate::text::shown;
use anyhow::{Result, bail};
use arguments::ExampleKind;
use journal::{Journal, Settings};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zhenjin_align::best_of::{Candidate, Sampler, Summary, Unusable};
use zhenjin_align::configuration::RolloutSection;
use zhenjin_align::data::Encoder;
use zhenjin_model::Adapter;
use zhenjin_tokenizer::ControlText;

pub(crate) fn run(home: &Home, arguments: &BestOfArguments) -> Result<()> {
    let choice = arguments.choice()?;
    let sampling = &arguments.sampling;
    let load = arguments.load()?;
    let model = Loaded::new(home, &arguments.model, &load)?;
    let adapter = arguments.adapter.as_deref().map(|folder| model.adapter(folder)).transpose()?;
    let path = answers_file(&arguments.out);
    let earlier = settings(&path)?;
    let read = ReadPrompts {
        data: &arguments.data,
        bad: arguments.bad.policy(),
        overlong: arguments.overlong.policy(),
        context: arguments.context,
        room: sampling.max_tokens,
        most: arguments.prompts,
        time: earlier.as_ref().map(|settings| settings.time),
        thinking: arguments.thinking,
    };
    let prompts = read.prompts(&model)?;
    let writer =
        Writer { home, model: &model, adapter, sampling, temperature: sampling.temperature.unwrap_or(1.0) };
    let mut answers = writer.answers(&prompts, &path)?;
    if arguments.keep_cut {
        answers.iter_mut().flatten().for_each(Candidate::keep_cut);
    }
    let chosen = write(&arguments.out, &prompts.tasks, &answers, &choice)?;
    let summary = Summary::of(&answers, sampling.answers, sampling.seed);
    match arguments.json {
        true => println!("{:#}", report::json(&summary, &chosen)),
        false => print!("{}", report::text(&summary, &chosen, &choice, arguments.language)),
    }
    if chosen.records == 0 {
        bail!(
            "nothing could be chosen, so {} is not written; {} has all answers with their rewards{}",
            arguments.out.display(),
            path.display(),
            if summary.unusable.contains_key(&Unusable::Cut) {
                "; --keep-cut chooses those that were cut as well"
            } else {
                ""
            }
        );
    }
    let out = arguments.out.display();
    match arguments.kind {
        ExampleKind::Best => {
            eprintln!("`zhenjin sft MODEL --data {out} …` learns from it; {} has all answers", path.display())
        }
        ExampleKind::Preference => {
            eprintln!("`zhenjin dpo MODEL --data {out} …` learns from it; {} has all answers", path.display())
        }
    }
    Ok(())
}

/// Where all answers are kept, so that a killed command goes on and another choice needs no new ones.
pub(crate) fn answers_file(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".answers.jsonl");
    PathBuf::from(name)
}

/// Writes and judges answers.
pub(crate) struct Writer<'a> {
    pub(crate) home: &'a Home,
    pub(crate) model: &'a Loaded,
    pub(crate) adapter: Option<Arc<Adapter>>,
    pub(crate) sampling: &'a SamplingArguments,
    pub(crate) temperature: f64,
}

impl Writer<'_> {
    /// The answers to all prompts; those that stand in the file `path` already are not written again.
    pub(crate) fn answers(&self, prompts: &Prompts, path: &Path) -> Result<Vec<Vec<Candidate>>> {
        let sampling = self.sampling;
        let base = sampling.reward_base.as_deref();
        let base = base.map(|name| Loaded::new(self.home, name, &self.model.load)).transpose()?;
        let settings = self.settings(prompts, base.as_ref())?;
        let mut journal = Journal::open(path, &settings)?;
        let done = journal.answers.len();
        if done > prompts.tasks.len() {
            bail!("{} has answers to {done} prompts, but there are {}", path.display(), prompts.tasks.len());
        }
        if done == prompts.tasks.len() {
            return Ok(journal.answers);
        }
        let longest = prompts.encoded.iter().map(|task| task.prompt.len()).max().unwrap_or(0);
        let longest = longest.saturating_add(sampling.max_tokens);
        let OpenedParts { encoder, decode } = self.parts(prompts)?;
        let mut sampler = Sampler {
            rollouts: self.model.rollouts(self.section()),
            model: &self.model.weights,
            adapter: self.adapter.clone(),
            encoder: &encoder,
            decode,
            rewards: rewards::source(self.model, base.as_ref(), sampling, longest)?,
            answers: sampling.answers,
            seed: sampling.seed,
        };
        let all = prompts.tasks.len();
        let mut told = done * 10 / all;
        while journal.answers.len() < all {
            let first = journal.answers.len();
            let range = first..all.min(first + sampler.prompts_together());
            let answers =
                sampler.answer(&prompts.tasks[range.clone()], &prompts.encoded[range.clone()], first)?;
            for note in sampler.notes() {
                eprintln!("note: {}", shown(&note));
            }
            journal.append(answers)?;
            if range.end * 10 / all > told {
                told = range.end * 10 / all;
                eprintln!("prompts answered: {} of {all}", range.end);
            }
        }
        Ok(journal.answers)
    }

    pub(crate) fn section(&self) -> RolloutSection {
        let SamplingArguments { answers, max_tokens, top_p, top_k, .. } = *self.sampling;
        RolloutSection {
            answers,
            max_tokens,
            temperature: self.temperature,
            top_p,
            top_k,
            drop_overlong: false,
        }
    }

    fn parts(&self, prompts: &Prompts) -> Result<OpenedParts<'_>> {
        let opened = &self.model.opened;
        let encoder =
            Encoder::for_prompts(&opened.tokenizer, opened.template.as_ref(), prompts.settings.clone())?;
        let tokenizer = opened.tokenizer.clone();
        let decode =
            Box::new(move |tokens: &[u32]| tokenizer.decode(tokens, ControlText::Hide).unwrap_or_default());
        Ok(OpenedParts { encoder, decode })
    }

    /// Everything that answers and rewards depend on; `base` is the model that the reward model is an adapter to, where it is not the one that answers.
    fn settings(&self, prompts: &Prompts, base: Option<&Loaded>) -> Result<Settings> {
        let sampling = self.sampling;
        let schemas = sampling.reward.as_deref().map(contents::of_schemas);
        Ok(Settings {
            version: journal::VERSION,
            model: self.model.weights.fingerprint.to_string(),
            adapter: self.adapter.as_ref().map(|adapter| adapter.fingerprint().to_string()),
            prompts: prompts.fingerprint.clone(),
            time: prompts.time,
            answers: sampling.answers,
            max_tokens: sampling.max_tokens,
            temperature: self.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            reward: sampling.reward.clone(),
            reward_schemas: schemas.transpose()?.unwrap_or_default(),
            reward_model: sampling.reward_model.as_deref().map(contents::of_folder).transpose()?,
            reward_base: base.map(|base| base.weights.fingerprint.to_string()),
        })
    }
}

struct OpenedParts<'a> {
    encoder: Encoder<'a>,
    decode: zhenjin_align::methods::Decode,
}

/// What was chosen of all answers.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Written {
    /// Examples.
    pub(crate) records: usize,
    /// Prompts that have one.
    pub(crate) prompts: usize,
    /// Mean reward of the answers that are to be imitated or preferred.
    pub(crate) mean_reward: Option<f64>,
    /// Prompts without one, by reason.
    pub(crate) left_out: std::collections::BTreeMap<&'static str, usize>,
}
