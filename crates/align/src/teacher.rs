//! The model that another one learns from: its logits, some rows at a time.

use std::sync::Arc;
use std::time::Instant;

use zhenjin_model::{
    Adapter, AdapterValues, Learned, Learner, LearnerOptions, LoadOptions, Model, TargetLogits,
};

use crate::error::AlignError;
use crate::packed::Packed;

/// A model that only computes. Its weights can be of any type that serves.
#[derive(Debug)]
pub struct Teacher {
    model: Arc<Model>,
    adapter: Option<Adapter>,
    learner: Learner,
}

impl Teacher {
    /// A teacher with these weights. `tokens` are those that both tokenizers have ([`zhenjin_tokenizer::common_tokens`]).
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn new(
        model: Arc<Model>,
        adapter: Option<&AdapterValues>,
        load: &LoadOptions,
        tokens: usize,
    ) -> Result<Teacher, AlignError> {
        let options = LearnerOptions { load: load.clone(), recompute: false };
        let learner =
            Learner::new(&model.config, options)?.with_usable_vocabulary(tokens).with_shared_beginnings();
        let adapter = adapter.map(|values| values.pack(load.simd, &load.team)).transpose()?;
        Ok(Teacher { model, adapter, learner })
    }

    /// Changes with its weights and its adapter.
    pub fn fingerprint(&self) -> String {
        let adapter = self.adapter.as_ref().map(|adapter| format!(" + {}", adapter.fingerprint()));
        format!("{}{}", self.model.fingerprint, adapter.unwrap_or_default())
    }

    /// Operations of a forward pass for each token.
    pub fn flops_per_token(&self) -> f64 {
        2.0 * self.model.config.parameters() as f64
    }

    /// Seconds for a row of a pass over `rows` rows with its head. For plans; nothing changes.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub fn pace(&mut self, rows: usize) -> Result<f64, AlignError> {
        let config = &self.model.config;
        let rows = rows.clamp(2, config.context_length.max(2));
        let tokens: Vec<u32> = (0..rows).map(|row| (row * 7 % config.vocabulary_size) as u32).collect();
        let mut packed = Packed::default();
        packed.push_answer(&tokens[..1], &tokens[1..]);
        let mut seconds = 0.0;
        // The first round takes memory from the system and does not count.
        for _ in 0..2 {
            let begun = Instant::now();
            let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_ref());
            self.learner.score(learned, &packed.batch())?;
            seconds = begun.elapsed().as_secs_f64() / rows as f64;
        }
        Ok(seconds)
    }

    /// The logits of the rows that have a target.
    ///
    /// # Errors
    /// [`AlignError::Model`].
    pub(crate) fn logits(&mut self, packed: &Packed) -> Result<TargetLogits<'_>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_ref());
        Ok(self.learner.target_logits(learned, &packed.batch())?)
    }
}
