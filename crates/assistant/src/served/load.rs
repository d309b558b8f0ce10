//! Loads one model into an assistant; asks for memory before it takes any.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use zhenjin_conversation::{ConversationStyle, ToolStyle};
use zhenjin_engine::{Engine, EngineOptions, Sampling, StartError, StepModel};
use zhenjin_hub::GenerationDefaults;
use zhenjin_model::{
    Fingerprint, LoadOptions, MemoryEstimate, MemoryPlan, Model, ModelFile, Runner, RunnerOptions,
};
use zhenjin_tensor::{KvDtype, ThreadTeam};

use super::memory::PREFILL_ROWS;
use super::{ModelSpec, ServeOptions};
use crate::assistant::{Assistant, AssistantInfo, LoadedModel, system_fingerprint};
use crate::embedder::Embedder;
use crate::error::AssistantError;

/// Loads the model of `spec` with the memory that `reserve` grants.
///
/// # Errors
/// Those of `reserve`, and [`AssistantError::Load`] with the file and the place in it.
pub(super) fn load(
    spec: &ModelSpec,
    options: &ServeOptions,
    team: &Arc<ThreadTeam>,
    reserve: impl FnOnce(MemoryEstimate) -> Result<MemoryPlan, AssistantError>,
) -> Result<Assistant, AssistantError> {
    let failed = |reason: String| AssistantError::Load { name: spec.name.clone(), reason };
    let begun = Instant::now();
    let opened = zhenjin_hub::open(&spec.path).map_err(|error| failed(error.to_string()))?;
    let config = opened.file.config().clone();
    let draft = options.open_draft(&spec.name, &opened).map_err(failed)?;
    let estimate = options
        .drafted_memory_estimate(&opened.file, draft.as_ref())
        .map_err(|error| failed(error.to_string()))?;
    let kv_dtype = estimate.kv_dtype;
    let plan = reserve(estimate)?;
    for setting in opened.file.unread_settings() {
        tracing::warn!(model = %spec.name, "a setting of the model's file has no meaning here: {setting}");
    }
    for warning in &opened.warnings {
        tracing::warn!(model = %spec.name, "{warning}");
    }
    warn_of_short_context(&spec.name, plan.context, config.context_length, options);

    let simd = options.compute.simd;
    let load_options = LoadOptions { simd, team: Arc::clone(team) };
    let model = Model::from_source(config.clone(), &opened.file, &load_options)
        .map_err(|error| failed(error.to_string()))?;
    let limits = options.limits();
    let fingerprint = fingerprint(&model, kv_dtype);
    let runner_options = RunnerOptions {
        pages: plan.pages,
        kv_dtype,
        max_rows: limits.max_rows,
        max_logits_rows: limits.max_logits_rows,
        context_length: Some(plan.context),
        usable_vocabulary: Some(opened.tokenizer.vocabulary_size()),
        simd,
        team: Arc::clone(team),
    };
    let runner = Runner::new(Arc::new(model), runner_options).map_err(|error| failed(error.to_string()))?;
    let draft = draft.map(|draft| draft.load(options, team, &plan)).transpose();
    let draft = draft.map_err(|error| failed(format!("its draft model: {error}")))?;
    let engine = start(spec, options, runner, draft).map_err(|error| failed(error.to_string()))?;

    let style = ConversationStyle::of(opened.template.as_ref(), &opened.tokenizer);
    let info = AssistantInfo {
        name: spec.name.clone(),
        architecture: config.architecture.clone(),
        context_length: plan.context,
        memory_bytes: plan.bytes,
        has_template: opened.template.is_some(),
        template_knows_tools: matches!(style.tools, ToolStyle::Template(_) | ToolStyle::Instructions(_)),
        thinking: style.thinking.support(),
        fingerprint,
    };
    tracing::info!(
        model = %spec.name,
        seconds = begun.elapsed().as_secs_f64(),
        memory_bytes = plan.bytes,
        context = plan.context,
        capacity_tokens = engine.capacity_tokens(),
        draft_pages = plan.draft_pages,
        "model loaded"
    );
    let model = LoadedModel {
        info,
        tokenizer: opened.tokenizer,
        template: opened.template,
        style,
        default_sampling: default_sampling(&opened.generation_defaults),
        repetition_detection: options.repetition_detection,
        engine,
        leases: crate::lease::Leases::default(),
        format_compiler: OnceLock::new(),
    };
    Ok(Assistant::new(model))
}

