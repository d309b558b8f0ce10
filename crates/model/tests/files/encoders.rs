//! Encoders: hidden states of every family against Hugging Face transformers, the same bits in any batch, and folders that are refused.
//!
//! `tests/golden/make_encoders.py` computed the numbers.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use zhenjin_model::embedder::{EmbedderFile, EmbedderRunner, EmbedderTextError};
use zhenjin_model::encoder::{Encoder, EncoderFile, EncoderPooling, EncoderWeights, PoolingMode};
use zhenjin_model::testing::golden_weights as weights;
use zhenjin_model::{LoadOptions, ModelError, ModelFile, ReferenceLoader};
use zhenjin_tensor::{EncoderExecutor, ReferenceExecutor, SimdLevel, ThreadTeam};

use super::gguf_writer::{GgufWriter, RawValue};
use super::hugging_face_writer::{FolderTensor, write_folder};

/// How far a value may be from that of transformers; the values reach 2.
const TOLERANCE: f64 = 2e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    tokens: Vec<u32>,
    positions: Vec<usize>,
    hidden: Vec<Vec<f32>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/encoders.json")).unwrap()
}

/// Names and shapes of a model's weights.
fn shapes(config: &Value) -> Vec<(String, Vec<usize>)> {
    let size = |name: &str| config[name].as_u64().unwrap() as usize;
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![size("vocab_size"), hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![size("max_position_embeddings"), hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![size("type_vocab_size"), hidden]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![hidden]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![hidden]),
    ];
    for layer in 0..size("num_hidden_layers") {
        for (name, outputs, inputs) in [
            ("attention.self.query", hidden, Some(hidden)),
            ("attention.self.key", hidden, Some(hidden)),
            ("attention.self.value", hidden, Some(hidden)),
            ("attention.output.dense", hidden, Some(hidden)),
            ("attention.output.LayerNorm", hidden, None),
            ("intermediate.dense", inner, Some(hidden)),
            ("output.dense", hidden, Some(inner)),
            ("output.LayerNorm", hidden, None),
        ] {
            let name = format!("encoder.layer.{layer}.{name}");
            let shape = [outputs].into_iter().chain(inputs).collect();
            shapes.push((format!("{name}.weight"), shape));
            shapes.push((format!("{name}.bias"), vec![outputs]));
        }
    }
    shapes
}

fn tensors(config: &Value) -> Vec<FolderTensor> {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        FolderTensor::f32(&name, &shape, &weights(&name, shape.iter().product()))
    };
    shapes(config).into_iter().map(tensor).collect()
}

fn write(case: &Case) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &case.config, &tensors(&case.config));
    folder
}

pub(super) fn runner(path: &Path, simd: SimdLevel, threads: usize, max_rows: usize) -> EmbedderRunner {
    let options = LoadOptions { simd, team: Arc::new(ThreadTeam::new(threads).unwrap()) };
    EmbedderRunner::load(&EmbedderFile::open(path).unwrap(), &options, max_rows, usize::MAX).unwrap()
}

fn pooling(mode: PoolingMode) -> EncoderPooling {
    EncoderPooling::of_mode(mode, false)
}

fn assert_near(actual: impl Iterator<Item = f64>, expected: &[f32], what: &str) {
    let actual: Vec<f64> = actual.collect();
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        let difference = (actual - f64::from(*expected)).abs();
        assert!(difference <= TOLERANCE, "{what}: {actual} instead of {expected}");
    }
}

#[test]
fn hidden_states_are_those_of_transformers() {
    for case in cases() {
        let folder = write(&case);
        assert!(EncoderFile::is_at(folder.path()));
        let file = EncoderFile::open(folder.path()).unwrap();
        assert_eq!(file.unread_settings(), &[] as &[String], "{}", case.name);
        for simd in SimdLevel::available() {
            let mut runner = runner(folder.path(), simd, 2, 64);
            let texts = [case.tokens.clone()];
            let first = runner.embed(&texts, &pooling(PoolingMode::Cls)).unwrap();
            let last = runner.embed(&texts, &pooling(PoolingMode::Last)).unwrap();
            for (vectors, expected) in [(first, 0), (last, 2)] {
                let what = format!("{} at {simd}", case.name);
                assert_near(vectors[0].iter().map(|value| f64::from(*value)), &case.hidden[expected], &what);
            }
        }
        let mut executor = ReferenceExecutor::new();
        executor.begin_encoding(&[case.tokens.len()]).unwrap();
        let weights = EncoderWeights::load(&file, &mut ReferenceLoader).unwrap();
        let positions: Vec<u32> = file.config().positions_of(&case.tokens).collect();
        let encoder = Encoder { config: file.config(), weights: &weights };
        let hidden = encoder.hidden_states(&mut executor, &case.tokens, &positions).unwrap();
        for (position, expected) in case.positions.iter().zip(&case.hidden) {
            assert_near(hidden.rows().nth(*position).unwrap().iter().copied(), expected, &case.name);
        }
    }
}

