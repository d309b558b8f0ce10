//! The model that learns, as all methods need it.

use super::AlignArguments;
use super::continued::Continued;
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, TuningKind, TuningSection};
use zhenjin_align::data::ExamplesFolder;
use zhenjin_align::trainee::{RewardFiles, RewardWeights, Trainee, TraineeOptions};
use zhenjin_hub::{ModelStore, OpenedModel};
use zhenjin_model::write::{config_json, reward_config_json};
use zhenjin_model::{AdapterValues, LoadOptions, Model, ModelConfig};

/// A model's file, tokenizer and template, and how it is computed.
pub(super) struct Opened {
    pub(super) model: OpenedModel,
    pub(super) load: LoadOptions,
    /// Tokens that the tokenizer has, of those that the model has.
    pub(super) usable_vocabulary: usize,
    /// Most tokens of an example, its answer included.
    pub(super) longest: usize,
    /// Where the tokens of examples are kept for later runs, if they are.
    pub(super) kept_examples: Option<ExamplesFolder>,
    /// The adapter that is trained further, if one is.
    pub(super) continued: Option<Continued>,
}

impl Opened {
    pub(super) fn new(home: &Home, arguments: &AlignArguments) -> Result<Opened> {
        let compute = super::compute(arguments)?;
        let load = LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) };
        let model = open(home, &arguments.model)?;
        let config = model.file.config();
        let usable_vocabulary = model.tokenizer.vocabulary_size().min(config.vocabulary_size);
        let longest = config.context_length;
        let kept_examples = (!arguments.no_kept_examples).then(|| ExamplesFolder::new(&home.examples()));
        let open = |path: &PathBuf| machine::open_adapter(path, &model.file);
        let continued = arguments.adapter.as_ref().map(open).transpose()?.as_ref().map(Continued::of);
        Ok(Opened { usable_vocabulary, longest, kept_examples, continued, model, load })
    }

    /// The tokens that end an answer.
    pub(super) fn stop_tokens(&self) -> Vec<u32> {
        self.model.tokenizer.end_of_turn().to_vec()
    }

    /// The weights in memory, in f32 where they are to be changed or the caller wants it.
    pub(super) fn weights(&self, in_f32: bool) -> Result<Arc<Model>> {
        self.weights_as(self.model.file.config().clone(), in_f32)
    }

    fn weights_as(&self, config: ModelConfig, in_f32: bool) -> Result<Arc<Model>> {
        let file = &self.model.file;
        let model = match in_f32 {
            true => Model::from_source_in_f32(config, file, &self.load),
            false => Model::from_source(config, file, &self.load),
        };
        Ok(Arc::new(model?))
    }

    /// The model before its first update. `needs_reference` keeps the weights that full training begins with; `head` makes values of it.
    pub(super) fn trainee(
        &self,
        arguments: &AlignArguments,
        configuration: &Configuration,
        needs_reference: bool,
        head: Option<NewHead>,
    ) -> Result<Trainee> {
        let is_full = configuration.tuning.kind == TuningKind::Full;
        let adapter = arguments.adapter.as_deref().map(|path| self.adapter(path)).transpose()?;
        let padding = head.as_ref().and_then(|head| head.padding);
        let values = head.map(|head| head.values);
        let companions = if is_full { self.companions(padding)? } else { Vec::new() };
        let options = self.options(arguments, configuration, configuration.tuning, companions);
        let options = TraineeOptions { padding_token: padding, ..options };
        let mut config = self.model.file.config().clone();
        // A model that gives values has no head for tokens, which would learn nothing.
        config.tied_embeddings |= is_full && values.is_some();
        if is_full {
            check_checkpoints_can_say(&config, padding, values.is_some())?;
        }
        let weights = self.weights_as(config, is_full || arguments.f32)?;
        let trainee = Trainee::new(weights, adapter.as_ref(), values, options)?;
        Ok(match is_full && needs_reference {
            true => trainee.with_reference(self.weights(true)?),
            false => trainee,
        })
    }

    /// The adapter that is trained further, of which everything was said when it was looked at.
    fn adapter(&self, path: &Path) -> Result<AdapterValues> {
        AdapterValues::open(path, self.model.file.config())
            .with_context(|| format!("opening the adapter {}", path.display()))
    }

    /// A critic that begins as a reward model. Where that was trained on another model, it is said when its rewards are opened.
    pub(super) fn critic_of(
        &self,
        arguments: &AlignArguments,
        configuration: &Configuration,
        folder: &Path,
    ) -> Result<Trainee> {
        let RewardFiles { weights, head } = RewardFiles::open(folder, self.model.file.config())?;
        let mut tuning = configuration.tuning;
        let (model, adapter) = match weights {
            RewardWeights::Adapter(values) => {
                tuning.kind = TuningKind::Lora;
                tuning.rank = tuning.rank.max(1);
                let in_f32 = arguments.f32 || configuration.tuning.kind == TuningKind::Full;
                (self.weights(in_f32)?, Some(values))
            }
            RewardWeights::Whole(file) => {
                tuning.kind = TuningKind::Full;
                let model = Model::from_source_in_f32(file.config().clone(), &*file, &self.load)?;
                (Arc::new(model), None)
            }
        };
        let options = self.options(arguments, configuration, tuning, Vec::new());
        Ok(Trainee::new(model, adapter.as_ref(), Some(head.weight), options)?)
    }

    pub(super) fn options(
        &self,
        arguments: &AlignArguments,
        configuration: &Configuration,
        tuning: TuningSection,
        companions: Vec<(String, Vec<u8>)>,
    ) -> TraineeOptions {
        TraineeOptions {
            tuning,
            optimiser: configuration.optimiser.clone(),
            seed: configuration.seed,
            load: self.load.clone(),
            usable_vocabulary: self.usable_vocabulary,
            recomputed_layers: if arguments.recompute { usize::MAX } else { 0 },
            base_name: arguments.model.to_string_lossy().into_owned(),
            padding_token: None,
            companions,
        }
    }

    /// A token for padding that is not among `used`: the file's own, as few chat models have one that ends their turns too; else another special
    /// one; else one that ends no turn.
    pub(super) fn padding_token(&self, used: &BTreeSet<u32>) -> Option<u32> {
        let tokenizer = &self.model.tokenizer;
        let special = || tokenizer.special_ids().filter(|id| Some(*id) != tokenizer.bos());
        let is_free = |id: &u32| !used.contains(id);
        let unused = self.model.file.padding_token().into_iter().chain(special()).find(is_free);
        let ends_turns = |id: &u32| tokenizer.end_of_turn().contains(id);
        unused.or_else(|| special().chain(tokenizer.bos()).find(|id| !ends_turns(id)))
    }

    /// The tokenizer's files beside whole weights, so that a checkpoint is a model that can be served. They name the token for padding that the
    /// configuration names: `transformers` pads with the one, and looks for the last token that is not the other.
    fn companions(&self, padding: Option<u32>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = zhenjin_hub::tokenizer_files(&self.model)?;
        let name = padding.and_then(|id| self.model.tokenizer.token_bytes(id));
        let Some(name) = name.and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return Ok(files) };
        for (file, contents) in files.iter_mut().filter(|(file, _)| file == TOKENIZER_CONFIG) {
            let mut settings: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(contents).with_context(|| format!("reading the model's {file}"))?;
            settings.insert("pad_token".to_owned(), name.into());
            *contents = serde_json::to_vec_pretty(&settings)?;
        }
        Ok(files)
    }
}

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The head of a model that is to give values.
pub(super) struct NewHead {
    /// Its weights.
    pub(super) values: Vec<f32>,
    /// The token that the model's files name for padding, where there will be files.
    pub(super) padding: Option<u32>,
}

