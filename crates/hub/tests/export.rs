//! Models written anew: from a folder to a GGUF file and back, with all that text needs.

use std::fs;
use std::path::Path;

use crate::tiny_model::{TEMPLATE, vocabulary, write_tiny_model};
use zhenjin_hub::{ExportError, export_gguf, export_hugging_face, open};
use zhenjin_model::TensorSource;
use zhenjin_model::write::{FloatType, Quantisation};
use zhenjin_tokenizer::Specials;

const F32: Quantisation = Quantisation::Floats(FloatType::F32);

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).unwrap()
}

#[test]
fn a_folder_becomes_a_gguf_file_and_a_folder_again() {
    let temporary = tempfile::tempdir().unwrap();
    let [source, gguf, back] = ["source", "model.gguf", "back"].map(|name| temporary.path().join(name));
    write_tiny_model(&source, FloatType::F32);
    let first = open(&source).unwrap();
    export_gguf(&first, None, &gguf, F32).unwrap();
    let second = open(&gguf).unwrap();
    export_hugging_face(&second, None, &back, FloatType::F32).unwrap();
    let third = open(&back).unwrap();
    assert_eq!(weights(&source), weights(&back));
    assert_eq!(third.file.config(), first.file.config());
    assert!(second.file.unused_tensors().is_empty() && second.file.unread_settings().is_empty());
    for other in [&second, &third] {
        assert_eq!(other.generation_defaults, first.generation_defaults);
        for text in ["hello <|im_start|>真<|im_end|>", "it's 2026"] {
            let ids =
                |model: &zhenjin_hub::OpenedModel| model.tokenizer.encode(text, Specials::Parse).unwrap();
            assert_eq!(ids(other), ids(&first));
        }
        let ends = |model: &zhenjin_hub::OpenedModel| {
            let mut ends = model.tokenizer.end_of_turn().to_vec();
            ends.sort_unstable();
            ends
        };
        assert_eq!((other.tokenizer.eos(), ends(other)), (Some(261), ends(&first)));
    }
    let template = second.file.gguf().unwrap().string("tokenizer.chat_template").unwrap();
    assert_eq!(template, Some(TEMPLATE));
    assert_eq!(fs::read_to_string(back.join("chat_template.jinja")).unwrap(), TEMPLATE);
    // A GGUF file made of the GGUF file keeps its tokenizer and template as they are.
    let again = temporary.path().join("again.gguf");
    export_gguf(&second, None, &again, F32).unwrap();
    assert_eq!(fs::read(&gguf).unwrap().len(), fs::read(&again).unwrap().len());
    assert_eq!(open(&again).unwrap().generation_defaults, first.generation_defaults);
}

