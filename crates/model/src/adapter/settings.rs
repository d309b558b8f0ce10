//! The settings of a LoRA adapter: `adapter_config.json` as the `peft` library writes it.
//!
//! Every setting is honoured, known to have no effect on the numbers, or refused by name. Which projections are adapted is
//! decided by the tensors that the adapter's other file holds, not by `target_modules`.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::fused::MOST_PROJECTIONS;
use crate::config::fields::Fields;
use crate::errors::{FormatError, quoted};
use crate::json;

/// The task type of adapters to models that give scores.
pub(super) const SCORES_TASK: &str = "SEQ_CLS";
/// The longest `adapter_config.json` that is read. Real ones have about a kilobyte.
const MAX_SETTINGS_BYTES: usize = 1 << 20;
/// The most patterns of ranks or of alphas.
const MAX_PATTERNS: usize = 4096;
/// The most bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 16;
/// The greatest rank of a projection.
pub(super) const MAX_RANK: usize = 1024;
/// The greatest rank of a module, which may have several projections with blocks of their own.
const MAX_MODULE_RANK: usize = MOST_PROJECTIONS * MAX_RANK;

/// Settings that change numbers.
const HONOURED: [&str; 8] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "init_lora_weights",
    "bias",
];

/// Settings that say how the adapter was trained or found its place; the tensors say the rest.
const WITHOUT_EFFECT: [&str; 21] = [
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "base_model_name_or_path",
    "base_model_class",
    "parent_library",
    "revision",
    "task_type",
    "inference_mode",
    "lora_dropout",
    "auto_mapping",
    "peft_version",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
    "eva_config",
    // What is left of them when an adapter has been converted to plain LoRA; `init_lora_weights` tells whether it has.
    "corda_config",
    "lora_ga_config",
    "loftq_config",
];
/// Settings of adapters that can be merged into the weights of their model, or served beside it, and not trained further.
const NOT_TRAINED: [&str; 4] = ["use_dora", "modules_to_save", "lora_bias", "trainable_token_indices"];
/// The embedding's module, whose rows `trainable_token_indices` names where it is a list.
const EMBEDDING_MODULE: &str = "embed_tokens";
/// The most token ids of `trainable_token_indices`.
const MAX_TRAINED_TOKENS: usize = 1 << 20;

/// Ways of making first values that leave the base model as it is. The others (`pissa`, `olora`, `corda`, `loftq` …) train
/// against a base whose weights were changed, which is not the base that is served.
const PLAIN_BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];
/// Which biases were trained. The file's tensors tell: models without biases have none in any of the three cases.
const BIASES: [&str; 3] = ["none", "all", "lora_only"];

/// What an adapter's model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Text.
    Text,
    /// One score of a text: task type SEQ_CLS, with the head for scores saved beside the low-rank products.
    Scores,
    /// Text, after the adapter has been merged into the weights: whole modules, biases and magnitudes can be merged too.
    Merge,
}

impl Purpose {
    /// What can be done with an adapter that cannot be used for it. Adapters to models that give scores are not merged either.
    pub(super) fn instead(self) -> &'static str {
        if self == Purpose::Text { super::MERGE_INSTEAD } else { "" }
    }

    /// The same for what can be served beside its model too.
    pub(super) fn instead_of_training(self) -> &'static str {
        if self == Purpose::Text { super::SERVE_OR_MERGE_INSTEAD } else { "" }
    }

    /// The same for biases of the low-rank products.
    pub(super) fn instead_of_biases(self) -> &'static str {
        if self == Purpose::Text { super::SERVE_OR_MERGE_BIASES_INSTEAD } else { "" }
    }
}

/// The settings that change numbers.
#[derive(Debug)]
pub(super) struct Settings {
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    rank_patterns: Vec<(Regex, usize)>,
    alpha_patterns: Vec<(Regex, f64)>,
    /// The model that it was trained on, by name or path.
    pub(super) base: Option<String>,
    /// Weights are decomposed into magnitude and direction (Liu et al. 2024, DoRA, arXiv 2402.09353).
    pub(super) has_magnitudes: bool,
    /// The ids of the token rows that a module's `trainable_tokens_delta` holds, by the end of the module's name.
    token_rows: Vec<(String, Vec<usize>)>,
}

