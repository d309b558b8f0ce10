//! Folders of sentence-transformers: every way to pool and every layer behind it gives the library's vectors, and what is not supported is
//! refused by name.
//!
//! `tests/golden/make_vectors.py` wrote the folders and computed the vectors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use zhenjin_assistant::{EmbedInput, Embedder, ModelSpec};
use zhenjin_model::LoadOptions;
use zhenjin_tensor::{SimdLevel, ThreadTeam};

/// How far a value may be from the library's; they reach 2.
const TOLERANCE: f32 = 4e-6;

/// Texts by path; of weights, their bytes in hexadecimal digits.
type Files = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    shared: Files,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    files: Files,
    vectors: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/vectors.json")).expect("the file is well formed")
}

impl Golden {
    fn write(&self, name: &str) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let case = self.cases.iter().find(|case| case.name == name).expect("a case");
        for (path, text) in self.shared.iter().chain(&case.files) {
            let place = folder.path().join(path);
            std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
            let byte = |place| u8::from_str_radix(&text[place..place + 2], 16).expect("two digits");
            let is_text = !path.ends_with(".safetensors");
            let bytes = if is_text {
                text.clone().into_bytes()
            } else {
                (0..text.len()).step_by(2).map(byte).collect()
            };
            std::fs::write(place, bytes).expect("a file");
        }
        folder
    }

    fn vectors(&self, folder: &Path) -> Result<Vec<Vec<f32>>, String> {
        let team = Arc::new(ThreadTeam::new(1).expect("no thread"));
        let options = LoadOptions { simd: SimdLevel::detect(), team };
        let embedder = Embedder::load(folder, None, &options).map_err(|error| error.to_string())?;
        let texts: Vec<EmbedInput> = self.texts.iter().cloned().map(EmbedInput::Text).collect();
        let going = AtomicBool::new(false);
        let tokens = embedder.tokens(&texts, None, &going).map_err(|error| error.to_string())?;
        let vectors = embedder.embed(&tokens, None, &going);
        let vectors = vectors.map_err(|error| error.to_string())?;
        assert!(vectors.iter().all(|vector| vector.len() == embedder.dimensions()));
        Ok(vectors)
    }
}

/// Changes a JSON file.
fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    change(&mut value);
    std::fs::write(path, value.to_string()).expect("a file");
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let golden = golden();
    for case in &golden.cases {
        let folder = golden.write(&case.name);
        let vectors = golden.vectors(folder.path()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(vectors.len(), case.vectors.len());
        for (found, expected) in vectors.iter().zip(&case.vectors) {
            assert_eq!(found.len(), expected.len(), "{}", case.name);
            let most = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most <= TOLERANCE, "{}: {found:?} instead of {expected:?}", case.name);
        }
        let opened = zhenjin_hub::open_embedder(folder.path()).expect("it was opened before");
        assert_eq!(opened.warnings, Vec::<String>::new(), "{}", case.name);
    }
}

