//! Reward models: scores against those of `transformers` and `peft`, both ways, and what is refused.
//!
//! `tests/golden/make_reward_models.py` had `peft` write the adapters and computed the numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use zhenjin_model::config::{ModelClass, from_json, from_json_as};
use zhenjin_model::names::Naming;
use zhenjin_model::testing::golden_weights as weights;
use zhenjin_model::write::{reward_config_json, write_reward_safetensors};
use zhenjin_model::{
    AdapterValues, Learned, Learner, LearnerOptions, LoadOptions, Model, ModelConfig, ModelFile, ScoreHead,
    ScorePlace, TokenBatch,
};
use zhenjin_tensor::{SimdLevel, ThreadTeam, Vector};

use super::hugging_face_writer::{FolderTensor, safetensors_bytes, write_folder};

/// How far a score may be from that of the libraries; the scores reach 8.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Case {
    name: String,
    adapter: Option<String>,
    config: Value,
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    scores: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/reward_models.json")).unwrap()
}

fn saved(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reward_models").join(name)
}

fn load() -> LoadOptions {
    LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) }
}

impl Case {
    fn model_config(&self) -> ModelConfig {
        let text = self.config.to_string();
        match self.adapter {
            Some(_) => from_json(text.as_bytes()).unwrap().config,
            None => from_json_as(text.as_bytes(), ModelClass::SequenceClassification).unwrap().config,
        }
    }

    fn tensors(&self) -> Vec<FolderTensor> {
        let config = self.model_config();
        let tensor = |name: &str, shape: &[usize]| {
            FolderTensor::f32(name, shape, &weights(name, shape.iter().product()))
        };
        let mut tensors: Vec<FolderTensor> = config
            .weights()
            .map(|weight| tensor(&Naming::HuggingFace.spell(weight), &config.shape(weight)))
            .collect();
        if self.adapter.is_none() {
            tensors.push(tensor("score.weight", &[1, config.hidden_size]));
        }
        tensors
    }

    fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &self.config, &self.tensors());
        folder
    }

    /// The largest difference of the scores of all lengths from those of the libraries.
    fn difference(&self, file: &ModelFile, adapter: Option<&AdapterValues>, head: &ScoreHead) -> f32 {
        let load = load();
        let model = Model::from_source(file.config().clone(), file, &load).unwrap();
        let options = LearnerOptions { load: load.clone(), recompute: false };
        let mut learner = Learner::new(&model.config, options).unwrap();
        let adapter = adapter.map(|values| values.pack(load.simd, &load.team).unwrap());
        let values = Vector::from(head.weight.clone());
        let learned = Learned::from(&model.weights).with_adapter(adapter.as_ref()).with_values(Some(&values));
        let mut worst: f32 = 0.0;
        for (length, expected) in self.lengths.iter().zip(&self.scores) {
            let targets: Vec<Option<u32>> = (1..=*length).map(|row| (row == *length).then_some(0)).collect();
            let batch = TokenBatch {
                tokens: &self.tokens[..*length],
                document_lengths: &[*length],
                targets: &targets,
            };
            let difference = (learner.values(learned, &batch).unwrap()[0] - expected).abs();
            worst = if difference.is_nan() { f32::INFINITY } else { worst.max(difference) };
        }
        worst
    }
}

#[test]
fn whole_models_and_adapters_give_the_scores_of_the_libraries() {
    for case in cases() {
        let folder = case.folder();
        let (file, adapter, head) = match &case.adapter {
            None => {
                let (file, head) = ModelFile::open_reward_model(folder.path()).unwrap();
                assert_eq!(file.unused_tensors(), <[String; 0]>::default());
                (file, None, head)
            }
            Some(name) => {
                let file = ModelFile::open(folder.path()).unwrap();
                let (values, head) = AdapterValues::open_reward_model(&saved(name), file.config()).unwrap();
                (file, Some(values), head)
            }
        };
        assert_eq!((head.place, head.padding), (ScorePlace::EndOfText, None));
        let difference = case.difference(&file, adapter.as_ref(), &head);
        assert!(difference <= TOLERANCE, "{}: differs by {difference}", case.name);
        let other = ScoreHead { weight: vec![0.5; head.weight.len()], ..head };
        assert!(case.difference(&file, adapter.as_ref(), &other) > 100.0 * TOLERANCE, "{}", case.name);
    }
}

#[test]
fn what_is_written_opens_again_with_the_same_scores() {
    for case in cases() {
        let (folder, out) = (case.folder(), tempfile::tempdir().unwrap());
        match &case.adapter {
            None => {
                let (file, head) = ModelFile::open_reward_model(folder.path()).unwrap();
                let config = file.config();
                let model = Model::from_source(config.clone(), &file, &load()).unwrap();
                let path = out.path().join("model.safetensors");
                write_reward_safetensors(&path, config, &model.weights, &head.weight).unwrap();
                let json = reward_config_json(config, Some(7)).unwrap();
                let class = json["architectures"][0].as_str().unwrap();
                assert_eq!(json["architectures"], case.config["architectures"], "{class}");
                std::fs::write(out.path().join("config.json"), json.to_string()).unwrap();
                let (again, read) = ModelFile::open_reward_model(out.path()).unwrap();
                assert_eq!((read.place, read.padding), (ScorePlace::EndOfTurn, Some(7)));
                assert_eq!(read.weight, head.weight);
                assert!(again.unread_settings().is_empty(), "{:?}", again.unread_settings());
                assert!(case.difference(&again, None, &read) <= TOLERANCE, "{}", case.name);
                // It writes no text.
                let error = ModelFile::open(out.path()).unwrap_err().to_string();
                assert!(error.contains("can be used as a reward model only"), "{error}");
            }
            Some(name) => {
                let file = ModelFile::open(folder.path()).unwrap();
                let (values, head) = AdapterValues::open_reward_model(&saved(name), file.config()).unwrap();
                let tensors = out.path().join("adapter_model.safetensors");
                values.write_reward_model(&tensors, file.config(), &head.weight).unwrap();
                let settings = values.reward_settings_json("base");
                std::fs::write(out.path().join("adapter_config.json"), &settings).unwrap();
                let settings: Value = serde_json::from_str(&settings).unwrap();
                assert_eq!(
                    (&settings["task_type"], &settings["modules_to_save"]),
                    (&json!("SEQ_CLS"), &json!(["score"]))
                );
                let (again, read) = AdapterValues::open_reward_model(out.path(), file.config()).unwrap();
                assert_eq!(again.fingerprint(), values.fingerprint());
                assert_eq!((read.place, read.weight), (ScorePlace::EndOfTurn, head.weight));
                let error = AdapterValues::open(out.path(), file.config()).unwrap_err().to_string();
                assert!(error.contains("can be used as a reward model only"), "{error}");
            }
        }
    }
}