impl ModelSpec {
    /// Refuses what is no model, or none that is known here, by the headers of its files, and an embedder that does not say how it makes vectors.
    /// The weights, and the tokenizer of a model that writes, are first read when it is loaded.
    ///
    /// # Errors
    /// [`AssistantError::Load`] with the file and what is wrong with it.
    pub fn check(&self) -> Result<(), AssistantError> {
        let opened = if Embedder::is_at(&self.path) {
            Embedder::check(&self.path).map_err(|error| error.to_string())
        } else {
            ModelFile::open(&self.path).map(drop).map_err(|error| error.to_string())
        };
        opened.map_err(|reason| AssistantError::Load { name: self.name.clone(), reason })
    }
}

/// The engine of a loaded model, with its draft model if it has one.
fn start(
    spec: &ModelSpec,
    options: &ServeOptions,
    runner: Runner,
    draft: Option<Runner>,
) -> Result<Engine, StartError> {
    let engine_options = EngineOptions {
        max_batch: options.max_batch,
        prefill_chunk: PREFILL_ROWS,
        queue_limit: options.queue_limit,
        speculation: options.speculation,
        simd: options.compute.simd,
        observer: options.observer.as_ref().map(|observer| observer(&spec.name)),
        ..EngineOptions::default()
    };
    let draft = draft.map(|runner| Box::new(runner) as Box<dyn StepModel>);
    Engine::start_with_draft_model(Box::new(runner), draft, engine_options)
}

impl super::Shared {
    /// Refuses files that could never be loaded here: they cannot be read, or even a short context does not fit into the limit.
    ///
    /// # Errors
    /// [`AssistantError::Load`], [`AssistantError::OutOfMemory`].
    pub(super) fn check_loadable(&self, name: &str, path: &std::path::Path) -> Result<(), AssistantError> {
        let failed = |reason: String| AssistantError::Load { name: name.to_owned(), reason };
        let opened = zhenjin_hub::open(path).map_err(|error| failed(error.to_string()))?;
        let draft = self.options.open_draft(name, &opened).map_err(failed)?;
        let estimate = self.options.drafted_memory_estimate(&opened.file, draft.as_ref());
        let estimate = estimate.map_err(|error| failed(error.to_string()))?;
        self.expect_within_limit(name, &estimate)
    }

    /// As [`Shared::check_loadable`](super::Shared::check_loadable), of an embedder.
    pub(super) fn check_loadable_embedder(
        &self,
        name: &str,
        path: &std::path::Path,
    ) -> Result<(), AssistantError> {
        let failed = |reason: String| AssistantError::Load { name: name.to_owned(), reason };
        let opened = zhenjin_hub::open_embedder(path).map_err(|error| failed(error.to_string()))?;
        let estimate = Embedder::memory_estimate(&opened, self.team.threads());
        self.expect_within_limit(name, &estimate.map_err(|error| failed(error.to_string()))?)
    }

    fn expect_within_limit(&self, name: &str, estimate: &MemoryEstimate) -> Result<(), AssistantError> {
        let (needed_bytes, limit_bytes) = (estimate.least(), self.options.memory_bytes);
        if needed_bytes > limit_bytes {
            return Err(AssistantError::OutOfMemory { name: name.to_owned(), needed_bytes, limit_bytes });
        }
        Ok(())
    }
}

fn warn_of_short_context(name: &str, context: usize, models_own: usize, options: &ServeOptions) {
    let asked = options.context.unwrap_or(models_own);
    if asked > models_own {
        tracing::warn!(
            model = name,
            asked,
            context,
            "the model was made for a shorter context than asked for"
        );
    }
    if context < asked.min(models_own) {
        tracing::warn!(
            model = name,
            context,
            models_own,
            "the memory limit holds a shorter context than the model's own"
        );
    }
}

fn default_sampling(defaults: &GenerationDefaults) -> Sampling {
    let neutral = Sampling::default();
    Sampling {
        temperature: defaults.temperature.unwrap_or(neutral.temperature),
        top_p: defaults.top_p.unwrap_or(neutral.top_p),
        top_k: defaults.top_k.map_or(neutral.top_k, |top_k| top_k as usize),
        min_p: defaults.min_p.unwrap_or(neutral.min_p),
        repetition_penalty: defaults.repetition_penalty.unwrap_or(neutral.repetition_penalty),
        ..neutral
    }
}

/// Names what answers are computed with: this program's version, the options that change answers, and every byte of the weights.
fn fingerprint(model: &Model, kv_dtype: KvDtype) -> String {
    let settings = [env!("CARGO_PKG_VERSION"), model.simd.name(), kv_dtype.name()].map(str::as_bytes);
    let parts = settings.into_iter().chain([model.fingerprint.as_bytes().as_slice()]);
    system_fingerprint(Fingerprint::of_parts("zhenjin answers", parts))
}
