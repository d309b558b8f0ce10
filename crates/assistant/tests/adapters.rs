//! Adapters beside a model: named, loaded, replaced and unloaded while answers run.

use std::path::Path;

use crate::support::{block_on, question, read, served, write_adapter};
use zhenjin_assistant::{AdapterSpec, AssistantError, CacheSalt, ModelState, ServedModels};

fn spec(name: &str, folder: &Path) -> AdapterSpec {
    AdapterSpec { model: "smollm2".to_owned(), name: name.to_owned(), path: folder.to_owned() }
}

fn text(models: &ServedModels, name: &str) -> String {
    read(block_on(models.get(name)).unwrap().chat(&question("Name the largest planet.")).unwrap()).text
}

#[test]
fn adapters_are_models_of_their_own_beside_their_base() {
    let folder = tempfile::tempdir().unwrap();
    let models = served(Some(512), 1);
    write_adapter(folder.path(), 1.0);
    let plain = text(&models, "smollm2");
    models.load_adapter(spec("poet", folder.path())).unwrap();
    let listed: Vec<_> =
        models.list().into_iter().map(|model| (model.name, model.base, model.state)).collect();
    let base = Some("smollm2".to_owned());
    assert_eq!(listed[0], ("smollm2".to_owned(), None, ModelState::Loaded));
    assert_eq!(listed[1], ("smollm2+poet".to_owned(), base, ModelState::Loaded));
    let adapted = block_on(models.get("smollm2+poet")).unwrap();
    let unadapted = block_on(models.get("smollm2")).unwrap();
    assert_eq!(adapted.info().name, "smollm2+poet");
    assert_ne!(adapted.info().fingerprint, unadapted.info().fingerprint);
    assert!(adapted.info().memory_bytes > unadapted.info().memory_bytes);
    let poet = text(&models, "smollm2+poet");
    assert_ne!(poet, plain);
    assert_eq!(text(&models, "smollm2"), plain);

    // Replaced while an answer runs: that one ends as it began.
    let running = adapted.chat(&question("Name the largest planet.")).unwrap();
    write_adapter(folder.path(), 0.7);
    models.load_adapter(spec("poet", folder.path())).unwrap();
    assert_eq!(read(running).text, poet);
    let replaced = block_on(models.get("smollm2+poet")).unwrap();
    assert_ne!(replaced.info().fingerprint, adapted.info().fingerprint);
    assert!(models.unload_adapter("smollm2+poet"));
    assert!(!models.unload_adapter("smollm2+poet"));
    match block_on(models.get("smollm2+poet")) {
        Err(AssistantError::UnknownModel { known, .. }) => assert_eq!(known, ["smollm2"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_adapter_that_cannot_be_served_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    let refused = |spec: AdapterSpec| models.load_adapter(spec).unwrap_err().to_string();
    let other = AdapterSpec { model: "other".to_owned(), ..spec("poet", folder.path()) };
    assert!(refused(other).contains("served: smollm2"));
    assert!(refused(spec("a+b", folder.path())).contains("`a+b` is not a name for an adapter"));
    assert!(refused(spec("gone", Path::new("/nowhere"))).contains("/nowhere"));
    std::fs::write(
        folder.path().join("adapter_config.json"),
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 1}"#,
    )
    .unwrap();
    assert!(refused(spec("poet", folder.path())).contains("[3, 576]"));
    assert_eq!(models.list().len(), 1);
}

/// Regression: an adapter was read into memory before the limit was asked for it.
#[test]
fn an_adapter_that_finds_no_memory_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    // A hole in the file: whoever reads it finds no header.
    let file = std::fs::File::create(folder.path().join("adapter_model.safetensors")).unwrap();
    file.set_len(8 << 30).unwrap();
    let models = served(Some(512), 1);
    let refused = models.load_adapter(spec("poet", folder.path())).unwrap_err().to_string();
    assert!(refused.contains(&format!("needs {} bytes", 8_u64 << 30)), "{refused}");
    assert!(refused.contains("are free; unload a model, or allow models more memory"), "{refused}");
    assert_eq!(models.list().len(), 1);
}

#[test]
fn owners_do_not_see_each_others_prefixes() {
    let models = served(Some(512), 1);
    let assistant = block_on(models.get("smollm2")).unwrap();
    let cached = |owner: &str| {
        let mut request = question(&"A long question about the sea and its fishes. ".repeat(12));
        request.options.cache_salt = CacheSalt::of_owner(owner);
        request.options.max_tokens = Some(2);
        read(assistant.chat(&request).unwrap()).cached_tokens
    };
    assert_eq!(cached("one"), 0);
    assert!(cached("one") > 0);
    assert_eq!(cached("two"), 0);
}
