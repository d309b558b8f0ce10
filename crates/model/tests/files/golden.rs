//! Logits of every family against Hugging Face transformers, through files of both formats.
//!
//! `tests/golden/make.py` computed the numbers and says how weights and tokens follow from names.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use zhenjin_model::config::{RopeScaling, from_json};
use zhenjin_model::names::Naming;
use zhenjin_model::testing::golden_weights as weights;
use zhenjin_model::write::{FileRows, FloatType, Quantisation, write_gguf, write_hugging_face};
use zhenjin_model::{
    AdapterRows, LayerWeightName, LoadOptions, LogitsFor, Model, ModelConfig, ModelError, ModelFile, PageId,
    ReferenceLoader, Runner, RunnerOptions, SequenceChunk, ServedAdapter, Transformer, WeightName, Weights,
    rope,
};
use zhenjin_tensor::{Executor, ReferenceExecutor, ReferenceTensor, SimdLevel, ThreadTeam};

use super::gguf_writer::{GgufWriter, RawValue};
use super::hugging_face_writer::{FolderTensor, write_folder};

/// How far a logit may be from that of transformers; the logits themselves reach 25.
pub(super) const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) config: serde_json::Value,
    pub(super) tokens: Vec<u32>,
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("../golden/logits.json")).unwrap()
    }

    pub(super) fn named(name: &str) -> Case {
        Case::all().into_iter().find(|case| case.name == name).unwrap()
    }

    pub(super) fn model_config(&self) -> ModelConfig {
        let reading = from_json(self.config.to_string().as_bytes()).unwrap();
        assert!(reading.unread.is_empty(), "{}: nothing reads {:?}", self.name, reading.unread);
        reading.config
    }

    /// The weights by their Hugging Face names, as folders of the family hold them.
    pub(super) fn tensors(&self) -> Vec<FolderTensor> {
        let config = self.model_config();
        let naming = Naming::of_folder(&config);
        let tensor = |weight| {
            let (name, shape) = (naming.spell(weight), config.shape(weight));
            let mut values = weights(&name, shape.iter().product());
            if config.norms_less_one && name.ends_with("norm.weight") {
                values.iter_mut().for_each(|value| *value -= 1.0);
            }
            FolderTensor::f32(&name, &shape, &values)
        };
        let tensors = config.weights().map(tensor).collect();
        if config.is_fused() { fused(tensors) } else { tensors }
    }

    /// The largest difference between the logits of the model at `path` and those of transformers.
    fn difference(&self, path: &Path, simd: SimdLevel) -> f32 {
        self.difference_with(path, None, simd)
    }

    /// The same with an adapter.
    pub(super) fn difference_with(&self, path: &Path, adapter: Option<&Path>, simd: SimdLevel) -> f32 {
        self.difference_of(&logits(path, adapter, &self.tokens, simd))
    }

    /// The largest difference of the logits of every token from those of transformers.
    pub(super) fn difference_of(&self, logits: &[f32]) -> f32 {
        let differences = self.positions.iter().zip(&self.logits).flat_map(|(position, expected)| {
            let actual = logits.chunks_exact(expected.len()).nth(*position).unwrap();
            actual.iter().zip(expected).map(|(actual, expected)| {
                let difference = (actual - expected).abs();
                // A NaN must not get lost in the maximum.
                if difference.is_nan() { f32::INFINITY } else { difference }
            })
        });
        differences.fold(0.0, f32::max)
    }
}

