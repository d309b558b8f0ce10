//! Decoders that make vectors: vectors of folders and GGUF files against the library sentence-transformers, the same bits in any batch, and which
//! files are told from those of models that write.
//!
//! `tests/golden/make_encoders.py` computed the numbers.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use zhenjin_model::embedder::EmbedderFile;
use zhenjin_model::encoder::{EncoderPooling, PoolingMode};
use zhenjin_model::names::Naming;
use zhenjin_model::testing::golden_weights as weights;
use zhenjin_model::write::{FileRows, FloatType, MetadataValue, Quantisation, write_gguf};
use zhenjin_model::{ModelConfig, ModelFile};
use zhenjin_tensor::SimdLevel;

use super::encoders::runner;
use super::hugging_face_writer::{FolderTensor, write_folder};

/// How far a value may be from the library's, of values below 1; of greater ones relative to them.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    pooling: String,
    normalises: bool,
    texts: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("../golden/embedders.json")).unwrap()
    }

    fn named(name: &str) -> Case {
        Case::all().into_iter().find(|case| case.name == name).unwrap()
    }

    fn has_head(&self) -> bool {
        self.config["architectures"][0].as_str().unwrap().ends_with("ForCausalLM")
    }

    fn class(&self) -> String {
        let class = self.config["architectures"][0].as_str().unwrap();
        format!("{}ForCausalLM", class.strip_suffix("Model").unwrap_or(class.trim_end_matches("ForCausalLM")))
    }

    /// The configuration as that of the model with a head.
    fn with_head(&self) -> Value {
        let mut config = self.config.clone();
        config["architectures"] = json!([self.class()]);
        config
    }

    fn model_config(&self) -> ModelConfig {
        zhenjin_model::config::from_json(self.with_head().to_string().as_bytes()).unwrap().config
    }

    /// The weights, by the names that files without a head lack the beginning of.
    fn tensors(&self, has_head: bool) -> Vec<FolderTensor> {
        let config = self.model_config();
        let tensor = |weight| {
            let name = Naming::HuggingFace.spell(weight);
            let shape = config.shape(weight);
            let values = weights(&name, shape.iter().product());
            match (has_head, name.strip_prefix("model.")) {
                (true, _) => Some(FolderTensor::f32(&name, &shape, &values)),
                (false, Some(name)) => Some(FolderTensor::f32(name, &shape, &values)),
                (false, None) => None,
            }
        };
        config.weights().filter_map(tensor).collect()
    }

    /// The folder as the library saved it, without its own files.
    fn write(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &self.config, &self.tensors(self.has_head()));
        folder
    }

    fn mode(&self) -> PoolingMode {
        PoolingMode::of_name(&self.pooling).unwrap()
    }

    fn pooling(&self) -> EncoderPooling {
        EncoderPooling::of_mode(self.mode(), self.normalises)
    }

    /// A GGUF file of the model, of these types, with the metadata besides its own.
    fn write_gguf(&self, path: &Path, quantisation: Quantisation, more: &[(String, MetadataValue)]) {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &self.with_head(), &self.tensors(true));
        let file = ModelFile::open(folder.path()).unwrap();
        // A file is not written over another one.
        let _ = std::fs::remove_file(path);
        write_gguf(path, file.config(), &FileRows(&file), quantisation, more).unwrap();
    }

    /// What its GGUF file says of the pooling.
    fn pooling_type(&self) -> (String, MetadataValue) {
        let family = self.config["model_type"].as_str().unwrap();
        // Mistral's files say `llama`.
        let architecture = if family == "mistral" { "llama" } else { family };
        let number = self.mode().gguf_number().unwrap();
        (format!("{architecture}.pooling_type"), MetadataValue::u32(number as u32))
    }

    fn check(&self, found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        for (text, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
            for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
                let most = TOLERANCE * expected.abs().max(1.0);
                let difference = (found - expected).abs();
                assert!(
                    difference <= most,
                    "{}: {what}: text {text}, value {place}: {found} instead of {expected}",
                    self.name
                );
            }
        }
    }
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|value| value.to_bits()).collect()).collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let mut vector = vector.to_vec();
    zhenjin_model::encoder::normalise(&mut vector);
    vector
}