impl Settings {
    /// Reads the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// [`FormatError`] naming the field.
    pub(super) fn read(text: &[u8], purpose: Purpose) -> Result<Settings, FormatError> {
        let document = json::parse(text, MAX_SETTINGS_BYTES)?;
        let object = document
            .as_object()
            .ok_or_else(|| FormatError::new("JSON", "the document is not an object of settings"))?;
        let fields = Fields { object, prefix: "" };
        match fields.text("peft_type")? {
            Some("LORA") => {}
            Some(other) => {
                let problem = format!("{} is not supported; supported is LORA", quoted(other));
                return Err(fields.fault("peft_type", problem));
            }
            None => return Err(fields.missing("peft_type")),
        }
        check_purpose(&fields, purpose)?;
        refuse_what_is_not_supported(&fields, purpose)?;
        let rank = fields.required_size("r")?;
        check_rank(rank).map_err(|problem| fields.fault("r", problem))?;
        Ok(Settings {
            rank,
            alpha: fields.required_number("lora_alpha")?,
            base: fields.text("base_model_name_or_path")?.map(str::to_owned),
            rank_stabilised: fields.bool("use_rslora")?.unwrap_or(false),
            has_magnitudes: fields.bool("use_dora")?.unwrap_or(false),
            token_rows: token_rows(&fields)?,
            rank_patterns: patterns(&fields, "rank_pattern", |value| {
                let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok()).unwrap_or(0);
                check_rank(rank).map(|()| rank)
            })?,
            alpha_patterns: patterns(&fields, "alpha_pattern", |value| {
                value.as_f64().ok_or_else(|| "must be a number".to_owned())
            })?,
        })
    }

    /// The rank of the adapter at `module`, such as `model.layers.0.self_attn.q_proj`.
    pub(super) fn rank_of(&self, module: &str) -> usize {
        first_match(&self.rank_patterns, module).unwrap_or(self.rank)
    }

    /// What the low-rank product at `module` is multiplied with: α/r (Hu et al. 2021, "LoRA", section 4.1), or α/√r where it
    /// is rank-stabilised (Kalajdzievski 2023, arXiv 2312.03732).
    pub(super) fn scale_of(&self, module: &str) -> f32 {
        let alpha = first_match(&self.alpha_patterns, module).unwrap_or(self.alpha);
        let rank = self.rank_of(module) as f64;
        (alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32
    }

    /// The ids of the token rows that were trained at `module`, such as `model.embed_tokens`.
    pub(super) fn token_rows_of(&self, module: &str) -> Option<&[usize]> {
        let is_of = |name: &str| module == name || module.ends_with(&format!(".{name}"));
        self.token_rows.iter().find(|(name, _)| is_of(name)).map(|(_, rows)| rows.as_slice())
    }
}

/// `trainable_token_indices`: ids of the embedding's rows, or lists of ids by module.
fn token_rows(fields: &Fields<'_>) -> Result<Vec<(String, Vec<usize>)>, FormatError> {
    const NAME: &str = "trainable_token_indices";
    let ids = |value: &Value| {
        let ids = value.as_array().filter(|ids| ids.len() <= MAX_TRAINED_TOKENS);
        let ids = ids.and_then(|ids| {
            ids.iter().map(|id| id.as_u64().and_then(|id| usize::try_from(id).ok())).collect()
        });
        ids.ok_or_else(|| {
            fields.fault(
                NAME,
                format!("must be at most {MAX_TRAINED_TOKENS} token ids, or such lists by module"),
            )
        })
    };
    match fields.get(NAME) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(modules)) if modules.len() <= MAX_PATTERNS => {
            modules.iter().map(|(module, value)| Ok((module.clone(), ids(value)?))).collect()
        }
        Some(value) => Ok(vec![(EMBEDDING_MODULE.to_owned(), ids(value)?)]),
    }
}

fn check_rank(rank: usize) -> Result<(), String> {
    let possible = (1..=MAX_MODULE_RANK).contains(&rank);
    possible.then_some(()).ok_or_else(|| format!("a rank must be a whole number from 1 to {MAX_MODULE_RANK}"))
}

/// Patterns by module: each is the end of the module's name, after a dot or from its beginning, as a regular expression.
fn patterns<T>(
    fields: &Fields<'_>,
    name: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<(Regex, T)>, FormatError> {
    let Some(object) = fields.fields(name, "")?.map(|patterns| patterns.object) else {
        return Ok(Vec::new());
    };
    if object.len() > MAX_PATTERNS {
        let problem = format!("{} patterns are more than the {MAX_PATTERNS} that are accepted", object.len());
        return Err(fields.fault(name, problem));
    }
    let compile = |(pattern, value): (&String, &Value)| {
        let fault = |problem: String| fields.fault(name, format!("pattern {}: {problem}", quoted(pattern)));
        let regex = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|error| fault(quoted(&error.to_string())))?;
        Ok((regex, read(value).map_err(fault)?))
    };
    object.iter().map(compile).collect()
}

