//! What evaluations of models that were trained further have in common: their options, the model, and examples in tokens.

use crate::arguments::at_least_one;
use crate::commands::align::{BadArgument, Loaded, OverlongArgument};
use crate::commands::data::ThinkingOption;
use crate::home::Home;
use crate::text::shown;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use zhenjin_align::configuration::RolloutSection;
use zhenjin_align::data::{
    Dataset, EncodeOptions, Encoded, EncodedTask, Encoder, Kind, LearntAnswers, ReadOptions, held_out_note,
};
use zhenjin_align::evaluation::answers;
use zhenjin_align::rollouts::Answer;
use zhenjin_hub::OpenedModel;
use zhenjin_model::LoadOptions;
use zhenjin_tensor::ComputeOptions;
use zhenjin_tokenizer::ControlText;

/// Which examples are measured, and how they are computed.
#[derive(Debug, Args)]
pub(crate) struct AlignmentArguments {
    /// Files of examples; formats are known by their fields (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Measure only those that training held out of --data with this share [default: all]
    #[arg(long, value_name = "SHARE")]
    pub(crate) held_out_share: Option<f64>,
    /// The seed of that training, which decides what was held out
    #[arg(long, default_value_t = 0, value_name = "N", requires = "held_out_share")]
    pub(crate) held_out_seed: u64,
    /// Most tokens of an example, of a prompt where answers are written [default: what the model can hold]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) context: Option<usize>,
    /// What happens to longer examples
    #[arg(long, value_enum, default_value_t = OverlongArgument::Error)]
    pub(crate) overlong: OverlongArgument,
    /// What happens to records that are not examples
    #[arg(long, value_enum, default_value_t = BadArgument::Stop)]
    pub(crate) bad: BadArgument,
    #[command(flatten)]
    pub(crate) thinking: ThinkingOption,
    /// The time that chat templates show, in seconds since 1970 (a run's is in its run.toml) [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time: Option<i64>,
    /// Seed of intervals by resampling, and of sampled answers
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Write the results to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instructions to use: scalar, avx2, avxvnni, avx512vnni, amx; on AArch64 neon, dotprod, i8mm [default: the best that this machine has]
    #[arg(long, env = "ZHENJIN_SIMD", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) simd: Option<String>,
}

/// How answers to prompts are written.
#[derive(Debug, Args)]
pub(crate) struct WritingArguments {
    /// Prompts, the first of --data [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) prompts: Option<usize>,
    /// Answers of each model to a prompt
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub(crate) answers: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = at_least_one)]
    pub(crate) max_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    pub(crate) temperature: f64,
    /// Nucleus sampling
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub(crate) top_p: f64,
    /// Show answers to this many prompts
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) show: usize,
}

impl WritingArguments {
    /// The prompts of `common`'s data.
    pub(super) fn tasks(&self, common: &AlignmentArguments, model: &Loaded) -> Result<Vec<EncodedTask>> {
        let mut tasks = common.read(model, Kind::Tasks, self.max_tokens, |encoder, data, options| {
            encoder.encode_tasks(data, options)
        })?;
        tasks.truncate(self.prompts.unwrap_or(usize::MAX));
        Ok(tasks)
    }

    /// A model's answers to all prompts.
    pub(super) fn write(
        &self,
        model: &Loaded,
        adapter: Option<&Path>,
        tasks: &[EncodedTask],
        seed: u64,
        what: &'static str,
    ) -> Result<Vec<Vec<Answer>>> {
        let adapter = adapter.map(|folder| model.adapter(folder)).transpose()?;
        let mut rollouts = model.rollouts(RolloutSection {
            answers: self.answers,
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: 0,
            drop_overlong: false,
        });
        let prompts: Vec<&[u32]> = tasks.iter().map(|task| &task.prompt[..]).collect();
        let mut progress = tenths(what, prompts.len() * self.answers);
        let (model, adapter) = (&model.weights, adapter.as_ref());
        Ok(answers(&mut rollouts, model, adapter, &prompts, self.answers, seed, &mut progress)?)
    }