/// Regression: a pass went on to the last layer, although nobody waited for it any more.
#[test]
fn a_pass_of_an_encoder_ends_before_the_next_layer_once_nobody_waits() {
    let case = &cases()[0];
    let mut runner = runner(write(case).path(), SimdLevel::detect(), 1, 64);
    let texts = [case.tokens.clone()];
    let mean = pooling(PoolingMode::Mean);
    let expected = runner.embed(&texts, &mean).unwrap();
    assert_eq!(runner.embed_unless(&texts, &mean, || true).unwrap(), None);
    assert_eq!(runner.embed_unless(&texts, &mean, || false).unwrap(), Some(expected));
}

/// A text's vector does not depend on the texts beside it, on threads, or on how texts are divided into passes.
#[test]
fn a_vector_has_the_same_bits_in_any_batch() {
    let case = &cases()[0];
    let folder = write(case);
    let texts: Vec<Vec<u32>> =
        [48, 1, 33, 7, 32, 20, 2].iter().map(|length| case.tokens[48 - length..].to_vec()).collect();
    let pooling = EncoderPooling::of_mode(PoolingMode::Mean, true);
    let bits = |vector: &Vec<f32>| vector.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    for simd in SimdLevel::available() {
        let mut alone = runner(folder.path(), simd, 1, 64);
        let expected: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| bits(&alone.embed(std::slice::from_ref(text), &pooling).unwrap()[0]))
            .collect();
        for threads in [1, 2, 3] {
            let mut together = runner(folder.path(), simd, threads, 64);
            let vectors = together.embed(&texts, &pooling).unwrap();
            assert!(vectors.iter().map(bits).eq(expected.iter().cloned()), "{simd}, {threads} threads");
            let mut backwards = texts.clone();
            backwards.reverse();
            let vectors = together.embed(&backwards, &pooling).unwrap();
            assert!(vectors.iter().rev().map(bits).eq(expected.iter().cloned()), "{simd}, backwards");
        }
        // 64 rows are room for the first two texts, then for two, then for three.
        assert_eq!(alone.texts_of_a_pass(&texts), 2);
        assert_eq!(alone.texts_of_a_pass(&texts[2..]), 2);
        assert_eq!(alone.texts_of_a_pass(&[]), 0);
        assert!(alone.embed(&[], &pooling).unwrap().is_empty());
    }
}

/// Regression: the limit of a pass was raised to the context length, and short texts were packed into passes as long as the longest text.
#[test]
fn a_pass_of_several_texts_keeps_its_limit_below_the_context_length() {
    let case = &cases()[0];
    let folder = write(case);
    let texts: Vec<Vec<u32>> =
        [48, 10, 6, 1, 33].iter().map(|length| case.tokens[48 - length..].to_vec()).collect();
    let pooling = pooling(PoolingMode::Mean);
    let mut narrow = runner(folder.path(), SimdLevel::detect(), 2, 16);
    let mut wide = runner(folder.path(), SimdLevel::detect(), 2, 256);
    assert_eq!(narrow.shape().context_length, 56);
    let mut passes = Vec::new();
    let mut vectors = Vec::new();
    while vectors.len() < texts.len() {
        let left = &texts[vectors.len()..];
        let count = narrow.texts_of_a_pass(left);
        vectors.extend(narrow.embed(&left[..count], &pooling).unwrap());
        passes.push(count);
    }
    assert_eq!(passes, [1, 2, 1, 1]);
    assert_eq!(wide.texts_of_a_pass(&texts), 5);
    assert_eq!(vectors, wide.embed(&texts, &pooling).unwrap());
    // Each of sixteen texts of one token takes a page; so the memory grows with the limit also below the context length.
    let bytes = [2, 16, 64].map(|rows| narrow.shape().workspace_bytes(rows, 2));
    assert!(bytes[0] < bytes[1] && bytes[1] < bytes[2], "{bytes:?}");
}

