//! What is written about the API agrees with the API: `/openapi.json`, `/docs`, `docs/api.md`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Application;
use serde_json::Value;
use zhenjin_server::{field_reference, openapi_document};

const BEGIN: &str = "<!-- fields: begin; written by crates/server/tests/documents.rs -->\n";
const END: &str = "<!-- fields: end -->\n";

/// Rewrites the page's tables when `ZHENJIN_UPDATE_DOCS` is set.
#[test]
fn the_api_page_lists_every_field_as_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let page = std::fs::read_to_string(&path).expect("docs/api.md");
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the tables begin");
    let (written, after) = rest.split_once(END).expect("the mark where the tables end");
    let expected = format!("\n{}", field_reference());
    if std::env::var_os("ZHENJIN_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("writable");
        return;
    }
    assert!(
        written == expected,
        "docs/api.md is behind the code; `ZHENJIN_UPDATE_DOCS=1 cargo test --release -p zhenjin-server --test suite documents::` writes it anew"
    );
}

/// `docs/openapi.json` is what `/openapi.json` says; the web page's types are made from it.
#[test]
fn the_stored_document_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let expected = format!("{:#}\n", openapi_document());
    if std::env::var_os("ZHENJIN_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("writable");
        return;
    }
    assert!(
        std::fs::read_to_string(&path).expect("docs/openapi.json") == expected,
        "docs/openapi.json is behind the code; `ZHENJIN_UPDATE_DOCS=1 cargo test --release -p zhenjin-server --test suite documents::` writes it \
         anew, and `npm run api` in web/ makes the page's types from it"
    );
}

#[test]
fn the_api_page_names_every_route() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md"))
        .expect("docs/api.md");
    let document = openapi_document();
    for path in document["paths"].as_object().expect("paths").keys().filter(|path| !path.starts_with("/api/"))
    {
        let plain = path.replace("{*model}", "{model}");
        assert!(
            page.contains(&format!("`{plain}`")) || page.contains(&format!(" {plain}`")),
            "docs/api.md does not name {plain}"
        );
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    found.insert(target);
                }
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = openapi_document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for target in found {
        let pointer = target.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

/// The document knows schemas by their types' names alone, and of two with one name it would keep either.
#[test]
fn no_two_schemas_share_a_name() {
    fn names(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                names(&path, found);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            for (_, after) in
                source.match_indices("ToSchema)]").map(|(at, text)| source.split_at(at + text.len()))
            {
                let words = after.split_whitespace().skip_while(|word| !matches!(*word, "struct" | "enum"));
                found.extend(
                    words.skip(1).take(1).map(|name| name.trim_end_matches(['(', ';', '{']).to_owned()),
                );
            }
        }
    }
    let mut found = Vec::new();
    names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert!(found.len() > 20 && distinct.len() == found.len(), "{found:?}");
}

#[test]
fn every_route_is_described() {
    let document = openapi_document();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let has_words = operation["summary"].as_str().is_some_and(|text| !text.is_empty());
            assert!(has_words, "{method} {path} has no summary");
            assert!(operation["tags"].is_array(), "{method} {path} has no tag");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(!responses.is_empty(), "{method} {path} has no responses");
        }
    }
}

#[tokio::test]
async fn the_page_of_the_api_loads_nothing_from_elsewhere() {
    let application = Application::new().await;
    for path in ["/docs", "/docs/page.js", "/docs/page.css"] {
        let answer = application.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains("http://") && !answer.text.contains("https://"), "{path}");
        assert!(!answer.text.contains("innerHTML"), "{path}");
    }
    assert_eq!(
        application.get("/openapi.json").await.json()["openapi"].as_str().map(|version| &version[..3]),
        Some("3.1")
    );
}