/// A text that was far too long was named before an input without tokens that came before it.
#[test]
fn the_first_input_that_cannot_be_read_is_named() {
    let golden = golden();
    let folder = golden.write(&golden.cases[0].name);
    let team = Arc::new(ThreadTeam::new(1).expect("no thread"));
    let options = LoadOptions { simd: SimdLevel::detect(), team };
    let embedder = Embedder::load(folder.path(), None, &options).expect("an encoder");
    let far_too_long = || EmbedInput::Text("the cat sat on a mat ".repeat(1 << 16));
    let error = |inputs: &[EmbedInput]| {
        embedder.tokens(inputs, None, &AtomicBool::new(false)).expect_err("too long").to_string()
    };
    assert!(error(&[far_too_long()]).contains("text 0 has more than"));
    let text = error(&[EmbedInput::Tokens(Vec::new()), far_too_long()]);
    assert!(text.contains("text 0 has no tokens"), "{text}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let golden = golden();
    let layers = "dense with tanh, normalised";
    let (dense, pooling) = ("2_Dense/config.json", "1_Pooling/config.json");
    let normalise = "3_Normalize/config.json";
    let changes: [(&str, &str, Value, &str); 17] = [
        (
            "modules.json",
            "/2/type",
            json!("sentence_transformers.models.LSTM"),
            "module 2 is `LSTM`; supported are",
        ),
        ("modules.json", "/2/type", json!("elsewhere.Dense"), "module 2 is `elsewhere.Dense`"),
        ("modules.json", "/2/path", json!("../2_Dense"), "is not a folder inside the model's own"),
        ("modules.json", "/2/path", json!("3_Dense"), "it is missing; it says what the layer computes"),
        (pooling, "/pooling_mode", json!("median"), "the pooling mode \"median\" is not supported"),
        (dense, "/in_features", json!(17), "in_features is 17, but the width of what comes before it is 16"),
        (dense, "/out_features", json!(13), "shape [13, 16], but the file has [12, 16]"),
        (dense, "/out_features", json!(1u64 << 40), "out_features must be 1 to 65536"),
        (
            dense,
            "/bias",
            json!(false),
            "tensor `linear.bias`: the configuration says that this layer has no such weight",
        ),
        (
            dense,
            "/activation_function",
            json!("torch.nn.modules.activation.GELU"),
            "supported are PyTorch's Identity, Tanh",
        ),
        (
            dense,
            "/module_input_name",
            json!("token_embeddings"),
            "module_input_name must be `sentence_embedding`",
        ),
        (dense, "/use_residual", json!(true), "use_residual is not supported"),
        (
            "sentence_bert_config.json",
            "/transformer_task",
            json!("fill-mask"),
            "must be `feature-extraction`",
        ),
        (
            "sentence_bert_config.json",
            "/module_output_name",
            json!("sentence_embedding"),
            "module_output_name must be `token_embeddings`",
        ),
        (
            "sentence_bert_config.json",
            "/modality_config/text/method_output_name",
            json!("pooler_output"),
            "modality_config.text.method_output_name must be `last_hidden_state`",
        ),
        // Regression: what Normalize divides was not read.
        (
            normalise,
            "/module_input_name",
            json!("token_embeddings"),
            "module_input_name must be `sentence_embedding`",
        ),
        (
            normalise,
            "/module_output_name",
            json!("token_embeddings"),
            "module_output_name must be `sentence_embedding`",
        ),
    ];
    for (file, place, value, words) in changes {
        let folder = golden.write(layers);
        change(folder.path(), file, |document| {
            let (parent, name) = place.rsplit_once('/').expect("a name");
            document.pointer_mut(parent).expect("a place")[name] = value;
        });
        let error = golden.vectors(folder.path()).expect_err(words);
        assert!(error.contains(words), "{place}: {error}");
    }
}

/// Regression: the setting was ignored without a word, and vectors were longer than those of sentence-transformers.
#[test]
fn of_each_vector_as_many_values_are_kept_as_the_makers_say() {
    let golden = golden();
    let name = "dense without a bias";
    let keep = |folder: &Path, count: u64| {
        change(folder, "config_sentence_transformers.json", |settings| {
            settings["truncate_dim"] = json!(count)
        });
    };
    let folder = golden.write(name);
    let whole = golden.vectors(folder.path()).expect("vectors");
    keep(folder.path(), 5);
    for (short, whole) in golden.vectors(folder.path()).expect("vectors").iter().zip(&whole) {
        assert_eq!(short[..], whole[..5]);
    }
    assert!(zhenjin_hub::open_embedder(folder.path()).expect("it opens").warnings.is_empty());
    // Whoever asks for another number gets it.
    let team = Arc::new(ThreadTeam::new(1).expect("no thread"));
    let options = LoadOptions { simd: SimdLevel::detect(), team };
    let embedder = Embedder::load(folder.path(), None, &options).expect("an encoder");
    let vectors = embedder.embed(&[vec![2, 5, 3]], Some(7), &AtomicBool::new(false)).expect("a vector");
    assert_eq!((vectors[0].len(), embedder.dimensions()), (7, 5));
    keep(folder.path(), 9);
    let error = golden.vectors(folder.path()).expect_err("too many");
    let expected =
        "config_sentence_transformers.json: truncate_dim is 9, but the model's vectors have 8 values";
    assert!(error.contains(expected), "{error}");
    // Vectors of unit length are so again.
    let normalised = golden.write("normalised");
    keep(normalised.path(), 3);
    for vector in golden.vectors(normalised.path()).expect("vectors") {
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!(vector.len() == 3 && (length - 1.0).abs() < 1e-5, "{vector:?}");
    }
}

/// Regression: such an encoder was listed among those that embed, and then refused at every request, with advice for another command.
#[test]
fn an_encoder_that_does_not_say_how_to_pool_is_refused_before_it_is_served() {
    let golden = golden();
    let folder = golden.write("mean");
    let spec = ModelSpec { name: "encoder".to_owned(), path: folder.path().to_owned() };
    spec.check().expect("an encoder");
    std::fs::remove_file(folder.path().join("modules.json")).expect("a file");
    let error = spec.check().expect_err("it does not say how to pool").to_string();
    assert!(error.contains("has no modules.json") && !error.contains("say it"), "{error}");
}

#[test]
fn layers_in_another_order_and_without_weights_are_refused() {
    let golden = golden();
    let layers = "dense with tanh, normalised";
    let folder = golden.write(layers);
    change(folder.path(), "modules.json", |modules| {
        let layer = modules[2].clone();
        modules[2] = std::mem::replace(&mut modules[3], layer);
    });
    let error = golden.vectors(folder.path()).expect_err("a layer behind Normalize");
    assert!(error.contains("module 3 is `Dense`"), "{error}");
    let folder = golden.write(layers);
    std::fs::remove_file(folder.path().join("2_Dense/model.safetensors")).expect("a file");
    let error = golden.vectors(folder.path()).expect_err("no weights");
    assert!(error.contains("2_Dense") && error.contains("model.safetensors"), "{error}");
}

#[test]
fn what_nothing_reads_is_said() {
    let golden = golden();
    let folder = golden.write("dense without a bias");
    for file in ["1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json"] {
        change(folder.path(), file, |settings| settings["a_new_setting"] = json!(1));
    }
    change(folder.path(), "config_sentence_transformers.json", |settings| {
        settings["prompts"] = json!({ "query": "the " });
        settings["default_prompt_name"] = json!("query");
        settings["a_new_setting"] = json!(1);
    });
    let normalised = golden.write("normalised");
    change(normalised.path(), "2_Normalize/config.json", |settings| settings["a_new_setting"] = json!(1));
    let warnings = zhenjin_hub::open_embedder(normalised.path()).expect("it opens").warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("2_Normalize"), "{warnings:?}");
    // Earlier versions of the library wrote no file for it.
    std::fs::remove_dir_all(normalised.path().join("2_Normalize")).expect("a folder");
    assert!(zhenjin_hub::open_embedder(normalised.path()).expect("it opens").warnings.is_empty());
    let opened = zhenjin_hub::open_embedder(folder.path()).expect("it opens");
    let said = |words: &str| opened.warnings.iter().filter(|warning| warning.contains(words)).count();
    assert_eq!((opened.warnings.len(), said("nothing reads the setting `a_new_setting`")), (5, 4));
    assert_eq!(said("the makers put the prompt `query` (\"the \") before texts"), 1, "{:?}", opened.warnings);
    assert_eq!(opened.prompts["query"], "the ");
}
