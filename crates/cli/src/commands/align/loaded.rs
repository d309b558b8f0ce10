//! A model in memory whose answers and probabilities are measured.

use super::reward_models::has_same_tokens;
use super::{open, open_reward_model};
use crate::home::Home;
use crate::machine;
use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use zhenjin_align::configuration::RolloutSection;
use zhenjin_align::evaluation::{RewardModel, Scorer};
use zhenjin_align::rollouts::{RolloutOptions, Rollouts};
use zhenjin_hub::OpenedModel;
use zhenjin_model::{Adapter, LoadOptions, Model};
use zhenjin_tensor::KvDtype;

/// A model in memory.
pub(crate) struct Loaded {
    pub(crate) opened: OpenedModel,
    pub(crate) weights: Arc<Model>,
    pub(crate) load: LoadOptions,
}

impl Loaded {
    /// A model by its name or path, in the type of its file.
    pub(crate) fn new(home: &Home, name: &OsStr, load: &LoadOptions) -> Result<Loaded> {
        let opened = open(home, name)?;
        let config = opened.file.config().clone();
        let weights = Model::from_source(config, &opened.file, load)?;
        Ok(Loaded { opened, weights: Arc::new(weights), load: load.clone() })
    }

    /// Tokens that the tokenizer has, of those that the model has.
    pub(crate) fn usable_vocabulary(&self) -> usize {
        self.opened.tokenizer.vocabulary_size().min(self.weights.config.vocabulary_size)
    }

    /// A reward model that judges this model's answers: an adapter to these weights, or weights of its own.
    pub(crate) fn reward_model(&self, folder: &Path) -> Result<RewardModel> {
        open_reward_model(folder, &self.opened, &self.weights, &self.load)
    }

    pub(crate) fn scorer(&self) -> Result<Scorer> {
        Ok(Scorer::new(Arc::clone(&self.weights), self.load.clone(), self.usable_vocabulary())?)
    }

    /// An adapter to these weights.
    pub(crate) fn adapter(&self, folder: &Path) -> Result<Arc<Adapter>> {
        let values = machine::open_adapter(folder, &self.opened.file)?;
        Ok(Arc::new(values.pack(self.load.simd, &self.load.team)?))
    }

    /// An engine that writes answers, with keys and values in f32: the log-probabilities that training has.
    pub(crate) fn rollouts(&self, section: RolloutSection) -> Rollouts {
        Rollouts::new(self.rollout_options(section))
    }

    pub(crate) fn rollout_options(&self, section: RolloutSection) -> RolloutOptions {
        RolloutOptions {
            section,
            stop_tokens: self.opened.tokenizer.end_of_turn().to_vec(),
            usable_vocabulary: self.usable_vocabulary(),
            kv_dtype: KvDtype::F32,
            team: Arc::clone(&self.load.team),
        }
    }

    /// Refuses another model whose tokens are not this one's.
    pub(crate) fn check_tokens(&self, other: &Loaded, name: &OsStr) -> Result<()> {
        if !has_same_tokens(&self.opened.tokenizer, &other.opened.tokenizer) {
            bail!("{} has another tokenizer, so its numbers are of other tokens", name.display());
        }
        Ok(())
    }
}
