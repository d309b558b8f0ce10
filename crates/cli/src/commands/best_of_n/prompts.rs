//! The prompts: read, encoded, and what was left out told.

use crate::commands::align::Loaded;
use crate::commands::data::ThinkingOption;
use crate::text::shown;
use anyhow::{Context, Result, bail};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use time::OffsetDateTime;
use zhenjin_align::data::{
    BadPolicy, Body, Dataset, EncodeOptions, EncodedTask, Encoder, Kind, LearntAnswers, Overlong,
    PromptSettings, ReadOptions, Task,
};
use zhenjin_hub::OpenedModel;

/// Prompts as messages and as tokens.
pub(crate) struct Prompts {
    pub(crate) tasks: Vec<Task>,
    pub(crate) encoded: Vec<EncodedTask>,
    pub(crate) settings: PromptSettings,
    /// Of all their tokens.
    pub(crate) fingerprint: String,
    /// What templates show, in seconds since 1970.
    pub(crate) time: i64,
}

/// How prompts are read.
pub(crate) struct ReadPrompts<'a> {
    pub(crate) data: &'a [PathBuf],
    pub(crate) bad: BadPolicy,
    pub(crate) overlong: Overlong,
    pub(crate) context: Option<usize>,
    /// Tokens that are left for an answer.
    pub(crate) room: usize,
    pub(crate) most: Option<usize>,
    /// The time that templates show [default: now].
    pub(crate) time: Option<i64>,
    pub(crate) thinking: ThinkingOption,
}

impl ReadPrompts<'_> {
    /// The prompts, for this model.
    pub(crate) fn prompts(&self, model: &Loaded) -> Result<Prompts> {
        let (bad, room) = (self.bad, self.room);
        let mut dataset = Dataset::read(self.data, &ReadOptions { bad, ..ReadOptions::default() })?
            .for_kind(Kind::Tasks)?;
        dataset.examples.truncate(self.most.unwrap_or(usize::MAX));
        let longest = model.weights.config.context_length;
        let context = self.context.unwrap_or(longest.saturating_sub(room));
        if context == 0 || context.saturating_add(room) > longest {
            bail!(
                "prompts of {context} tokens with answers of {room} (--max-tokens) are more than the model's {longest}"
            );
        }
        let time = self.time.unwrap_or_else(|| OffsetDateTime::now_utc().unix_timestamp());
        let now = OffsetDateTime::from_unix_timestamp(time)
            .with_context(|| format!("{time} is no time in seconds since 1970"))?;
        let settings = self.thinking.settings(now);
        let OpenedModel { tokenizer, template, .. } = &model.opened;
        let encoder = Encoder::for_prompts(tokenizer, template.as_ref(), settings.clone())?;
        let options = EncodeOptions {
            context,
            overlong: self.overlong,
            bad,
            learnt: LearntAnswers::All,
            threads: NonZeroUsize::new(model.load.team.threads()).unwrap_or(NonZeroUsize::MIN),
        };
        let encoded = encoder.encode_tasks(&dataset, &options)?;
        let fingerprint = encoded.fingerprint();
        let mut text = format!("{} prompts", encoded.examples.len());
        for (count, of) in [
            (encoded.counts.too_long, "too long and left out"),
            (dataset.bad.total() + encoded.bad.total(), "bad and left out"),
        ] {
            if count > 0 {
                text += &format!(", {count} {of}");
            }
        }
        eprintln!("{text}");
        dataset.notes.iter().for_each(|(note, count)| eprintln!("{count} {}", shown(note)));
        if encoded.examples.is_empty() {
            bail!("there are no prompts to answer");
        }
        let task = |source: &usize| match dataset.examples.get(*source).map(|example| &example.body) {
            Some(Body::Task(task)) => Some(task.clone()),
            _ => None,
        };
        let tasks: Option<Vec<Task>> = encoded.sources.iter().map(task).collect();
        let tasks = tasks.context("a prompt that is none")?;
        Ok(Prompts { tasks, encoded: encoded.examples, settings, fingerprint, time })
    }
}