    /// The answers of what a model is compared with.
    pub(super) fn write_other(
        &self,
        home: &Home,
        model: &Loaded,
        against: &Against,
        tasks: &[EncodedTask],
        seed: u64,
    ) -> Result<Vec<Vec<Answer>>> {
        let what = "answers of the second model";
        match against {
            Against::Base => self.write(model, None, tasks, seed, what),
            Against::Adapter(folder) => self.write(model, Some(folder), tasks, seed, what),
            Against::Model(name) => {
                let other = Loaded::new(home, name, &model.load)?;
                model.check_tokens(&other, name)?;
                self.write(&other, None, tasks, seed, what)
            }
        }
    }
}

/// A prompt with the first answer of each side and what it is worth.
pub(super) struct Sample {
    prompt: String,
    answers: Vec<(String, f64)>,
}

/// One model's answers, for each prompt, and what they are worth.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) answers: Vec<Vec<Answer>>,
    pub(super) scores: Vec<Vec<f64>>,
}

impl Side {
    fn mean(&self, of: impl Fn(&Answer) -> f64) -> f64 {
        let count = self.answers.iter().map(Vec::len).sum::<usize>().max(1);
        self.answers.iter().flatten().map(of).sum::<f64>() / count as f64
    }

    pub(super) fn score(&self) -> f64 {
        let count = self.scores.iter().map(Vec::len).sum::<usize>().max(1);
        self.scores.iter().flatten().sum::<f64>() / count as f64
    }

    /// Mean tokens of an answer.
    pub(super) fn tokens(&self) -> f64 {
        self.mean(|answer| answer.tokens.len() as f64)
    }

    /// The share of answers that ended by themselves.
    pub(super) fn ended(&self) -> f64 {
        self.mean(|answer| f64::from(u8::from(answer.ended)))
    }
}

/// Some prompts, spread over all.
pub(super) fn samples(model: &Loaded, tasks: &[EncodedTask], sides: &[Side], count: usize) -> Vec<Sample> {
    let text = |tokens: &[u32], control| model.opened.tokenizer.decode(tokens, control).unwrap_or_default();
    let count = count.min(tasks.len());
    let answer = |side: &Side, place: usize| {
        (text(&side.answers[place][0].tokens, ControlText::Hide), side.scores[place][0])
    };
    let sample = |place: usize| Sample {
        prompt: text(&tasks[place].prompt, ControlText::Show),
        answers: sides.iter().map(|side| answer(side, place)).collect(),
    };
    (0..count).map(|number| sample(number * tasks.len() / count)).collect()
}

/// Samples for programs.
pub(super) fn samples_json(samples: &[Sample]) -> serde_json::Value {
    let sample = |sample: &Sample| {
        let answers = sample.answers.iter().map(|(text, score)| json!({ "answer": text, "score": score }));
        json!({ "prompt": sample.prompt, "answers": answers.collect::<Vec<_>>() })
    };
    samples.iter().map(sample).collect()
}

/// Samples for people.
pub(super) fn samples_text(samples: &[Sample]) -> String {
    let mut text = String::new();
    for Sample { prompt, answers } in samples {
        text += &format!("\n--- prompt\n{}\n", shown(prompt.trim()));
        for (name, (answer, score)) in ["first", "second"].into_iter().zip(answers) {
            text += &format!("--- {name} ({score:.3})\n{}\n", shown(answer.trim()));
        }
    }
    text
}

