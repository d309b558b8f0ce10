//! The store by itself: names, paths, damage, removal.

use std::fs;

use crate::real_model::real_model;
use crate::support::*;
use zhenjin_hub::{ModelStore, ModelStoreError, SilentObserver, pull};

#[test]
fn an_empty_store_lists_nothing_and_says_how_to_get_a_model() {
    let temporary = tempfile::tempdir().unwrap();
    let store = ModelStore::new(temporary.path().join("none"));
    assert!(store.list().unwrap().is_empty());
    let error = store.resolve("smollm2:135m").unwrap_err();
    assert!(error.to_string().contains("smollm2:135m is not on this machine"), "{error}");
    let error = store.resolve("smollm").unwrap_err();
    assert!(error.to_string().contains("smollm2:135m"), "{error}");
    assert!(matches!(store.remove("smollm2:135m"), Err(ModelStoreError::NotInstalled { .. })));
}

#[test]
fn a_path_is_accepted_wherever_a_name_is_but_never_removed() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("model.gguf");
    fs::write(&file, b"12345").unwrap();
    let store = ModelStore::new(temporary.path().join("models"));
    let name = file.to_str().unwrap();
    let model = store.resolve(name).unwrap();
    assert_eq!((model.path.as_path(), model.bytes, &model.manifest), (file.as_path(), 5, &None));
    assert!(matches!(store.remove(name), Err(ModelStoreError::BadName { .. })));
    assert!(file.exists());
}

#[test]
fn damage_is_named_and_does_not_hide_other_models() {
    let bytes = noise(1000, 40);
    let contents = {
        let bytes = bytes.clone();
        TestServer::start(move |request, _| Reply::file(request, &bytes))
    };
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let temporary = tempfile::tempdir().unwrap();
    let store = ModelStore::new(temporary.path());
    let options = options(&hub.url(), hugging_face_only());
    let model = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap();
    fs::create_dir(temporary.path().join("broken--1m")).unwrap();
    fs::write(temporary.path().join("broken--1m/model.json"), b"{").unwrap();
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&model));

    fs::write(&model.path, b"short").unwrap();
    let error = store.resolve("tiny:1m").unwrap_err();
    assert!(error.to_string().contains("5 bytes instead of 1000"), "{error}");
    fs::remove_file(&model.path).unwrap();
    assert!(store.resolve("tiny:1m").unwrap_err().to_string().contains("missing"));
    let repaired = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap();
    assert_eq!(fs::read(repaired.path).unwrap(), bytes);
    store.remove("tiny:1m").unwrap();
    assert!(store.list().unwrap().is_empty());
}

/// Regression: the catalogue's advice was recorded with the model, but never used.
#[test]
fn an_opened_model_follows_the_catalogues_advice_for_sampling() {
    let source = real_model();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("smollm2--135m");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("model.gguf");
    fs::copy(&source, &file).unwrap();
    let bytes = fs::metadata(&file).unwrap().len();
    let manifest = serde_json::json!({
        "name": "tiny:1m", "source": "a test", "open": "model.gguf",
        "files": [{"file": "model.gguf", "bytes": bytes, "sha256": ""}],
        "sampling": {"temperature": 0.25, "top_p": 0.875},
    });
    fs::write(folder.join("model.json"), manifest.to_string()).unwrap();
    let advised = zhenjin_hub::open(&file).unwrap().generation_defaults;
    assert_eq!((advised.temperature, advised.top_p, advised.top_k), (Some(0.25), Some(0.875), None));
    assert_eq!(
        zhenjin_hub::open(&source).unwrap().generation_defaults.temperature.filter(|t| *t == 0.25),
        None
    );
    // Regression: a model that was pulled by an older program kept that program's advice for ever.
    let mut known = manifest;
    known["name"] = "smollm2:135m".into();
    fs::write(folder.join("model.json"), known.to_string()).unwrap();
    let entry = zhenjin_hub::Catalogue::embedded().get("smollm2:135m").unwrap();
    assert_eq!(zhenjin_hub::open(&file).unwrap().generation_defaults, entry.sampling);
}

/// Regression: `tiny--1m` and `tiny:1m` had one folder, so removing the one deleted the other.
#[test]
fn two_hyphens_name_another_model() {
    let temporary = tempfile::tempdir().unwrap();
    let store = ModelStore::new(temporary.path());
    let write = |folder: &str, name: &str| {
        let folder = temporary.path().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("m.gguf"), "x").unwrap();
        let manifest = serde_json::json!({
            "name": name, "source": "a test", "open": "m.gguf",
            "files": [{ "file": "m.gguf", "bytes": 1, "sha256": "" }],
        });
        fs::write(folder.join("model.json"), manifest.to_string()).unwrap();
    };
    write("tiny--1m", "tiny:1m");
    assert!(store.remove("tiny--1m").is_err());
    assert!(store.resolve("tiny:1m").is_ok() && store.resolve("tiny--1m").is_err());

    // A folder of an earlier version moves to the place that is its model's alone.
    fs::rename(temporary.path().join("tiny--1m"), temporary.path().join("away")).unwrap();
    write("tiny--1m", "tiny--1m");
    assert_eq!(store.list().unwrap().len(), 2);
    let moved = store.resolve("tiny--1m").unwrap();
    assert_eq!(moved.path, temporary.path().join("tiny%2D%2D1m").join("m.gguf"));
    assert_eq!(store.resolve("tiny:1m").unwrap().path, temporary.path().join("tiny--1m").join("m.gguf"));
    store.remove("tiny--1m").unwrap();
    assert_eq!(
        store.list().unwrap().iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        ["tiny:1m"]
    );
}