#[test]
fn heads_prefixes_and_old_names_are_understood() {
    let case = &cases()[0];
    let mut renamed = tensors(&case.config);
    for tensor in &mut renamed {
        let name = tensor.name.replace("LayerNorm.weight", "LayerNorm.gamma");
        tensor.name = format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"));
    }
    renamed.push(FolderTensor::f32("cls.predictions.bias", &[64], &[0.0; 64]));
    renamed.push(FolderTensor::f32("bert.pooler.dense.bias", &[64], &[0.0; 64]));
    let folder = tempfile::tempdir().unwrap();
    let mut config = case.config.clone();
    config["architectures"] = json!(["BertForMaskedLM"]);
    write_folder(folder.path(), &config, &renamed);
    let file = EncoderFile::open(folder.path()).unwrap();
    let mut unused = file.unused_tensors().to_vec();
    unused.sort();
    assert_eq!(unused, ["`bert.pooler.dense.bias`", "`cls.predictions.bias`"]);
    let simd = SimdLevel::detect();
    let vectors = [folder.path(), write(case).path()].map(|path| {
        runner(path, simd, 1, 64)
            .embed(std::slice::from_ref(&case.tokens), &pooling(PoolingMode::Mean))
            .unwrap()
    });
    assert_eq!(vectors[0], vectors[1]);
}

#[test]
fn texts_that_cannot_be_read_are_refused() {
    let case = &cases()[2];
    let folder = write(case);
    let mut runner = runner(folder.path(), SimdLevel::detect(), 1, 64);
    // Positions 0 and 1 are no token's, and one is the padding token's.
    assert_eq!(runner.shape().context_length, 54);
    let good = vec![5; 54];
    for (text, expected) in [
        (vec![], EmbedderTextError::Empty { text: 1 }),
        (vec![5; 55], EmbedderTextError::TooLong { text: 1, tokens: 55, limit: 54, by_memory: false }),
        (vec![5, 64], EmbedderTextError::UnknownToken { text: 1, index: 1, token: 64, vocabulary_size: 64 }),
    ] {
        let error = runner.embed(&[good.clone(), text], &pooling(PoolingMode::Mean)).unwrap_err();
        assert!(matches!(&error, ModelError::EmbedderText(found) if *found == expected), "{error}");
    }
    let vectors = runner.embed(&[good.clone(), good], &pooling(PoolingMode::Max)).unwrap();
    assert_eq!(vectors[0], vectors[1]);
}

/// Regression: a broken weight gave vectors of values that are no numbers, or, where pooling leaves them out, of wrong ones.
#[test]
fn hidden_states_that_are_not_finite_are_an_error() {
    let case = &cases()[0];
    let word = "embeddings.word_embeddings.weight";
    let width = case.config["hidden_size"].as_u64().unwrap() as usize;
    let (good, broken) = (vec![5, 6, 7], vec![5, 9, 7]);
    for value in [f32::NAN, f32::INFINITY] {
        let mut tensors = tensors(&case.config);
        let table = tensors.iter_mut().find(|tensor| tensor.name == word).unwrap();
        let mut values = weights(word, table.shape.iter().product());
        values[9 * width + 3] = value;
        *table = FolderTensor::f32(word, &table.shape.clone(), &values);
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &case.config, &tensors);
        let mut runner = runner(folder.path(), SimdLevel::detect(), 1, 64);
        for mode in PoolingMode::ALL {
            let error = runner.embed(&[good.clone(), broken.clone()], &pooling(mode)).unwrap_err();
            let said = "the hidden states of text 1 are not finite: the weights are broken";
            assert_eq!(error.to_string(), said, "{mode:?}");
        }
        // Texts without that token are not touched.
        runner.embed(std::slice::from_ref(&good), &pooling(PoolingMode::Mean)).unwrap();
    }
}