/// How one kind of examples is encoded.
type Encode<T> =
    fn(&Encoder<'_>, &Dataset, &EncodeOptions) -> Result<Encoded<T>, zhenjin_align::data::DataError>;

impl AlignmentArguments {
    /// Threads and instructions.
    pub(super) fn load(&self) -> Result<LoadOptions> {
        let compute = ComputeOptions::resolve(self.simd.as_deref(), self.threads.map(usize::from))?;
        Ok(LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) })
    }

    /// Reads and encodes the examples of `kind`, with `room` tokens left for an answer; what was left out is told.
    pub(super) fn read<T>(
        &self,
        model: &Loaded,
        kind: Kind,
        room: usize,
        encode: Encode<T>,
    ) -> Result<Vec<T>> {
        let bad = self.bad.policy();
        let dataset = Dataset::read(&self.data, &ReadOptions { bad, ..ReadOptions::default() })?;
        let dataset = dataset.for_kind(kind)?;
        let bad_records = dataset.bad.total();
        let dataset = match self.held_out_share {
            Some(share) => {
                let (learnt, held_out) = dataset.split(share, self.held_out_seed)?;
                let note = held_out_note(learnt.examples.len(), held_out.examples.len(), share);
                note.iter().for_each(|note| eprintln!("{note}"));
                held_out
            }
            None => dataset,
        };
        let longest = model.weights.config.context_length;
        let context = self.context.unwrap_or(longest.saturating_sub(room));
        if context.saturating_add(room) > longest {
            bail!(
                "--context {context}: with {room} tokens for answers that is more than the model's {longest}"
            );
        }
        let time = match self.time {
            Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds)
                .with_context(|| format!("--time {seconds} is no time in seconds since 1970"))?,
            None => OffsetDateTime::now_utc(),
        };
        let encoder = match kind {
            Kind::Tasks => Encoder::for_prompts,
            _ => Encoder::new,
        };
        let OpenedModel { tokenizer, template, .. } = &model.opened;
        let encoder = encoder(tokenizer, template.as_ref(), self.thinking.settings(time))?;
        let options = EncodeOptions {
            context,
            overlong: self.overlong.policy(),
            bad,
            learnt: LearntAnswers::All,
            threads: NonZeroUsize::new(model.load.team.threads()).unwrap_or(NonZeroUsize::MIN),
        };
        let encoded = encode(&encoder, &dataset, &options)?;
        let mut text = format!("{} {}", encoded.examples.len(), kind.name());
        for (count, of) in [
            (encoded.counts.too_long, "too long and left out"),
            (bad_records + encoded.bad.total(), "bad and left out"),
        ] {
            if count > 0 {
                text += &format!(", {count} {of}");
            }
        }
        eprintln!("{text}");
        if encoded.examples.is_empty() {
            bail!("there are no examples to measure");
        }
        Ok(encoded.examples)
    }

    /// Writes results where they were asked for; `table` is for people.
    pub(super) fn tell(&self, found: &serde_json::Value, table: &str) -> Result<()> {
        if let Some(path) = &self.save {
            zhenjin_files::write_whole(path, &[format!("{found:#}\n").as_bytes()])?;
        }
        match self.json {
            true => println!("{found:#}"),
            false => print!("{table}"),
        }
        Ok(())
    }
}

/// What a model is compared with.
pub(super) enum Against {
    /// The model itself, without an adapter.
    Base,
    /// An adapter to it.
    Adapter(PathBuf),
    /// Another model.
    Model(OsString),
}

impl Against {
    /// `base`, the folder of an adapter, or a model.
    pub(super) fn new(name: &OsStr) -> Against {
        match Path::new(name).join("adapter_config.json").is_file() {
            _ if name == "base" => Against::Base,
            true => Against::Adapter(PathBuf::from(name)),
            false => Against::Model(name.to_owned()),
        }
    }
}

/// Says how far a long computation is, ten times.
pub(super) fn tenths(what: &'static str, all: usize) -> impl FnMut(usize) {
    let mut told = 0;
    move |done| {
        let tenth = done * 10 / all.max(1);
        if tenth > told {
            told = tenth;
            eprintln!("{what}: {done} of {all}");
        }
    }
}