/// The same tensors, the q, k and v projections one above the other, and the gate and up projections, as Phi-3's folders have them.
pub(super) fn fused(tensors: Vec<FolderTensor>) -> Vec<FolderTensor> {
    const WHOLES: [(&str, &str); 5] = [
        (".q_proj.", ".qkv_proj."),
        (".k_proj.", ".qkv_proj."),
        (".v_proj.", ".qkv_proj."),
        (".gate_proj.", ".gate_up_proj."),
        (".up_proj.", ".gate_up_proj."),
    ];
    let mut fused: Vec<FolderTensor> = Vec::new();
    for tensor in tensors {
        let name = WHOLES.iter().fold(tensor.name.clone(), |name, (part, whole)| name.replace(part, whole));
        match fused.iter_mut().find(|above| above.name == name) {
            Some(above) => {
                above.shape[0] += tensor.shape[0];
                above.data.extend(tensor.data);
            }
            None => fused.push(FolderTensor { name, ..tensor }),
        }
    }
    fused
}

/// The logits of every token.
fn logits(model_path: &Path, adapter: Option<&Path>, tokens: &[u32], simd: SimdLevel) -> Vec<f32> {
    let team = Arc::new(ThreadTeam::new(1).unwrap());
    let model = Model::load(model_path, &LoadOptions { simd, team: team.clone() }).unwrap();
    let adapter = adapter.map(|path| {
        let file = ModelFile::open(model_path).unwrap();
        let adapter = ServedAdapter::open(path, &file, 2).unwrap();
        adapter.pack(simd, &team).unwrap()
    });
    let options = RunnerOptions {
        pages: 2,
        kv_dtype: zhenjin_tensor::KvDtype::default(),
        max_rows: tokens.len(),
        max_logits_rows: tokens.len(),
        usable_vocabulary: None,
        context_length: None,
        simd,
        team,
    };
    let mut runner = Runner::new(Arc::new(model), options).unwrap();
    let pages = [PageId(1), PageId(0)];
    let chunk = SequenceChunk {
        tokens,
        pages: &pages,
        logits: LogitsFor::All,
        adapter: adapter.as_ref(),
        ..SequenceChunk::default()
    };
    let logits = runner.step(&[chunk]).unwrap().logits;
    (0..logits.rows()).flat_map(|row| logits.row(row).to_vec()).collect()
}

/// The same, computed in f64.
pub(super) fn reference_logits(path: &Path, adapter: Option<&Path>, tokens: &[u32]) -> Vec<f32> {
    let file = ModelFile::open(path).unwrap();
    let config = file.config();
    let weights = Weights::load_with(config, &file, &mut ReferenceLoader).unwrap();
    let mut executor = ReferenceExecutor::new();
    executor.begin_packed(&[tokens.len()], &rope::tables(config)).unwrap();
    let all: Vec<usize> = (0..tokens.len()).collect();
    let adapter = adapter.map(|path| {
        let adapter = ServedAdapter::open(path, &file, 1).unwrap();
        let matrix = |values: &[f32], [_, width]: [usize; 2]| {
            let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
            let bytes = size_of_val(&values[..]);
            Ok((ReferenceTensor { width, values }, bytes))
        };
        adapter.load(matrix).unwrap()
    });
    let rows = |adapter| AdapterRows { rows: 0..tokens.len(), adapter };
    let adapters: Vec<_> = adapter.iter().map(rows).collect();
    let transformer = Transformer { config, weights: &weights, adapters: &adapters };
    let logits = transformer.logits(&mut executor, tokens, &all).unwrap();
    logits.values.iter().map(|logit| *logit as f32).collect()
}

#[test]
fn the_reference_executor_gives_the_logits_of_transformers() {
    for case in Case::all() {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &case.config, &case.tensors());
        let difference = case.difference_of(&reference_logits(folder.path(), None, &case.tokens));
        assert!(difference <= TOLERANCE, "{}: differs by {difference}", case.name);
    }
}

#[test]
fn hugging_face_folders_give_the_logits_of_transformers() {
    for case in Case::all() {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &case.config, &case.tensors());
        for simd in SimdLevel::available() {
            let difference = case.difference(folder.path(), simd);
            assert!(difference <= TOLERANCE, "{} with {simd:?}: differs by {difference}", case.name);
        }
    }
}