fn first_match<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value)
}

/// Adapters to models that write text and to models that give scores are not used in each other's place.
fn check_purpose(fields: &Fields<'_>, purpose: Purpose) -> Result<(), FormatError> {
    let task = fields.text("task_type")?;
    match (purpose, task) {
        (Purpose::Text | Purpose::Merge, Some(SCORES_TASK)) => Err(fields.fault(
            "task_type",
            format!(
                "{SCORES_TASK} is an adapter to a model that gives scores and writes no text; it can be used as a reward model only"
            ),
        )),
        (Purpose::Scores, task) if task != Some(SCORES_TASK) => {
            let found = task.map_or_else(|| "none".to_owned(), quoted);
            Err(fields.fault(
                "task_type",
                format!("a reward model's adapter has the task type {SCORES_TASK}, but this one has {found}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Of the modules saved whole, an adapter to a model that gives scores has the head; `peft` names all the heads that such models may have.
fn are_heads(value: &Value) -> bool {
    let is_head = |name: &Value| matches!(name.as_str(), Some("score" | "classifier"));
    value.as_array().is_some_and(|names| names.iter().all(is_head))
}

fn refuse_what_is_not_supported(fields: &Fields<'_>, purpose: Purpose) -> Result<(), FormatError> {
    match fields.text("bias")? {
        Some(other) if !BIASES.contains(&other) => {
            let problem = format!("{} is not known; known are none, all and lora_only", quoted(other));
            return Err(fields.fault("bias", problem));
        }
        _ => {}
    }
    match fields.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => {}
        Some(Value::String(name))
            if PLAIN_BEGINNINGS.iter().any(|plain| name.eq_ignore_ascii_case(plain)) => {}
        Some(other) => {
            let problem = format!(
                "{} changes the base model's weights, so the adapter does not belong to the base that is served; \
                 convert it to plain LoRA when saving it",
                quoted(&other.to_string())
            );
            return Err(fields.fault("init_lora_weights", problem));
        }
    }
    for (name, value) in fields.object {
        if HONOURED.contains(&name.as_str()) || WITHOUT_EFFECT.contains(&name.as_str()) || is_neutral(value) {
            continue;
        }
        if name == "modules_to_save" && purpose == Purpose::Scores && are_heads(value) {
            continue;
        }
        if purpose == Purpose::Merge && NOT_TRAINED.contains(&name.as_str()) {
            continue;
        }
        let what = match name.as_str() {
            "use_dora" => "weights decomposed into magnitude and direction (DoRA) are not supported",
            "modules_to_save" => "whole modules beside the low-rank products are not supported",
            "fan_in_fan_out" => "transposed weights are not supported; no supported family has them",
            "lora_bias" => "biases of the low-rank products are not supported",
            "layer_replication" => "repeated layers are not supported",
            "target_parameters" => "adapted parameters outside linear layers are not supported",
            "trainable_token_indices" => "trained token embeddings are not supported",
            _ => "this setting is not known here",
        };
        let instead = match name.as_str() {
            "use_dora" => purpose.instead_of_training(),
            "lora_bias" => purpose.instead_of_biases(),
            name if NOT_TRAINED.contains(&name) => purpose.instead(),
            _ => "",
        };
        return Err(fields.fault(name, format!("{what}{instead}; found {}", quoted(&value.to_string()))));
    }
    Ok(())
}

/// Absent by another name.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(changes: Value) -> Result<Settings, FormatError> {
        let mut settings =
            json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]});
        for (name, value) in changes.as_object().unwrap() {
            settings[name] = value.clone();
        }
        Settings::read(settings.to_string().as_bytes(), Purpose::Text)
    }

    #[test]
    fn ranks_and_scales_follow_patterns() {
        let plain = settings(json!({})).unwrap();
        assert_eq!((plain.rank_of("model.layers.0.mlp.up_proj"), plain.scale_of("lm_head")), (8, 2.0));
        let patterns = settings(json!({
            "use_rslora": true,
            "rank_pattern": {"up_proj": 4, "^model\\.layers\\.[01]\\.self_attn\\.q_proj": 16},
            "alpha_pattern": {"layers.1.mlp.up_proj": 32.0},
        }))
        .unwrap();
        assert_eq!(patterns.rank_of("model.layers.1.self_attn.q_proj"), 16);
        assert_eq!(patterns.rank_of("model.layers.2.self_attn.q_proj"), 8);
        assert_eq!(patterns.rank_of("model.layers.0.mlp.not_up_proj"), 8);
        assert_eq!(patterns.scale_of("model.layers.1.mlp.up_proj"), 16.0);
        assert_eq!(patterns.scale_of("model.layers.0.mlp.up_proj"), 8.0);
        assert_eq!(patterns.scale_of("model.layers.0.self_attn.q_proj"), 4.0);
    }

    #[test]
    fn what_training_alone_needs_is_accepted() {
        for changes in [
            json!({"target_modules": "all-linear"}),
            json!({"target_modules": ".*_proj", "layers_to_transform": [0, 1], "layers_pattern": "layers"}),
            json!({"use_dora": false, "modules_to_save": null, "loftq_config": {}, "target_parameters": []}),
            json!({"init_lora_weights": "gaussian", "inference_mode": true, "lora_dropout": 0.1, "bias": "none"}),
        ] {
            settings(changes).unwrap();
        }
    }

    /// `peft` writes these where a model has no biases, and leaves the settings of other beginnings behind when it converts them.
    #[test]
    fn settings_that_leave_a_plain_adapter_are_accepted() {
        for changes in [
            json!({"bias": "all"}),
            json!({"bias": "lora_only"}),
            json!({"init_lora_weights": "mica"}),
            json!({"init_lora_weights": "Gaussian"}),
            json!({"init_lora_weights": true, "corda_config": {"corda_method": "ipm"}, "lora_ga_config": {"scale": 1}}),
        ] {
            settings(changes).unwrap();
        }
    }

    #[test]
    fn what_can_be_merged_alone_is_read_for_merging() {
        let read = |changes: Value| {
            let mut settings = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16});
            for (name, value) in changes.as_object().unwrap() {
                settings[name] = value.clone();
            }
            Settings::read(settings.to_string().as_bytes(), Purpose::Merge)
        };
        let merged = read(
            json!({"use_dora": true, "modules_to_save": ["lm_head"], "trainable_token_indices": [3, 1]}),
        );
        let merged = merged.unwrap();
        assert!(merged.has_magnitudes);
        assert_eq!(merged.token_rows_of("model.embed_tokens"), Some(&[3, 1][..]));
        assert_eq!(merged.token_rows_of("lm_head"), None);
        let named = read(json!({"trainable_token_indices": {"lm_head": [2]}})).unwrap();
        assert_eq!(named.token_rows_of("lm_head"), Some(&[2][..]));
        for wrong in [json!([-1]), json!("all"), json!({"lm_head": 3})] {
            let error = read(json!({"trainable_token_indices": wrong})).unwrap_err().to_string();
            assert!(error.contains("`trainable_token_indices`"), "{error}");
        }
        let error = settings(json!({"use_dora": true})).unwrap_err().to_string();
        assert!(error.contains("merges it"), "{error}");
    }

    /// Merging was the advice for adapters that exporting refuses.
    #[test]
    fn adapters_that_give_scores_are_not_to_be_merged_instead() {
        for (name, value) in [("use_dora", json!(true)), ("modules_to_save", json!(["lm_head"]))] {
            let mut settings = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "task_type": "SEQ_CLS"});
            settings[name] = value;
            let error = Settings::read(settings.to_string().as_bytes(), Purpose::Scores).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains("not supported") && !text.contains("merges"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_would_change_the_numbers_is_refused_by_name() {
        for (changes, named) in [
            (json!({"peft_type": "IA3"}), "`IA3` is not supported; supported is LORA"),
            (json!({"use_dora": true}), "field `use_dora`"),
            (json!({"bias": "some"}), "field `bias`"),
            (json!({"fan_in_fan_out": true}), "field `fan_in_fan_out`"),
            (json!({"modules_to_save": ["lm_head"]}), "field `modules_to_save`"),
            (json!({"modules_to_save": ["score"]}), "field `modules_to_save`"),
            (json!({"task_type": "SEQ_CLS"}), "as a reward model only"),
            (json!({"init_lora_weights": "pissa"}), "field `init_lora_weights`"),
            (json!({"layer_replication": [[0, 2]]}), "field `layer_replication`"),
            (json!({"trainable_token_indices": [3]}), "field `trainable_token_indices`"),
            (json!({"some_new_method": {"a": 1}}), "field `some_new_method`"),
            (json!({"r": 0}), "field `r`"),
            (json!({"r": 4096}), "field `r`"),
            (json!({"lora_alpha": null}), "field `lora_alpha`"),
            (json!({"rank_pattern": {"(": 4}}), "field `rank_pattern`: pattern `(`"),
            (json!({"rank_pattern": {"q_proj": -1}}), "field `rank_pattern`: pattern `q_proj`"),
            (json!({"alpha_pattern": {"x{1000}{1000}": 1}}), "field `alpha_pattern`"),
        ] {
            let error = settings(changes).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
