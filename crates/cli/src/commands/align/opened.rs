//! The model that learns, as all methods need it.

use super::AlignArguments;
use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, TuningKind, TuningSection};
use zhenjin_align::trainee::{Trainee, TraineeOptions, VALUES_FILE, read_values};
use zhenjin_hub::{ModelStore, OpenedModel};
use zhenjin_model::{AdapterValues, LoadOptions, Model};

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
        let file = &self.model.file;
        let config = file.config().clone();
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
        let trainee =
            Trainee::new(self.weights(is_full || arguments.f32)?, adapter.as_ref(), values, options)?;
        Ok(match is_full && needs_reference {
            true => trainee.with_reference(self.weights(true)?),
            false => trainee,
        })
    }

    pub(super) fn adapter(&self, path: &Path) -> Result<AdapterValues> {
        AdapterValues::open(path, self.model.file.config())
            .with_context(|| format!("opening the adapter {}", path.display()))
    }

    /// A reward model: an adapter (or none) and the head of a checkpoint of `zhenjin reward`.
    pub(super) fn reward_model(
        &self,
        arguments: &AlignArguments,
        configuration: &Configuration,
        folder: &Path,
    ) -> Result<Trainee> {
        let head = folder.join(VALUES_FILE);
        if !head.is_file() {
            bail!("{} is no checkpoint of `zhenjin reward`: it has no {VALUES_FILE}", folder.display());
        }
        let values = read_values(&head)?;
        let has_adapter = folder.join("adapter_config.json").is_file();
        let mut tuning = configuration.tuning;
        let (model, adapter) = match has_adapter {
            true => {
                tuning.kind = TuningKind::Lora;
                tuning.rank = tuning.rank.max(1);
                (self.weights(arguments.f32 || arguments.full)?, Some(self.adapter(folder)?))
            }
            false => {
                let file = zhenjin_model::ModelFile::open(folder)?;
                tuning.kind = TuningKind::Full;
                (Arc::new(Model::from_source(file.config().clone(), &file, &self.load)?), None)
            }
        };
        let options = self.options(arguments, configuration, tuning, Vec::new());
        Ok(Trainee::new(model, adapter.as_ref(), Some(values), options)?)
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
            companions,
        }
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