#[test]
fn gguf_files_give_the_logits_of_transformers() {
    let mut covered = Vec::new();
    for case in Case::all() {
        let Some(file) = gguf(&case) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file.bytes()).unwrap();
        let difference = case.difference(&path, SimdLevel::detect());
        assert!(difference <= TOLERANCE, "{}: differs by {difference}", case.name);
        covered.push(case.name);
    }
    assert_eq!(covered.len(), 17, "{covered:?}");
}

/// What the writers make of a folder that transformers wrote, and of the GGUF file that they made of it.
#[test]
fn written_files_give_the_logits_of_transformers() {
    let mut covered = Vec::new();
    for case in Case::all() {
        let folder = tempfile::tempdir().unwrap();
        let [source, copy, back] = ["source", "copy", "back"].map(|name| folder.path().join(name));
        let gguf = folder.path().join("model.gguf");
        std::fs::create_dir(&source).unwrap();
        write_folder(&source, &case.config, &case.tensors());
        let write = |from: &Path, to: &Path| {
            let from = ModelFile::open(from).unwrap();
            write_hugging_face(to, from.config(), &FileRows(&from), FloatType::F32, &[], &[]).unwrap();
        };
        let check = |path: &Path| {
            let difference = case.difference(path, SimdLevel::detect());
            assert!(difference <= TOLERANCE, "{}: {} differs by {difference}", case.name, path.display());
        };
        write(&source, &copy);
        check(&copy);
        let file = ModelFile::open(&source).unwrap();
        let floats = Quantisation::Floats(FloatType::F32);
        match write_gguf(&gguf, file.config(), &FileRows(&file), floats, &[]) {
            Ok(_) => check(&gguf),
            Err(ModelError::Unwritable { reason, .. }) => {
                assert!(reason.contains("cannot say"), "{}: {reason}", case.name);
                continue;
            }
            Err(error) => panic!("{}: {error}", case.name),
        }
        let rounded = folder.path().join("q8_0.gguf");
        write_gguf(&rounded, file.config(), &FileRows(&file), Quantisation::Q8_0, &[]).unwrap();
        // Far from the logits of other weights; other experts may be chosen.
        let difference = case.difference(&rounded, SimdLevel::detect());
        let is_near = difference <= 1.5 || file.config().experts.is_some();
        assert!(is_near, "{} in Q8_0: differs by {difference}", case.name);
        covered.push(case.name.clone());
        // A GGUF file has no name for Llama 3's rule any more, only its numbers.
        if !case.name.contains("llama3") {
            write(&gguf, &back);
            check(&back);
            let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
            assert_eq!(bytes(&copy), bytes(&back), "{}", case.name);
        }
    }
    assert_eq!(covered.len(), 19, "{covered:?}");
}

/// The weights as newer versions of transformers hold them in memory, and save them if asked to: all experts of a layer in two tensors.
fn with_experts_together(case: &Case) -> Vec<FolderTensor> {
    let (config, tensors) = (case.model_config(), case.tensors());
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let experts = config.experts.as_ref().unwrap().count;
    let apart = |tensor: &&FolderTensor| !tensor.name.contains(".mlp.experts.");
    let mut together: Vec<FolderTensor> = tensors.iter().filter(apart).cloned().collect();
    for layer in 0..config.layers {
        let prefix = format!("model.layers.{layer}.mlp.experts");
        for (name, projections) in
            [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"][..])]
        {
            let mut parts = Vec::new();
            for expert in 0..experts {
                let names =
                    projections.iter().map(|projection| format!("{prefix}.{expert}.{projection}.weight"));
                parts.extend(names.filter_map(|name| find(&name)));
            }
            // Some layers have no experts.
            let Some(first) = parts.first() else { continue };
            together.push(FolderTensor {
                name: format!("{prefix}.{name}"),
                dtype: first.dtype,
                shape: vec![experts, projections.len() * first.shape[0], first.shape[1]],
                data: parts.iter().flat_map(|part| part.data.iter().copied()).collect(),
            });
        }
    }
    together
}

/// Regression: such a folder was refused for want of `experts.0.gate_proj.weight`.
#[test]
fn experts_that_are_stored_together_are_the_same_weights() {
    let mut covered = 0;
    for case in Case::all().into_iter().filter(|case| case.name.starts_with("qwen3moe")) {
        let folder = tempfile::tempdir().unwrap();
        let mut tensors = with_experts_together(&case);
        write_folder(folder.path(), &case.config, &tensors);
        let difference = case.difference(folder.path(), SimdLevel::detect());
        assert!(difference <= TOLERANCE, "{}: differs by {difference}", case.name);
        assert!(ModelFile::open(folder.path()).unwrap().unused_tensors().is_empty(), "{}", case.name);
        // Neither another number of experts nor an odd number of rows is taken for it.
        let place = tensors.iter().position(|tensor| tensor.name.ends_with("gate_up_proj")).unwrap();
        let [experts, rows, columns] = tensors[place].shape[..] else { panic!("three dimensions") };
        for shape in [[experts * 2, rows / 2, columns], [experts, 1, rows * columns]] {
            tensors[place].shape = shape.to_vec();
            write_folder(folder.path(), &case.config, &tensors);
            let error = ModelFile::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("mlp.experts.gate_up_proj"), "{error}");
        }
        covered += 1;
    }
    assert_eq!(covered, 2);
}