impl NewHead {
    /// One that says of all texts that they are worth the same.
    pub(super) fn of_zeros(config: &ModelConfig, padding: Option<u32>) -> NewHead {
        NewHead { values: vec![0.0; config.hidden_size], padding }
    }
}

/// A model's file, tokenizer and template.
pub(super) fn open(home: &Home, model: &OsStr) -> Result<OpenedModel> {
    let local = machine::resolve(&ModelStore::new(home.models()), model)?;
    let opened = zhenjin_hub::open(&local.path)?;
    opened.warnings.iter().for_each(|warning| eprintln!("{}: {warning}", local.path.display()));
    Ok(opened)
}
/// Refuses a model that no `config.json` can describe before it learns, instead of when its first checkpoint is written.
fn check_checkpoints_can_say(config: &ModelConfig, padding: Option<u32>, gives_values: bool) -> Result<()> {
    let said = if gives_values { reward_config_json(config, padding) } else { config_json(config) };
    said.map(drop).context(
        "all weights of this model cannot be trained, as no checkpoint could be written; train an adapter, or begin with the model's Hugging Face folder",
    )
}

#[cfg(test)]
mod tests {
    use zhenjin_model::config::{RopeConfig, RopeScaling};
    use zhenjin_model::testing::tiny_config;

    use super::*;

    /// Regression: a run in all weights of a GGUF file whose RoPE no `config.json` can say was lost when it ended.
    #[test]
    fn all_weights_of_a_model_that_no_checkpoint_can_describe_are_not_trained() {
        let config = tiny_config();
        for gives_values in [false, true] {
            assert!(check_checkpoints_can_say(&config, None, gives_values).is_ok());
            let scaling = RopeScaling::Divisors(vec![1.0; config.rope.rotary_dim / 2]);
            let divided =
                ModelConfig { rope: RopeConfig { scaling, ..config.rope.clone() }, ..config.clone() };
            let error = check_checkpoints_can_say(&divided, None, gives_values).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains("train an adapter") && text.contains("rope_freqs.weight"), "{text}");
        }
    }
}