#[test]
fn vectors_of_decoders_are_those_of_sentence_transformers() {
    for case in Case::all() {
        let folder = case.write();
        let file = EmbedderFile::open(folder.path()).unwrap();
        assert!(file.is_causal() && EmbedderFile::has_decoder(folder.path()), "{}", case.name);
        assert_eq!(file.unread_settings(), &[] as &[String], "{}", case.name);
        // Without a head, the folder says by itself that it is good for nothing else.
        assert_eq!(EmbedderFile::is_at(folder.path()), !case.has_head(), "{}", case.name);
        assert_eq!(ModelFile::open(folder.path()).is_ok(), case.has_head(), "{}", case.name);
        let is_tied = case.config["tie_word_embeddings"] == true;
        let heads = file.unused_tensors().len();
        assert_eq!(heads, usize::from(case.has_head() && !is_tied), "{}", case.name);
        for simd in SimdLevel::available() {
            let vectors = runner(folder.path(), simd, 2, 512).embed(&case.texts, &case.pooling()).unwrap();
            case.check(&vectors, &case.vectors, &format!("folder, {simd}"));
        }
    }
}

/// A GGUF file says the pooling, and its vectors are of unit length.
#[test]
fn gguf_files_of_decoders_with_a_pooling_type_make_the_same_vectors() {
    for case in Case::all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model.gguf");
        case.write_gguf(&path, Quantisation::Floats(FloatType::F32), &[case.pooling_type()]);
        assert!(EmbedderFile::is_at(&path) && EmbedderFile::is_at(place.path()), "{}", case.name);
        let file = EmbedderFile::open(&path).unwrap();
        let pooling = file.pooling().unwrap();
        assert_eq!(pooling, Some(EncoderPooling::of_mode(case.mode(), true)), "{}", case.name);
        let vectors =
            runner(&path, SimdLevel::detect(), 1, 64).embed(&case.texts[..2], &pooling.unwrap()).unwrap();
        let expected: Vec<Vec<f32>> = case.vectors[..2].iter().map(|vector| unit(vector)).collect();
        case.check(&vectors, &expected, "GGUF");
    }
}

/// A text's vector does not depend on the texts beside it, on threads, or on how texts are divided into passes; of weights of every kind.
#[test]
fn a_vector_of_a_decoder_has_the_same_bits_in_any_batch() {
    let case = Case::named("qwen3, last token, normalised");
    let place = tempfile::tempdir().unwrap();
    let float = Quantisation::Floats(FloatType::F32);
    for (name, quantisation) in [("f32.gguf", float), ("q8_0.gguf", Quantisation::Q8_0)] {
        let path = place.path().join(name);
        case.write_gguf(&path, quantisation, &[case.pooling_type()]);
        for simd in SimdLevel::available() {
            let mut alone = runner(&path, simd, 1, 64);
            for pooling in
                [PoolingMode::Last, PoolingMode::Mean].map(|mode| EncoderPooling::of_mode(mode, true))
            {
                let one =
                    |text: &Vec<u32>| alone.embed(std::slice::from_ref(text), &pooling).unwrap().remove(0);
                let expected = bits(&case.texts.iter().map(one).collect::<Vec<_>>());
                for threads in [1, 3] {
                    let mut together = runner(&path, simd, threads, 512);
                    let vectors = together.embed(&case.texts, &pooling).unwrap();
                    assert_eq!(bits(&vectors), expected, "{name}, {simd}, {threads} threads");
                    let backwards: Vec<Vec<u32>> = case.texts.iter().rev().cloned().collect();
                    let mut vectors = together.embed(&backwards, &pooling).unwrap();
                    vectors.reverse();
                    assert_eq!(bits(&vectors), expected, "{name}, {simd}, backwards");
                }
            }
        }
    }
}

/// Quantised weights are near the others, and a text beyond the limit is refused.
#[test]
fn quantised_decoders_make_vectors_within_their_limits() {
    let case = Case::named("qwen3, last token, normalised");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.gguf");
    case.write_gguf(&path, Quantisation::Q8_0, &[case.pooling_type()]);
    let mut quantised = runner(&path, SimdLevel::detect(), 1, 64);
    let vectors = quantised.embed(&case.texts, &case.pooling()).unwrap();
    for (vector, expected) in vectors.iter().zip(&case.vectors) {
        let cosine: f32 = vector.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99, "{cosine}");
    }
    let shape = quantised.shape();
    assert_eq!((shape.context_length, shape.limited_to(8).context_length), (128, 8));
    let said = shape.limited_to(8).check(&[vec![1; 9]]).unwrap_err().to_string();
    assert_eq!(said, "text 0 has 9 tokens, but the model reads 8 at most; shorten or divide it");
    assert!(shape.limited_to(64).workspace_bytes(64, 2) < shape.workspace_bytes(64, 2));
    let error = quantised.embed(&[vec![1; 129]], &case.pooling()).unwrap_err().to_string();
    assert!(error.contains("text 0 has 129 tokens"), "{error}");
}