#[test]
fn folders_that_are_no_encoders_are_refused_by_name() {
    let case = &cases()[0];
    let refusal = |config: &Value, tensors: &[FolderTensor]| {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), config, tensors);
        EncoderFile::open(folder.path()).unwrap_err().to_string()
    };
    let good = tensors(&case.config);
    for (name, value, words) in [
        (
            "model_type",
            json!("gpt2"),
            "`gpt2` is not an encoder that makes embeddings here; such are bert, xlm-roberta",
        ),
        ("architectures", json!(["BertForSequenceClassification"]), "must be one of BertModel"),
        ("hidden_act", json!("gelu_new"), "must be `gelu`, found `gelu_new`"),
        ("position_embedding_type", json!("relative_key"), "must be `absolute`"),
        ("is_decoder", json!(true), "the value `true` is not supported"),
        ("quantization_config", json!({ "quant_method": "gptq" }), "quantised weights are not supported"),
        ("num_attention_heads", json!(5), "cannot be divided among 5 attention heads"),
        ("num_attention_heads", json!(0), "the number of attention heads must be 1 to"),
        ("num_attention_heads", json!(16), "the width of a head must be a multiple of 8"),
        ("hidden_size", json!(1_000_000_000u64), "the hidden size must be 1 to"),
        ("layer_norm_eps", json!(0), "the epsilon of LayerNorm"),
        ("pad_token_id", json!(64), "the padding token 64 is outside the vocabulary"),
        ("vocab_size", json!(null), "field `vocab_size`: the field is missing"),
        ("vocab_size", json!(63), "the configuration implies shape [63, 64], but the file has [64, 64]"),
        ("num_hidden_layers", json!(1), "this bert model of 1 layers has no such weight"),
        ("num_hidden_layers", json!(3), "tensor `encoder.layer.2.attention.self.query.weight` is missing"),
    ] {
        let mut config = case.config.clone();
        config[name] = value;
        let error = refusal(&config, &good);
        assert!(error.contains(words), "{name}: {error}");
    }
    let mut config = case.config.clone();
    config["a_new_setting"] = json!(1);
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &config, &good);
    assert_eq!(EncoderFile::open(folder.path()).unwrap().unread_settings(), ["`a_new_setting`"]);
    let mut more = good.clone();
    more.push(FolderTensor::f32("encoder.layer.0.attention.self.distance_embedding.weight", &[1], &[0.0]));
    assert!(refusal(&case.config, &more).contains("has no such weight"));
    // As a model that writes, it is refused with what it is good for.
    let error = ModelFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("`bert` is an encoder") && error.contains("zhenjin embed"), "{error}");
    assert!(!EncoderFile::is_at(Path::new("/nowhere")));
}

/// The case as llama.cpp's converter writes it.
fn gguf_of(case: &Case) -> GgufWriter {
    let size = |name: &str| RawValue::u32(case.config[name].as_u64().unwrap() as u32);
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", RawValue::string("bert"));
    for (key, name) in [
        ("bert.block_count", "num_hidden_layers"),
        ("bert.context_length", "max_position_embeddings"),
        ("bert.embedding_length", "hidden_size"),
        ("bert.feed_forward_length", "intermediate_size"),
        ("bert.attention.head_count", "num_attention_heads"),
    ] {
        writer.set(key, size(name));
    }
    let epsilon = case.config["layer_norm_eps"].as_f64().unwrap() as f32;
    writer.set("bert.attention.layer_norm_epsilon", RawValue::f32(epsilon));
    writer.set("bert.attention.causal", RawValue::bool(0));
    writer.set("bert.pooling_type", RawValue::u32(1));
    for tensor in tensors(&case.config) {
        let values: Vec<f32> = weights(&tensor.name, tensor.shape.iter().product());
        writer.tensor_f32(&gguf_name(&tensor.name), &tensor.shape, &values);
    }
    writer
}

fn gguf_name(name: &str) -> String {
    let mut name = name.replace("encoder.layer.", "blk.");
    for (from, to) in [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ] {
        name = name.replace(from, to);
    }
    name
}

#[test]
fn a_gguf_file_gives_the_bits_of_the_folder() {
    let case = &cases()[0];
    let (folder, place) = (write(case), tempfile::tempdir().unwrap());
    let path = place.path().join("encoder.gguf");
    std::fs::write(&path, gguf_of(case).bytes()).unwrap();
    assert!(EncoderFile::is_at(&path));
    let file = EncoderFile::open(&path).unwrap();
    assert_eq!(file.config(), EncoderFile::open(folder.path()).unwrap().config());
    let expected = EncoderPooling::of_mode(PoolingMode::Mean, true);
    assert_eq!(file.pooling().unwrap(), Some(expected.clone()));
    let vectors = [path.as_path(), folder.path()].map(|path| {
        runner(path, SimdLevel::detect(), 2, 64).embed(std::slice::from_ref(&case.tokens), &expected).unwrap()
    });
    assert_eq!(vectors[0], vectors[1]);
    for path in [path.as_path(), place.path()] {
        let error = ModelFile::open(path).unwrap_err().to_string();
        assert!(error.contains("`bert` is an encoder"), "{error}");
    }
    // A folder with this file alone is the same model, also beside the config.json that it was made from; two files are no model.
    assert!(EncoderFile::is_at(place.path()));
    std::fs::write(place.path().join("config.json"), case.config.to_string()).unwrap();
    let found = EncoderFile::open(place.path()).unwrap();
    assert_eq!((found.path(), found.config()), (path.as_path(), file.config()));
    std::fs::remove_file(place.path().join("config.json")).unwrap();
    std::fs::copy(&path, place.path().join("another.gguf")).unwrap();
    assert!(!EncoderFile::is_at(place.path()));
    let error = EncoderFile::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("holds 2 GGUF models; give the path of one of them"), "{error}");
}

