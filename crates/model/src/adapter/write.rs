//! An adapter as the `peft` library writes it, so that it opens there and here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use zhenjin_tensor::Dtype;

use super::AdapterValues;
use super::file::SCORE;
use super::fused::{WrittenModule, modules, written_heights};
use super::peft_names::PREFIX;
use super::settings::{Purpose, SCORES_TASK};
use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::score_head::ScoreHead;
use crate::write::{NewTensor, WrittenFile, write_tensors};

/// The two files of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenAdapter;

impl WrittenAdapter {
    /// The settings.
    pub const SETTINGS: &'static str = "adapter_config.json";
    /// The matrices.
    pub const TENSORS: &'static str = "adapter_model.safetensors";
}

impl AdapterValues {
    /// The text of the `adapter_config.json` of an adapter to the model that `base` names. Ranks and scales are those of the first module;
    /// of others that differ, patterns say so. A module of a fused family with several projections has the ranks of their products together, and an
    /// alpha with which alpha / rank stays what it is.
    pub fn settings_json(&self, base: &str) -> String {
        self.settings_for(base, Purpose::Text)
    }

    /// As [`AdapterValues::settings_json`], for an adapter that makes the model a reward model.
    pub fn reward_settings_json(&self, base: &str) -> String {
        self.settings_for(base, Purpose::Scores)
    }

    fn settings_for(&self, base: &str, purpose: Purpose) -> String {
        let modules = modules(self.additions(), self.is_fused);
        let rank = modules.first().map_or(1, WrittenModule::rank);
        let alpha = modules.first().map_or(1.0, WrittenModule::alpha);
        let names: Vec<String> = modules.iter().map(WrittenModule::name).collect();
        let mut in_layers: BTreeMap<&str, usize> = BTreeMap::new();
        names.iter().for_each(|name| *in_layers.entry(end(name)).or_default() += 1);
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        let mut targets = BTreeSet::new();
        for (module, name) in modules.iter().zip(&names) {
            if module.rank() != rank {
                ranks.insert(regex::escape(name), json!(module.rank()));
            }
            if module.alpha() != alpha {
                alphas.insert(regex::escape(name), json!(module.alpha()));
            }
            // A name's end stands for every layer: `peft` would add products to layers that the adapter has none in.
            let is_everywhere = in_layers.get(end(name)) == Some(&self.layers);
            targets.insert(if is_everywhere { end(name) } else { name });
        }
        let number = |value: f64| {
            if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
        };
        let (task, saved) = match purpose {
            Purpose::Text | Purpose::Merge => ("CAUSAL_LM", Value::Null),
            Purpose::Scores => (SCORES_TASK, json!(["score"])),
        };
        let settings = json!({
            "peft_type": "LORA",
            "task_type": task,
            "base_model_name_or_path": base,
            "r": rank,
            "lora_alpha": number(alpha),
            "rank_pattern": Value::Object(ranks),
            "alpha_pattern": Value::Object(alphas),
            "target_modules": targets,
            "use_rslora": false,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": saved,
            "inference_mode": true,
        });
        format!("{settings:#}\n")
    }

    /// Writes the `adapter_model.safetensors`, whole or not at all: A and B in f32 under the names of the `peft` library, rows in the order of
    /// Hugging Face files. A module of a fused family with several projections has one A, theirs one below the other, and a B of blocks, with zeros
    /// for a projection without an addition.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the disk refuses.
    pub fn write_matrices(&self, file: &Path, config: &ModelConfig) -> Result<WrittenFile, ModelError> {
        self.write_with(file, config, None)
    }

    /// As [`AdapterValues::write_matrices`], with the head of a reward model, `[hidden_size]`, whose score is at the token that ends a turn.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the disk refuses.
    pub fn write_reward_model(
        &self,
        file: &Path,
        config: &ModelConfig,
        score: &[f32],
    ) -> Result<WrittenFile, ModelError> {
        self.write_with(file, config, Some(score))
    }

    fn write_with(
        &self,
        file: &Path,
        config: &ModelConfig,
        score: Option<&[f32]>,
    ) -> Result<WrittenFile, ModelError> {
        let modules = modules(self.additions(), self.is_fused);
        let mut tensors = Vec::new();
        let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        for module in &modules {
            for (part, shape) in [("lora_A", module.down_shape()), ("lora_B", module.up_shape(config))] {
                let name = format!("{PREFIX}{}.{part}.weight", module.name());
                tensors.push(NewTensor { name, dtype: Dtype::F32, shape: shape.to_vec() });
            }
            metadata.extend(module.heights().map(|heights| (module.name(), written_heights(&heights))));
        }
        if let Some(score) = score {
            tensors.push(NewTensor {
                name: SCORE.to_owned(),
                dtype: Dtype::F32,
                shape: vec![1, score.len()],
            });
            metadata.extend(ScoreHead::metadata());
        }
        write_tensors(file, &tensors, &metadata, &mut |index, out| {
            let values = match modules.get(index / 2) {
                Some(module) if index % 2 == 0 => module.down(),
                Some(module) => module.up(config),
                None => score.unwrap_or_default().to_vec(),
            };
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write(&bytes)
        })
    }
}

/// The end of a module's name, which it has in every layer.
fn end(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}