/// Regression: the two rows that no token has became tokens, `[PAD262]` and `[PAD263]`, which a model could write from a GGUF file, and from a
/// folder made of that.
#[test]
fn rows_that_no_token_has_are_no_tokens_in_any_format() {
    let temporary = tempfile::tempdir().unwrap();
    let [source, gguf, back, again] =
        ["source", "model.gguf", "back", "again.gguf"].map(|name| temporary.path().join(name));
    write_tiny_model(&source, FloatType::F32);
    let first = open(&source).unwrap();
    export_gguf(&first, None, &gguf, F32).unwrap();
    let second = open(&gguf).unwrap();
    export_hugging_face(&second, None, &back, FloatType::F32).unwrap();
    export_gguf(&second, None, &again, F32).unwrap();
    for path in [&source, &gguf, &back, &again] {
        let model = open(path).unwrap();
        assert_eq!(model.file.config().vocabulary_size, 264, "{}", path.display());
        assert_eq!(model.tokenizer.vocabulary_size(), 262, "{}", path.display());
        let spelled = |tokenizer: &zhenjin_tokenizer::Tokenizer| {
            tokenizer.encode("[PAD262] [PAD263]", Specials::Parse).unwrap()
        };
        assert_eq!(spelled(&model.tokenizer), spelled(&first.tokenizer), "{}", path.display());
    }
    // Every row has an entry in the file, as llama.cpp wants it.
    for path in [&gguf, &again] {
        let model = open(path).unwrap();
        let tokens = model.file.gguf().unwrap().strings("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(tokens.count(), 264, "{}", path.display());
    }
}

/// `config.json` and `generation_config.json` often name different ids: a model stops at any of them.
#[test]
fn a_turn_ends_at_every_id_that_either_file_names() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = &temporary.path().join("model");
    write_tiny_model(folder, FloatType::F32);
    let ends_with = |config: serde_json::Value, generation: serde_json::Value| {
        for (file, ids) in [("config.json", config), ("generation_config.json", generation)] {
            let path = folder.join(file);
            let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            json["eos_token_id"] = ids;
            fs::write(&path, json.to_string()).unwrap();
        }
        let mut ends = open(folder).unwrap().tokenizer.end_of_turn().to_vec();
        ends.sort_unstable();
        ends
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let tokenizers_own = ends_with(json("null"), json("null"));
    for (config, generation, named) in [
        ("5", "[7, 9]", vec![5, 7, 9]),
        ("[5, 6]", "7", vec![5, 6, 7]),
        ("5", "null", vec![5]),
        ("null", "7", vec![7]),
    ] {
        let mut expected: Vec<u32> = tokenizers_own.iter().copied().chain(named).collect();
        expected.sort_unstable();
        assert_eq!(ends_with(json(config), json(generation)), expected, "{config} {generation}");
    }
}

/// Regressions: a GGUF file lost the ends of turns that only the two configurations name, both formats the template for tools, and a folder
/// without `generation_config.json` the ends that `config.json` names.
#[test]
fn ends_of_turns_and_the_template_for_tools_come_along() {
    const TOOLS: &str = "{% for tool in tools %}{{ tool.name }}{% endfor %}<|im_start|>";
    let temporary = tempfile::tempdir().unwrap();
    let [source, gguf, back, copy] =
        ["source", "model.gguf", "back", "copy"].map(|name| temporary.path().join(name));
    write_tiny_model(&source, FloatType::F32);
    for (file, ids) in
        [("config.json", serde_json::json!([5, 261])), ("generation_config.json", serde_json::json!([7, 9]))]
    {
        let path = source.join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["eos_token_id"] = ids;
        fs::write(&path, json.to_string()).unwrap();
    }
    fs::write(source.join("chat_template.jinja"), TEMPLATE).unwrap();
    fs::create_dir(source.join("additional_chat_templates")).unwrap();
    fs::write(source.join("additional_chat_templates/tool_use.jinja"), TOOLS).unwrap();
    let first = open(&source).unwrap();
    export_gguf(&first, None, &gguf, F32).unwrap();
    let second = open(&gguf).unwrap();
    export_hugging_face(&second, None, &back, FloatType::F32).unwrap();
    export_hugging_face(&first, None, &copy, FloatType::F32).unwrap();
    let (third, fourth) = (open(&back).unwrap(), open(&copy).unwrap());
    for model in [&first, &second, &third, &fourth] {
        let path = model.file.path();
        let mut ends = model.tokenizer.end_of_turn().to_vec();
        ends.sort_unstable();
        assert_eq!(ends, [5, 7, 9, 259, 261], "{}", path.display());
        assert_eq!(model.tokenizer.eos(), Some(261), "{}", path.display());
        assert!(
            model.template.as_ref().is_some_and(|template| template.supports_tools()),
            "{}",
            path.display()
        );
    }
    let metadata = second.file.gguf().unwrap();
    assert_eq!(metadata.string("tokenizer.chat_template").unwrap(), Some(TEMPLATE));
    assert_eq!(metadata.string("tokenizer.chat_template.tool_use").unwrap(), Some(TOOLS));
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(copy.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["eos_token_id"][0], 261);
}

#[test]
fn a_folder_without_advice_gets_what_other_programs_ask_for() {
    let temporary = tempfile::tempdir().unwrap();
    let [source, copy] = ["source", "copy"].map(|name| temporary.path().join(name));
    write_tiny_model(&source, FloatType::F32);
    for file in ["generation_config.json", "tokenizer_config.json"] {
        fs::remove_file(source.join(file)).unwrap();
    }
    export_hugging_face(&open(&source).unwrap(), None, &copy, FloatType::F32).unwrap();
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(copy.join(file)).unwrap()).unwrap()
    };
    assert_eq!(json("tokenizer_config.json")["tokenizer_class"], "PreTrainedTokenizerFast");
    let mut ends: Vec<u64> = json("generation_config.json")["eos_token_id"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap())
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, [259, 261]);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    write_tiny_model(&path("source"), FloatType::F16);
    let source = open(&path("source")).unwrap();
    let written = export_gguf(&source, None, &path("q8.gguf"), Quantisation::Q8_0).unwrap();
    assert!(written.fallbacks.is_empty());
    let quantised = open(&path("q8.gguf")).unwrap();
    let view = quantised.file.tensor(zhenjin_model::WeightName::Embedding).unwrap();
    assert_eq!(view.dtype.name(), "Q8_0");
    for error in [
        export_gguf(&quantised, None, &path("again.gguf"), Quantisation::Q8_0).unwrap_err(),
        export_hugging_face(&quantised, None, &path("folder"), FloatType::F32).unwrap_err(),
    ] {
        assert!(matches!(error, ExportError::Quantised { dtype: "Q8_0", .. }), "{error}");
        assert!(error.to_string().contains("token_embd.weight"), "{error}");
    }
    // More tokens than rows: no model could have answered with them.
    let mut padded = vocabulary().padded_to(300);
    padded.token_types.resize(262, 1);
    padded.token_types.resize(300, 1);
    let (tokenizer, _) = padded.to_tokenizer_json().unwrap();
    fs::write(path("source").join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let larger = open(&path("source")).unwrap();
    let error = export_gguf(&larger, None, &path("larger.gguf"), F32).unwrap_err().to_string();
    assert!(error.contains("300 tokens") && error.contains("264 rows"), "{error}");
    // Words that no GGUF file has a name for.
    let (mut tokenizer, _) = vocabulary().to_tokenizer_json().unwrap();
    tokenizer["normalizer"] = serde_json::json!({ "type": "Lowercase" });
    fs::write(path("source").join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let lowercase = open(&path("source")).unwrap();
    let error = export_gguf(&lowercase, None, &path("lowercase.gguf"), F32).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("Lowercase"), "{error}");
    assert!(!path("lowercase.gguf").exists() && !path("larger.gguf").exists());
}

/// Regression: a folder that named no padding token got that of the class in transformers, which may be beyond the vocabulary.
#[test]
fn a_written_folder_names_its_padding_token_or_that_there_is_none() {
    let temporary = tempfile::tempdir().unwrap();
    let source = temporary.path().join("source");
    write_tiny_model(&source, FloatType::F32);
    let config = |folder: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
    };
    for (name, padding) in [("none", serde_json::Value::Null), ("one", 7.into())] {
        let mut json = config(&source);
        json["pad_token_id"] = padding.clone();
        fs::write(source.join("config.json"), json.to_string()).unwrap();
        let out = temporary.path().join(name);
        export_hugging_face(&open(&source).unwrap(), None, &out, FloatType::F32).unwrap();
        assert_eq!(config(&out).get("pad_token_id"), Some(&padding), "{name}");
    }
}
