//! The models that draft for served ones: which belong together, whether their tokens do, and what a draft model takes and computes with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zhenjin_hub::OpenedModel;
use zhenjin_model::{
    LoadOptions, MemoryEstimate, MemoryPlan, Model, ModelError, ModelFile, Runner, RunnerOptions,
    ServingLimits,
};
use zhenjin_tensor::ThreadTeam;
use zhenjin_tokenizer::common_tokens;

use super::{ServeOptions, ServedModels};
use crate::embedder::Embedder;
use crate::error::AssistantError;

/// The most answers that are drafted at once: with more, a step of the model has no rows to spare.
const DRAFTED_AT_ONCE: usize = 8;
/// The most known tokens that a draft model computes in one step.
const KNOWN_ROWS: usize = 256;

/// A model that guesses how the answers of a served one go on. It changes how fast they come, never an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftSpec {
    /// The served model's name.
    pub model: String,
    /// The draft model's GGUF file or Hugging Face folder. Its tokenizer has to be the served one's.
    pub path: PathBuf,
}

/// A draft model's files, found to fit.
pub(super) struct OpenedDraft {
    file: ModelFile,
    /// Token ids that both models have.
    tokens: usize,
}

impl ServeOptions {
    /// Opens the draft model of the served model `name`, whose files are `opened`, if it has one.
    ///
    /// # Errors
    /// A reason that names the draft model's files: they cannot be read, or have another tokenizer.
    pub(super) fn open_draft(&self, name: &str, opened: &OpenedModel) -> Result<Option<OpenedDraft>, String> {
        let Some(spec) = self.drafts.iter().find(|spec| spec.model == name) else { return Ok(None) };
        let shown = spec.path.display();
        if Embedder::is_at(&spec.path) {
            return Err(format!("its draft model {shown} is an embedding model, which writes no text"));
        }
        let draft =
            zhenjin_hub::open(&spec.path).map_err(|error| format!("its draft model {shown}: {error}"))?;
        let tokens =
            common_tokens(("model's", &opened.tokenizer), ("draft model's", &draft.tokenizer)).map_err(|difference| {
                format!("its draft model {shown} has another tokenizer, so it would guess other tokens: {difference}")
            })?;
        if is_same(&spec.path, opened.file.path()) {
            tracing::warn!(
                model = name,
                "the draft model is the model itself: every guess costs as much as what it saves, so it will be left alone"
            );
        }
        Ok(Some(OpenedDraft { file: draft.file, tokens }))
    }

    fn draft_limits(&self) -> ServingLimits {
        ServingLimits {
            max_batch: DRAFTED_AT_ONCE,
            max_rows: KNOWN_ROWS,
            max_logits_rows: DRAFTED_AT_ONCE,
            tokenizer_bytes_per_token: 0,
            ..self.limits()
        }
    }

    /// The memory that the model in `file` takes with its draft model.
    ///
    /// # Errors
    /// As [`ModelFile::memory_estimate`].
    pub(super) fn drafted_memory_estimate(
        &self,
        file: &ModelFile,
        draft: Option<&OpenedDraft>,
    ) -> Result<MemoryEstimate, ModelError> {
        let alone = self.memory_estimate(file)?;
        let Some(draft) = draft else { return Ok(alone) };
        Ok(alone.with_draft(&draft.file.memory_estimate(&self.draft_limits())?, DRAFTED_AT_ONCE))
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().ok();
    one == other || canonical(one).is_some_and(|one| Some(one) == canonical(other))
}

impl OpenedDraft {
    /// Loads the draft model, with the memory that `plan` has for it.
    ///
    /// # Errors
    /// As [`Model::from_source`] and [`Runner::new`].
    pub(super) fn load(
        self,
        options: &ServeOptions,
        team: &Arc<ThreadTeam>,
        plan: &MemoryPlan,
    ) -> Result<Runner, ModelError> {
        let (simd, limits) = (options.compute.simd, options.draft_limits());
        let config = self.file.config().clone();
        let context_length = Some(plan.context.min(config.context_length));
        let load_options = LoadOptions { simd, team: Arc::clone(team) };
        let kv_dtype = self.file.kv_dtype(options.kv_cache_dtype)?;
        let model = Model::from_source(config, &self.file, &load_options)?;
        let runner_options = RunnerOptions {
            pages: plan.draft_pages,
            kv_dtype,
            max_rows: limits.max_rows,
            max_logits_rows: limits.max_logits_rows,
            context_length,
            usable_vocabulary: Some(self.tokens),
            simd,
            team: Arc::clone(team),
        };
        Runner::new(Arc::new(model), runner_options)
    }
}

impl ServedModels {
    /// Whether each draft model belongs to a served model that writes, and has its tokenizer; loading a model checks its own again.
    ///
    /// # Errors
    /// [`AssistantError::UnknownModel`], [`AssistantError::Invalid`] for a model with two or one that writes nothing,
    /// [`AssistantError::Load`] for files that cannot be read or do not fit.
    pub fn check_drafts(&self) -> Result<(), AssistantError> {
        let options = self.options();
        for (index, spec) in options.drafts.iter().enumerate() {
            let name = &spec.model;
            if options.drafts[..index].iter().any(|other| other.model == *name) {
                return Err(AssistantError::invalid(
                    "draft",
                    format!("the model `{name}` has two draft models"),
                ));
            }
            let (entry, known) = {
                let state = self.shared.lock();
                state.check_writes(name)?;
                let entry = state.entries.iter().find(|entry| entry.spec.name == *name);
                (entry.map(|entry| entry.spec.path.clone()), state.names())
            };
            let path = entry.ok_or_else(|| AssistantError::UnknownModel { name: name.clone(), known })?;
            let failed = |reason| AssistantError::Load { name: name.clone(), reason };
            let opened = zhenjin_hub::open(&path).map_err(|error| failed(error.to_string()))?;
            options.open_draft(name, &opened).map_err(failed)?;
        }
        Ok(())
    }
}
