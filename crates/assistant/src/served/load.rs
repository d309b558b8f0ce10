//! Loads one model into an assistant; asks for memory before it takes any.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use zhenjin_engine::{Engine, EngineOptions, Sampling};
use zhenjin_hub::GenerationDefaults;
use zhenjin_model::{LoadOptions, MemoryEstimate, MemoryPlan, Model, ModelFile, Runner, RunnerOptions};
use zhenjin_tensor::{KvDtype, SimdLevel, ThreadTeam};

use super::memory::PREFILL_ROWS;
use super::{ModelSpec, ServeOptions};
use crate::assistant::{Assistant, AssistantInfo, LoadedModel};
use crate::error::AssistantError;
use crate::prompt::ToolStyle;

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
    let estimate = options.memory_estimate(&opened.file).map_err(|error| failed(error.to_string()))?;
    let kv_dtype = estimate.kv_dtype;
    let plan = reserve(estimate)?;
    for setting in opened.file.unread_settings() {
        tracing::warn!(model = %spec.name, "a setting of the model's file has no meaning here: {setting}");
    }
    warn_of_short_context(&spec.name, plan.context, config.context_length, options);

    let simd = options.compute.simd;
    let load_options = LoadOptions { simd, team: Arc::clone(team) };
    let model = Model::from_source(config.clone(), &opened.file, &load_options)
        .map_err(|error| failed(error.to_string()))?;
    let limits = options.limits();
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
    let engine_options = EngineOptions {
        max_batch: options.max_batch,
        prefill_chunk: PREFILL_ROWS,
        queue_limit: options.queue_limit,
        speculation: options.speculation,
        simd,
        observer: options.observer.as_ref().map(|observer| observer(&spec.name)),
        ..EngineOptions::default()
    };
    let engine =
        Engine::start(Box::new(runner), engine_options).map_err(|error| failed(error.to_string()))?;

    let tool_style = opened.template.as_ref().map_or(ToolStyle::Unknown, ToolStyle::of_template);
    let info = AssistantInfo {
        name: spec.name.clone(),
        architecture: config.architecture.clone(),
        context_length: plan.context,
        memory_bytes: plan.bytes,
        has_template: opened.template.is_some(),
        template_knows_tools: matches!(tool_style, ToolStyle::Template(_)),
        fingerprint: fingerprint(&opened.file, simd, kv_dtype),
    };
    tracing::info!(
        model = %spec.name,
        seconds = begun.elapsed().as_secs_f64(),
        memory_bytes = plan.bytes,
        context = plan.context,
        capacity_tokens = engine.capacity_tokens(),
        "model loaded"
    );
    let model = LoadedModel {
        info,
        tokenizer: opened.tokenizer,
        template: opened.template,
        tool_style,
        default_sampling: default_sampling(&opened.generation_defaults),
        engine,
        format_compiler: OnceLock::new(),
    };
    Ok(Assistant { model: Arc::new(model) })
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

/// Of this program's version, of the options that change answers, and of every tensor's name, type and shape and some of its bytes: reading all
/// of them would take longer than loading.
fn fingerprint(file: &ModelFile, simd: SimdLevel, kv_dtype: KvDtype) -> String {
    const SAMPLE: usize = 64;
    let mut hash = Fnv1a::default();
    for part in [env!("CARGO_PKG_VERSION"), simd.name(), kv_dtype.name()] {
        hash.add(part.as_bytes());
    }
    for tensor in file.tensors() {
        hash.add(tensor.name.as_bytes());
        hash.add(tensor.type_name.as_bytes());
        for &size in tensor.shape {
            hash.add(&(size as u64).to_le_bytes());
        }
        let bytes = tensor.bytes;
        let middle = bytes.len() / 2;
        hash.add(&bytes[..bytes.len().min(SAMPLE)]);
        hash.add(&bytes[middle..bytes.len().min(middle + SAMPLE)]);
        hash.add(&bytes[bytes.len().saturating_sub(SAMPLE)..]);
    }
    format!("fp_{:016x}", hash.0)
}

/// Fowler, Noll, Vo: the same in every version of the program.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
