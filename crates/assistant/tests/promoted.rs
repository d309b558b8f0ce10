//! Trained weights that answer under a model's own name: promoted, replaced and rolled back while answers run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{block_on, question, read, real_model, served, write_adapter};
use zhenjin_assistant::{
    AdapterChanges, AdapterSpec, AssistantError, ModelSpec, PromotedWeights, ServedModels, TextGeneration,
};

const QUESTION: &str = "Name the largest planet.";

fn adapter(id: &str, folder: &Path) -> Option<PromotedWeights> {
    Some(PromotedWeights::Adapter { id: id.to_owned(), path: folder.to_owned() })
}

/// Adapters that no longer answer, and those that answer again.
fn changes(unloaded: &[&str], loaded: &[&str]) -> AdapterChanges {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    AdapterChanges { unloaded: names(unloaded), loaded: names(loaded) }
}

/// Which weights answer, and what they answer.
fn answer(models: &ServedModels, name: &str) -> (String, String) {
    let assistant = block_on(models.get(name)).unwrap();
    assert_eq!(assistant.info().name, name);
    let fingerprint = assistant.info().fingerprint.clone();
    let mut request = question(QUESTION);
    request.options.max_tokens = Some(8);
    (fingerprint, read(assistant.chat(&request).unwrap()).text)
}

/// An answer that is under way.
fn begin(models: &ServedModels) -> TextGeneration {
    let mut request = question(QUESTION);
    request.options.max_tokens = Some(8);
    block_on(models.get("smollm2")).unwrap().chat(&request).unwrap()
}

fn poet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/poet.gguf")
}

#[test]
fn what_is_promoted_answers_under_the_models_own_name_and_the_base_stays() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    let plain = answer(&models, "smollm2");
    let running = begin(&models);
    let unchanged = AdapterChanges::default();
    assert_eq!(models.promote("smollm2", adapter("first", folder.path())).unwrap(), unchanged);
    assert_eq!(read(running).text, plain.1);
    let promoted = answer(&models, "smollm2");
    assert_ne!(promoted.0, plain.0);
    assert_ne!(promoted.1, plain.1);
    assert_eq!(answer(&models, "smollm2+base"), plain);
    let listed: Vec<_> = models.list().into_iter().map(|model| (model.name, model.promoted)).collect();
    let first = Some("first".to_owned());
    assert_eq!(listed, [("smollm2".to_owned(), first), ("smollm2+base".to_owned(), None)]);
    assert_eq!(models.promote("smollm2", None).unwrap(), unchanged);
    assert_eq!(answer(&models, "smollm2"), plain);
    assert_eq!(models.list().len(), 1);
}

#[test]
fn whole_weights_replace_the_models_own_and_are_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    let plain = answer(&models, "smollm2");
    let spec =
        AdapterSpec { model: "smollm2".to_owned(), name: "tuned".to_owned(), path: folder.path().to_owned() };
    models.load_adapter(spec).unwrap();
    let tuned = answer(&models, "smollm2+tuned");
    let running = begin(&models);
    let whole = PromotedWeights::Model { id: "whole".to_owned(), path: poet() };
    assert_eq!(models.promote("smollm2", Some(whole)).unwrap(), changes(&["smollm2+tuned"], &[]));
    assert_eq!(read(running).text, plain.1);
    let replaced = answer(&models, "smollm2");
    assert_ne!(replaced.0, plain.0);
    assert_eq!(answer(&models, "smollm2+base"), plain);
    let error = block_on(models.get("smollm2+tuned")).unwrap_err();
    assert!(matches!(error, AssistantError::UnknownModel { .. }), "{error}");
    // The adapter comes back with the weights that it belongs to; once it did not.
    let back = models.promote("smollm2", adapter("first", folder.path())).unwrap();
    assert_eq!(back, changes(&[], &["smollm2+tuned"]));
    assert_eq!(answer(&models, "smollm2+tuned"), tuned);
    assert_eq!(answer(&models, "smollm2+base"), plain);
    assert_eq!(models.promote("smollm2", None).unwrap(), AdapterChanges::default());
    assert_eq!(answer(&models, "smollm2"), plain);
    assert_eq!(answer(&models, "smollm2+tuned"), tuned);
}

#[test]
fn an_adapter_that_cannot_come_back_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    let plain = answer(&models, "smollm2");
    let spec =
        AdapterSpec { model: "smollm2".to_owned(), name: "tuned".to_owned(), path: folder.path().to_owned() };
    models.load_adapter(spec).unwrap();
    let whole = PromotedWeights::Model { id: "whole".to_owned(), path: poet() };
    models.promote("smollm2", Some(whole)).unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(models.promote("smollm2", None).unwrap(), changes(&["smollm2+tuned"], &[]));
    assert_eq!(answer(&models, "smollm2"), plain);
    assert_eq!(models.list().len(), 1);
}