/// A setting that is read but changes nothing would pass the tests above, so each must be seen to matter.
#[test]
fn every_setting_matters() {
    let without = |name: &str, changes: serde_json::Value| {
        let mut case = Case::named(name);
        for (field, value) in changes.as_object().unwrap() {
            case.config[field] = value.clone();
        }
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &case.config, &case.tensors());
        case.difference(folder.path(), SimdLevel::detect())
    };
    let plain_rope = serde_json::json!({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}});
    let gemma_ropes = |full: f64, sliding: f64| {
        let plain = |base: f64| serde_json::json!({"rope_type": "default", "rope_theta": base});
        serde_json::json!({"rope_parameters": {"full_attention": plain(full), "sliding_attention": plain(sliding)}})
    };
    for (name, changes) in [
        ("llama, linear", plain_rope.clone()),
        ("llama, llama3", plain_rope.clone()),
        ("llama, yarn", plain_rope.clone()),
        ("qwen3, tied, yarn not truncated", plain_rope.clone()),
        ("llama", serde_json::json!({"rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}})),
        ("llama", serde_json::json!({"rms_norm_eps": 1e-3})),
        ("qwen3moe", serde_json::json!({"norm_topk_prob": false})),
        ("qwen3moe", serde_json::json!({"num_experts_per_tok": 2})),
        ("smollm3", serde_json::json!({"no_rope_layers": [1, 1, 1, 1]})),
        ("smollm3, layers listed, biases, not tied", serde_json::json!({"no_rope_layers": [1, 0]})),
        ("mistral with a window", serde_json::json!({"sliding_window": null})),
        ("mistral with a window", serde_json::json!({"sliding_window": 17})),
        (
            "qwen2 with a window in the second layer",
            serde_json::json!({"use_sliding_window": false, "layer_types": null}),
        ),
        (
            "qwen2 with a window in the second layer",
            serde_json::json!({"layer_types": ["sliding_attention", "sliding_attention"]}),
        ),
        (
            "qwen3 with a window in every other layer",
            serde_json::json!({"layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}),
        ),
        (
            "smollm3 with a window in the layers that do not rotate",
            serde_json::json!({"use_sliding_window": false, "layer_types": null}),
        ),
        ("gemma3", serde_json::json!({"sliding_window": 17})),
        ("gemma3", serde_json::json!({"query_pre_attn_scalar": 32})),
        ("gemma3", serde_json::json!({"layer_types": vec!["sliding_attention"; 7]})),
        ("gemma3", gemma_ropes(1e6, 1e6)),
        ("gemma3", gemma_ropes(1e4, 1e4)),
        ("gemma3, layers listed, linear", gemma_ropes(1e4, 500.0)),
        ("granite", serde_json::json!({"embedding_multiplier": 5.0})),
        ("granite", serde_json::json!({"residual_multiplier": 0.4})),
        ("granite", serde_json::json!({"attention_multiplier": 0.2})),
        ("granite", serde_json::json!({"logits_scaling": 7.0})),
        ("phi3 with a window", serde_json::json!({"sliding_window": null})),
        ("phi3, longrope", plain_rope.clone()),
        ("phi3, longrope", serde_json::json!({"max_position_embeddings": 256})),
    ] {
        let difference = without(name, changes.clone());
        assert!(difference > 10.0 * TOLERANCE, "{name} without {changes}: differs by only {difference}");
    }
}

/// The case as llama.cpp's converter would write it; `None` for settings that a GGUF file cannot express.
pub(super) fn gguf(case: &Case) -> Option<GgufWriter> {
    let config = case.model_config();
    // One tensor for all experts of a layer: as our own writer lays it out, in the test above.
    if config.experts.is_some() {
        return None;
    }
    // Programs that read such files leave rotary embedding out in the last of every four layers.
    if !config.unrotated_layers.iter().all(|layer| (layer + 1).is_multiple_of(4)) {
        return None;
    }
    let architecture = match config.architecture.as_str() {
        "mistral" => "llama",
        "gemma3_text" => "gemma3",
        name => name,
    };
    if !says_windows(&config, architecture) {
        return None;
    }
    let mut file = GgufWriter::new();
    file.set("general.architecture", RawValue::string(architecture));
    let mut set = |key: &str, value| file.set(&format!("{architecture}.{key}"), value);
    for (key, value) in [
        ("vocab_size", config.vocabulary_size),
        ("context_length", config.context_length),
        ("block_count", config.layers),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.rope.rotary_dim),
    ] {
        set(key, RawValue::u32(value as u32));
    }
    set("rope.freq_base", RawValue::f32(config.rope.base as f32));
    set("attention.layer_norm_rms_epsilon", RawValue::f32(config.rms_norm_epsilon));
    if let Some(window) = &config.sliding_window {
        set("attention.sliding_window", RawValue::u32(window.positions as u32));
    }
    if architecture == "granite" {
        let number = |name: &str| RawValue::f32(case.config[name].as_f64().unwrap() as f32);
        set("attention.scale", number("attention_multiplier"));
        set("embedding_scale", number("embedding_multiplier"));
        set("residual_scale", number("residual_multiplier"));
        set("logit_scale", number("logits_scaling"));
    }
    let of_rope = set_scaling(&config, &mut set)?;
    add_weights(&mut file, &config, architecture);
    for (name, numbers) in of_rope {
        file.tensor_f32(name, &[numbers.len()], &numbers);
    }
    Some(file)
}

/// RoPE's scaling, and the tensors that belong to it; `None` for one that a GGUF file cannot express.
fn set_scaling(
    config: &ModelConfig,
    set: &mut impl FnMut(&str, RawValue),
) -> Option<Vec<(&'static str, Vec<f32>)>> {
    match &config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", RawValue::string("linear"));
            set("rope.scaling.factor", RawValue::f32(*factor as f32));
        }
        RopeScaling::Yarn { truncate: false, .. } => return None,
        RopeScaling::Yarn { factor, original_context_length, .. } => {
            set("rope.scaling.type", RawValue::string("yarn"));
            set("rope.scaling.factor", RawValue::f32(*factor as f32));
            set("rope.scaling.original_context_length", RawValue::u32(*original_context_length as u32));
        }
        RopeScaling::Llama3 { .. } => return Some(vec![("rope_freqs.weight", llama3_divisors(config))]),
        RopeScaling::LongRope { factors, attention_factor, original_context_length, .. } => {
            set("rope.scaling.attn_factor", RawValue::f32(*attention_factor as f32));
            set("rope.scaling.original_context_length", RawValue::u32(*original_context_length as u32));
            let short: Vec<f32> = factors.iter().map(|factor| *factor as f32).collect();
            let long: Vec<f32> = short.iter().map(|factor| 2.0 * factor).collect();
            return Some(vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)]);
        }
        RopeScaling::Divisors(_) => unreachable!("only GGUF files have divisors"),
    }
    Some(Vec::new())
}