/// Regression: llama.cpp writes XLM-RoBERTa's single row of token types without its dimension of 1, and such files were refused.
#[test]
fn a_gguf_file_whose_table_of_one_row_has_one_dimension_gives_the_bits_of_the_folder() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "xlm-roberta").unwrap();
    let (folder, place) = (write(case), tempfile::tempdir().unwrap());
    let (padding, hidden) = (1u32, 64u64);
    let mut writer = gguf_of(case);
    assert_eq!(writer.tensor("token_types.weight").dimensions, [hidden, 1]);
    writer.tensor("token_types.weight").dimensions = vec![hidden];
    // The converter leaves out the positions that no text has.
    let positions = writer.tensor("position_embd.weight");
    let left_out = u64::from(padding) + 1;
    positions.dimensions[1] -= left_out;
    positions.data.drain(..(left_out * hidden) as usize * size_of::<f32>());
    let path = place.path().join("encoder.gguf");
    std::fs::write(&path, writer.bytes()).unwrap();
    let text: Vec<u32> = case.tokens.iter().copied().filter(|token| *token != padding).collect();
    let mean = pooling(PoolingMode::Mean);
    for simd in SimdLevel::available() {
        let vectors = [path.as_path(), folder.path()]
            .map(|path| runner(path, simd, 1, 64).embed(std::slice::from_ref(&text), &mean).unwrap());
        assert_eq!(vectors[0], vectors[1], "{simd}");
    }
    // A row of another width is still refused.
    writer.tensor("token_types.weight").dimensions = vec![hidden / 2];
    writer.tensor("token_types.weight").data.truncate(hidden as usize / 2 * size_of::<f32>());
    std::fs::write(&path, writer.bytes()).unwrap();
    let error = EncoderFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("the configuration implies shape [1, 64], but the file has [1, 32]"), "{error}");
}

#[test]
fn gguf_files_that_are_no_encoders_are_refused_by_name() {
    let case = &cases()[0];
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("encoder.gguf");
    let refusal = |change: &dyn Fn(&mut GgufWriter)| {
        let mut writer = gguf_of(case);
        change(&mut writer);
        std::fs::write(&path, writer.bytes()).unwrap();
        let opened = EncoderFile::open(&path).and_then(|file| file.pooling());
        opened.unwrap_err().to_string()
    };
    for (change, words) in [
        (
            &(|w: &mut GgufWriter| w.set("general.architecture", RawValue::string("llama")))
                as &dyn Fn(&mut _),
            "not a GGUF file of the architecture `bert`",
        ),
        (
            &|w: &mut GgufWriter| w.remove("bert.block_count"),
            "metadata `bert.block_count`: the key is missing",
        ),
        (&|w: &mut GgufWriter| w.set("bert.attention.causal", RawValue::bool(1)), "encoders read both ways"),
        (&|w: &mut GgufWriter| w.set("bert.pooling_type", RawValue::u32(4)), "a model that ranks"),
        (&|w: &mut GgufWriter| w.set("bert.pooling_type", RawValue::u32(9)), "9 is not known"),
        (
            &|w: &mut GgufWriter| w.set("bert.attention.head_count", RawValue::u32(5)),
            "cannot be divided among 5",
        ),
        (&|w: &mut GgufWriter| w.set("bert.block_count", RawValue::u32(1)), "has no such weight"),
        (
            &|w: &mut GgufWriter| w.set("bert.block_count", RawValue::u32(3)),
            "tensor `blk.2.attn_q.weight` is missing",
        ),
        (
            &|w: &mut GgufWriter| w.set("bert.feed_forward_length", RawValue::u32(8)),
            "the configuration implies shape",
        ),
        (&|w: &mut GgufWriter| drop(w.tensors.remove(0)), "tensor `token_embd.weight`: it is missing"),
    ] {
        let error = refusal(change);
        assert!(error.contains(words), "{words}: {error}");
    }
}
