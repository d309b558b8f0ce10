//! An adapter as the `peft` library writes it, so that it opens there and here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use zhenjin_tensor::Dtype;

use super::file::SCORE;
use super::settings::{Purpose, SCORES_TASK};
use super::values::{module, tensor_name};
use super::{AdapterValues, LowRankValues};
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::ModelError;
use crate::score_head::ScoreHead;
use crate::tensor_source::WeightName;
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
    /// The text of the `adapter_config.json` of an adapter to the model that `base` names. Ranks and scales are those of the first addition;
    /// of others that differ, patterns say so.
    pub fn settings_json(&self, base: &str) -> String {
        self.settings_for(base, Purpose::Text)
    }

    /// As [`AdapterValues::settings_json`], for an adapter that makes the model a reward model.
    pub fn reward_settings_json(&self, base: &str) -> String {
        self.settings_for(base, Purpose::Scores)
    }

    fn settings_for(&self, base: &str, purpose: Purpose) -> String {
        let rank = self.additions().first().map_or(1, |addition| addition.rank);
        let alpha_of = |addition: &LowRankValues| f64::from(addition.scale) * addition.rank as f64;
        let alpha = self.additions().first().map_or(1.0, alpha_of);
        let in_layers =
            |projection| self.additions().iter().filter(|addition| addition.projection == projection).count();
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        let mut modules = BTreeSet::new();
        for addition in self.additions() {
            let module = module(WeightName::Layer(addition.layer, addition.projection));
            if addition.rank != rank {
                ranks.insert(regex::escape(&module), json!(addition.rank));
            }
            if alpha_of(addition) != alpha {
                alphas.insert(regex::escape(&module), json!(alpha_of(addition)));
            }
            // A name's end stands for every layer: `peft` would add products to layers that the adapter has none in.
            let is_everywhere = in_layers(addition.projection) == self.layers;
            let name = if is_everywhere { module.rsplit('.').next() } else { Some(module.as_str()) };
            modules.extend(name.map(str::to_owned));
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
            "target_modules": modules,
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
    /// Hugging Face files.
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
        let mut tensors = Vec::new();
        for LowRankValues { layer, projection, rank, down, up, .. } in self.additions() {
            for (part, shape) in
                [("lora_A", [*rank, down.len() / rank]), ("lora_B", [up.len() / rank, *rank])]
            {
                let name = tensor_name(*layer, *projection, part);
                tensors.push(NewTensor { name, dtype: Dtype::F32, shape: shape.to_vec() });
            }
        }
        let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        if let Some(score) = score {
            tensors.push(NewTensor {
                name: SCORE.to_owned(),
                dtype: Dtype::F32,
                shape: vec![1, score.len()],
            });
            metadata.extend(ScoreHead::metadata());
        }
        write_tensors(file, &tensors, &metadata, &mut |index, out| {
            let Some(addition) = self.additions().get(index / 2) else {
                let bytes: Vec<u8> =
                    score.into_iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
                return out.write(&bytes);
            };
            let plain;
            let values = match (index % 2, config.rope.layout) {
                (0, _) => &addition.down,
                (_, RopeLayout::Interleaved) => {
                    plain = addition.with_half_split_rows(config);
                    &plain
                }
                _ => &addition.up,
            };
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write(&bytes)
        })
    }
}
