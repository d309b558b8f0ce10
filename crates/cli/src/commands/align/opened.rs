//! The model that learns, as all methods need it.

use super::AlignArguments;
use crate::home::Home;
use crate::machine;
use anyhow::Result;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, TuningKind, TuningSection};
use zhenjin_align::trainee::{RewardFiles, RewardWeights, Trainee, TraineeOptions};
use zhenjin_hub::{ModelStore, OpenedModel};
use zhenjin_model::{AdapterValues, LoadOptions, Model, ModelConfig};

/// A model's file, tokenizer and template, and how it is computed.
pub(super) struct Opened {
    pub(super) model: OpenedModel,
    pub(super) load: LoadOptions,
    /// Tokens that the tokenizer has, of those that the model has.
    pub(super) usable_vocabulary: usize,
    /// Most tokens of an example, its answer included.
    pub(super) longest: usize,
}

impl Opened {
    pub(super) fn new(home: &Home, arguments: &AlignArguments) -> Result<Opened> {
        let compute = super::compute(arguments)?;
        let load = LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) };
        let model = open(home, &arguments.model)?;
        let config = model.file.config();
        let usable_vocabulary = model.tokenizer.vocabulary_size().min(config.vocabulary_size);
        Ok(Opened { usable_vocabulary, longest: config.context_length, model, load })
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

    /// The model before its first update. `needs_reference` keeps the weights that full training begins with.
    pub(super) fn trainee(
        &self,
        arguments: &AlignArguments,
        configuration: &Configuration,
        needs_reference: bool,
        values: Option<Vec<f32>>,
    ) -> Result<Trainee> {
        let is_full = configuration.tuning.kind == TuningKind::Full;
        let adapter = arguments.adapter.as_deref().map(|path| self.adapter(path)).transpose()?;
        let companions = if is_full { self.companions()? } else { Vec::new() };
        let options = self.options(arguments, configuration, configuration.tuning, companions);
        let mut config = self.model.file.config().clone();
        // A model that gives values has no head for tokens, which would learn nothing.
        config.tied_embeddings |= is_full && values.is_some();
        let weights = self.weights_as(config, is_full || arguments.f32)?;
        let trainee = Trainee::new(weights, adapter.as_ref(), values, options)?;
        Ok(match is_full && needs_reference {
            true => trainee.with_reference(self.weights(true)?),
            false => trainee,
        })
    }

    pub(super) fn adapter(&self, path: &Path) -> Result<AdapterValues> {
        machine::open_adapter(path, &self.model.file)
    }

    /// A critic that begins as a reward model.
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
                (self.weights(arguments.f32 || arguments.full)?, Some(values))
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

    fn options(
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
            padding_token: self.padding_token(),
            companions,
        }
    }

    /// A token that ends no text: the file's own for padding, unless it ends turns, as that of many chat models does; else another special one.
    fn padding_token(&self) -> Option<u32> {
        let tokenizer = &self.model.tokenizer;
        let special = tokenizer.special_ids().filter(|id| Some(*id) != tokenizer.bos());
        let candidates = self.model.file.padding_token().into_iter().chain(special).chain(tokenizer.bos());
        let ends_turns = |id: &u32| tokenizer.end_of_turn().contains(id);
        candidates.into_iter().find(|id| !ends_turns(id))
    }

    /// The tokenizer's files beside whole weights, so that a checkpoint is a model that can be served.
    fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(zhenjin_hub::tokenizer_files(&self.model)?)
    }
}

/// A model's file, tokenizer and template.
pub(super) fn open(home: &Home, model: &OsStr) -> Result<OpenedModel> {
    let local = machine::resolve(&ModelStore::new(home.models()), model)?;
    let opened = zhenjin_hub::open(&local.path)?;
    opened.warnings.iter().for_each(|warning| eprintln!("{}: {warning}", local.path.display()));
    Ok(opened)
}