/// The weights, those of Phi-3's projections one above the other.
fn add_weights(file: &mut GgufWriter, config: &ModelConfig, architecture: &str) {
    const WHOLES: [(&str, &str); 4] =
        [("attn_q.", "attn_qkv."), ("attn_k.", "attn_qkv."), ("attn_v.", "attn_qkv."), ("_gate.", "_up.")];
    for weight in config.weights() {
        let shape = config.shape(weight);
        let mut values = weights(&Naming::of_folder(config).spell(weight), shape.iter().product());
        if matches!(architecture, "llama" | "smollm3" | "granite") {
            values = permuted(weight, config, values);
        }
        let mut name = Naming::Gguf.spell(weight);
        if config.is_fused() {
            name = WHOLES.iter().fold(name, |name, (part, whole)| name.replace(part, whole));
        }
        match file.tensors.iter_mut().find(|above| above.name == name.as_bytes()) {
            Some(above) => {
                above.dimensions[1] += shape[0] as u64;
                above.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            None => file.tensor_f32(&name, &shape, &values),
        }
    }
}

/// Whether such a file, as llama.cpp's converter writes it, says which layers of the model have a window, and what is special to them.
fn says_windows(config: &ModelConfig, architecture: &str) -> bool {
    let Some(window) = &config.sliding_window else { return true };
    let windowed = |layer: usize| window.layers.contains(&layer);
    match architecture {
        "gemma3" => {
            let base = config.windowed_rope.as_ref().unwrap().base;
            let sixth = |layer: usize| (layer + 1).is_multiple_of(6);
            base == 10_000.0
                && config.multipliers.attention.is_none()
                && (0..config.layers).all(|layer| windowed(layer) != sixth(layer))
        }
        "llama" | "phi3" => (0..config.layers).all(windowed),
        _ => false,
    }
}

/// Rows of q and k in the order of interleaved RoPE: row `j` of half `h` of a head goes to `2 j + h`.
fn permuted(weight: WeightName, config: &ModelConfig, values: Vec<f32>) -> Vec<f32> {
    use LayerWeightName as W;
    let (heads, width) = match weight {
        WeightName::Layer(_, W::Query) => (config.heads, config.hidden_size),
        WeightName::Layer(_, W::Key) => (config.kv_heads, config.hidden_size),
        WeightName::Layer(_, W::QueryBias) => (config.heads, 1),
        WeightName::Layer(_, W::KeyBias) => (config.kv_heads, 1),
        _ => return values,
    };
    let half = config.head_dim / 2;
    let row = |index: usize| &values[index * width..(index + 1) * width];
    (0..heads)
        .flat_map(|head| {
            (0..half).flat_map(move |pair| (0..2).map(move |side| head * 2 * half + side * half + pair))
        })
        .flat_map(|index| row(index).to_vec())
        .collect()
}

/// What llama.cpp's converter writes for llama3 scaling.
fn llama3_divisors(config: &ModelConfig) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context_length } =
        config.rope.scaling
    else {
        unreachable!("asked for llama3 scaling only")
    };
    let context = original_context_length as f64;
    let divisor = |pair: usize| {
        let frequency = config.rope.base.powf(-2.0 * pair as f64 / config.head_dim as f64);
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength < context / high_frequency_factor {
            1.0
        } else if wavelength > context / low_frequency_factor {
            factor
        } else {
            let smooth = (context / wavelength - low_frequency_factor)
                / (high_frequency_factor - low_frequency_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..config.head_dim / 2).map(|pair| divisor(pair) as f32).collect()
}