#[test]
fn models_that_write_are_told_from_those_that_make_vectors() {
    let case = Case::named("llama, tied, mean");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.gguf");
    let float = Quantisation::Floats(FloatType::F32);
    let pooling_type = |number| ("llama.pooling_type".to_owned(), MetadataValue::u32(number));
    // No pooling type, none, and that of a model that ranks.
    for number in [None, Some(0), Some(4)] {
        let more: Vec<(String, MetadataValue)> = number.map(pooling_type).into_iter().collect();
        case.write_gguf(&path, float, &more);
        assert!(!EmbedderFile::is_at(&path), "{number:?}");
        ModelFile::open(&path).unwrap();
    }
    case.write_gguf(&path, float, &[pooling_type(9)]);
    assert!(EmbedderFile::is_at(&path));
    let error = EmbedderFile::open(&path).unwrap().pooling().unwrap_err().to_string();
    assert!(error.contains("metadata `llama.pooling_type`: 9 is not known"), "{error}");
    // One that reads both ways is refused by its name, and by what its folder says.
    let name = ("general.name".to_owned(), MetadataValue::string("Gte Qwen2 1.5B Instruct"));
    case.write_gguf(&path, float, &[pooling_type(3), name]);
    let error = EmbedderFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("`Gte Qwen2 1.5B Instruct` sees those behind it"), "{error}");
    let case = Case::named("qwen3, tied, first token");
    let mut config = case.config.clone();
    config["auto_map"] = json!({ "AutoModel": "modeling_qwen.Qwen2Model" });
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &config, &case.tensors(true));
    let error = EmbedderFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a program of its own, `modeling_qwen.Qwen2Model`"), "{error}");
    // Without a head and without a weight, the name is that of the files.
    let case = Case::named("llama without a head, mean, normalised");
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = case.tensors(false);
    tensors.retain(|tensor| tensor.name != "layers.1.mlp.up_proj.weight");
    write_folder(folder.path(), &case.config, &tensors);
    let error = EmbedderFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tensor `layers.1.mlp.up_proj.weight` is missing"), "{error}");
    tensors = case.tensors(false);
    tensors.push(FolderTensor::f32("layers.2.mlp.up_proj.weight", &[1], &[0.0]));
    write_folder(folder.path(), &case.config, &tensors);
    let error = EmbedderFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("has no such weight"), "{error}");
}

/// Regression: one long text was one pass, which nothing ended before its last layer.
#[test]
fn a_pass_ends_before_the_next_layer_once_nobody_waits() {
    for name in ["qwen3, last token, normalised", "llama, tied, mean"] {
        let case = Case::named(name);
        let folder = case.write();
        let mut runner = runner(folder.path(), SimdLevel::detect(), 2, 512);
        let expected = runner.embed(&case.texts, &case.pooling()).unwrap();
        let mut asked = 0;
        let is_over = || {
            asked += 1;
            asked == 2
        };
        let ended = runner.embed_unless(&case.texts, &case.pooling(), is_over).unwrap();
        assert_eq!((ended, asked), (None, 2), "{name}");
        // Nothing of it is left in the next pass.
        let again = runner.embed_unless(&case.texts, &case.pooling(), || false).unwrap().unwrap();
        assert_eq!(bits(&again), bits(&expected), "{name}");
    }
}

/// Regression: a text that did not fit into memory was said to be longer than the model reads.
#[test]
fn a_limit_of_memory_is_told_as_one() {
    let case = Case::named("llama, tied, mean");
    let shape = EmbedderFile::open(case.write().path()).unwrap().shape();
    let said = shape.limited_by_memory_to(8).check(&[vec![1; 9]]).unwrap_err().to_string();
    let expected = "text 0 has 9 tokens, but the model reads 8 at most, as the memory limit holds no more; shorten or divide it";
    assert_eq!(said, expected);
    let long = shape.context_length;
    assert!(!shape.limited_by_memory_to(long).is_limited_by_memory());
}

/// Regression: the files of Qwen3-Embedding, which name a class with a head, were said to lack a tensor.
#[test]
fn files_without_a_head_are_those_of_an_embedding_model_whatever_class_they_name() {
    let case = Case::named("qwen3 without a head, last token");
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &case.with_head(), &case.tensors(false));
    let vectors =
        runner(folder.path(), SimdLevel::detect(), 1, 512).embed(&case.texts, &case.pooling()).unwrap();
    case.check(&vectors, &case.vectors, "a class with a head");
    let error = ModelFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tensor `embed_tokens.weight`: its name lacks `model.`"), "{error}");
    assert!(error.contains("these are the files of an embedding model"), "{error}");
}