/// Regression: it took adapters, which nobody could reach or unload once it had gone with the promotion, and it stayed when the model itself went.
#[test]
fn a_model_without_its_promotion_has_nothing_of_its_own_and_goes_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    let whole = PromotedWeights::Model { id: "whole".to_owned(), path: poet() };
    models.promote("smollm2", Some(whole)).unwrap();
    let (model, name) = ("smollm2+base".to_owned(), "tuned".to_owned());
    let tuned = models.load_adapter(AdapterSpec { model, name, path: folder.path().to_owned() });
    let promoted = models.promote("smollm2+base", adapter("first", folder.path()));
    for refused in [tuned.unwrap_err(), promoted.unwrap_err()] {
        assert!(matches!(refused, AssistantError::Invalid { .. }), "{refused}");
        assert!(refused.to_string().contains("name `smollm2`"), "{refused}");
    }
    assert_eq!(models.without_promotion("smollm2+base").as_deref(), Some("smollm2"));
    assert_eq!(models.without_promotion("smollm2"), None);
    assert_eq!(models.own_files().len(), 1);
    assert_eq!(models.list().len(), 2);
    assert!(models.remove("smollm2"));
    assert_eq!(models.list().len(), 0);
}

/// Regression: whatever had that name was no longer served when a promotion was taken back.
#[test]
fn another_model_that_is_called_like_one_without_its_promotion_stays() {
    let models = served(Some(512), 1);
    models.add(ModelSpec { name: "smollm2+base".to_owned(), path: real_model() }).unwrap();
    let whole = PromotedWeights::Model { id: "whole".to_owned(), path: poet() };
    models.promote("smollm2", Some(whole)).unwrap();
    models.promote("smollm2", None).unwrap();
    let names: Vec<String> = models.list().into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["smollm2", "smollm2+base"]);
    assert_eq!(models.without_promotion("smollm2+base"), None);
}

#[test]
fn what_cannot_be_served_is_refused_and_the_same_weights_answer() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1.0);
    let models = served(Some(512), 1);
    models.promote("smollm2", adapter("first", folder.path())).unwrap();
    let promoted = answer(&models, "smollm2");
    let nowhere = Path::new("/nowhere");
    let refused =
        |weights: Option<PromotedWeights>| models.promote("smollm2", weights).unwrap_err().to_string();
    assert!(refused(adapter("second", nowhere)).contains("/nowhere"));
    let whole = PromotedWeights::Model { id: "whole".to_owned(), path: nowhere.to_owned() };
    assert!(refused(Some(whole)).contains("/nowhere"));
    let unknown = models.promote("other", adapter("first", folder.path())).unwrap_err().to_string();
    assert!(unknown.contains("served: smollm2, smollm2+base"), "{unknown}");
    assert_eq!(answer(&models, "smollm2"), promoted);
    let base =
        AdapterSpec { model: "smollm2".to_owned(), name: "base".to_owned(), path: folder.path().to_owned() };
    assert!(models.load_adapter(base).unwrap_err().to_string().contains("the model without one"));
}

#[test]
fn two_hundred_promotions_under_load_give_no_wrong_token() {
    let folders = [1.0, 0.7].map(|strength| {
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), strength);
        folder
    });
    let models = served(Some(512), 1);
    // Each alone first, by the fingerprint of what answered.
    let states = [None, adapter("one", folders[0].path()), adapter("two", folders[1].path())];
    let alone: BTreeMap<String, String> = states
        .iter()
        .map(|state| {
            models.promote("smollm2", state.clone()).unwrap();
            answer(&models, "smollm2")
        })
        .collect();
    assert_eq!(alone.len(), 3);
    let seen = Mutex::new(BTreeMap::<String, usize>::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (fingerprint, text) = answer(&models, "smollm2");
                    assert_eq!(Some(&text), alone.get(&fingerprint), "{fingerprint}");
                    *seen.lock().unwrap().entry(fingerprint).or_default() += 1;
                }
            });
        }
        for round in 0..200 {
            models.promote("smollm2", states[round % 3].clone()).unwrap();
            // A request that comes after the promotion is answered by it.
            let (fingerprint, text) = answer(&models, "smollm2");
            assert_eq!(Some(&text), alone.get(&fingerprint), "round {round}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen.into_inner().unwrap().len(), 3);
}