#[test]
fn whole_models_that_are_no_reward_models_are_refused_by_name() {
    type Edit = fn(&mut Value, &mut Vec<FolderTensor>);
    let case = cases().into_iter().find(|case| case.name == "qwen2, tied").unwrap();
    let refused: [(Edit, &[&str]); 8] = [
        (|config, _| config["num_labels"] = 2.into(), &["`num_labels`", "2 labels"]),
        (|config, _| config["id2label"] = json!({"0": "a", "1": "b", "2": "c"}), &["`id2label`", "3 labels"]),
        (|_, tensors| drop(tensors.pop()), &["`score.weight` is missing"]),
        (
            |_, tensors| {
                *tensors.last_mut().unwrap() = FolderTensor::f32("score.weight", &[2, 64], &[0.5; 128])
            },
            &["`score.weight`", "2 scores", "[1, 64]"],
        ),
        (
            |_, tensors| {
                *tensors.last_mut().unwrap() = FolderTensor::f32("score.weight", &[1, 32], &[0.5; 32])
            },
            &["`score.weight`", "[1, 32]", "[1, 64]"],
        ),
        (
            |_, tensors| *tensors.last_mut().unwrap() = FolderTensor::f32("score.weight", &[64], &[0.5; 64]),
            &["`score.weight`", "[64]", "[1, 64]"],
        ),
        (|_, tensors| tensors.push(FolderTensor::f32("score.bias", &[1], &[0.5])), &["`score.bias`", "bias"]),
        (
            |config, _| config["architectures"] = json!(["Qwen2ForTokenClassification"]),
            &["Qwen2ForSequenceClassification", "Qwen2ForTokenClassification"],
        ),
    ];
    for (edit, expected) in refused {
        let (mut config, mut tensors) = (case.config.clone(), case.tensors());
        edit(&mut config, &mut tensors);
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &config, &tensors);
        let error = ModelFile::open_reward_model(folder.path()).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{expected:?}: {error}");
    }
}

#[test]
fn adapters_that_are_no_reward_models_are_refused_by_name() {
    type Edit = fn(&mut Value, &mut Vec<FolderTensor>);
    let config = cases().into_iter().find(|case| case.name == "llama-score").unwrap().model_config();
    let refused: [(Edit, &[&str]); 7] = [
        (
            |settings, _| settings["task_type"] = "CAUSAL_LM".into(),
            &["`task_type`", "SEQ_CLS", "`CAUSAL_LM`"],
        ),
        (
            |settings, _| settings["modules_to_save"] = json!(["score", "lm_head"]),
            &["`modules_to_save`", "lm_head"],
        ),
        (|_, tensors| drop(tensors.pop()), &["`base_model.model.score.weight` is missing"]),
        (
            |_, tensors| {
                tensors[2] = FolderTensor::f32("base_model.model.score.weight", &[3, 64], &[0.5; 192])
            },
            &["score.weight", "3 scores"],
        ),
        (
            |_, tensors| tensors[2] = FolderTensor::f32("base_model.model.score.weight", &[1, 8], &[0.5; 8]),
            &["score.weight", "[1, 8]", "[1, 64]"],
        ),
        (
            |_, tensors| tensors.push(FolderTensor::f32("base_model.model.score.bias", &[1], &[0.5])),
            &["score.bias", "bias"],
        ),
        (
            |_, tensors| {
                tensors[2] = FolderTensor::f32("base_model.model.score.weight", &[1, 64], &[f32::NAN; 64])
            },
            &["score.weight", "NaN"],
        ),
    ];
    for (edit, expected) in refused {
        let mut settings = json!({
            "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 4, "modules_to_save": ["classifier", "score"],
        });
        let tensor = |part: &str, shape: [usize; 2]| {
            let name = format!("base_model.model.model.layers.1.self_attn.q_proj.{part}.weight");
            FolderTensor::f32(&name, &shape, &vec![0.5; shape[0] * shape[1]])
        };
        let mut tensors = vec![
            tensor("lora_A", [2, 64]),
            tensor("lora_B", [64, 2]),
            FolderTensor::f32("base_model.model.score.weight", &[1, 64], &[0.5; 64]),
        ];
        edit(&mut settings, &mut tensors);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), settings.to_string()).unwrap();
        std::fs::write(folder.path().join("adapter_model.safetensors"), safetensors_bytes(&tensors)).unwrap();
        let error = AdapterValues::open_reward_model(folder.path(), &config).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{expected:?}: {error}");
    }
}
