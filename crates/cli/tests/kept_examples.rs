//! Examples in tokens that an earlier run kept: the next run on the same files trains the same, and whatever changes is encoded anew.

use std::path::PathBuf;

use crate::align::{Place, run, succeed};
use serde_json::json;

const KEPT: &str = "kept by an earlier run";

fn kept_files(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place.path("examples")) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// A file of over a mebibyte: most of it fields that have no effect, so that it is soon encoded.
fn write_talks(place: &Place, name: &str, word: &str) {
    let padding = "long ".repeat(20_000);
    place.write(
        name,
        (0..12).map(|number| {
            json!({"padding": padding, "messages": [
                {"role": "user", "content": format!("say {number}")},
                {"role": "assistant", "content": format!("{word} {number}")},
            ]})
        }),
    );
}

fn adapter(place: &Place, out: &str) -> Vec<u8> {
    std::fs::read(place.last(out).join("adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn the_next_run_on_the_same_files_takes_kept_examples_and_learns_the_same() {
    let place = Place::new();
    write_talks(&place, "long.jsonl", "it is");
    let train = |out: &str, more: &[&str]| {
        succeed(place.train("sft", "long.jsonl", out, &[&["--steps", "2"], more].concat()))
    };
    let first = train("first", &[]);
    let second = train("second", &[]);
    assert!(!first.contains(KEPT) && second.contains(KEPT), "{first}{second}");
    let told = "the field `padding` of 12 records has no effect";
    assert!(first.contains(told) && second.contains(told), "{second}");
    assert_eq!(adapter(&place, "first"), adapter(&place, "second"));
    assert_eq!(kept_files(&place).len(), 1);

    // Not used, and nothing more kept.
    let third = train("third", &["--no-kept-examples"]);
    assert!(!third.contains(KEPT), "{third}");
    assert_eq!(adapter(&place, "first"), adapter(&place, "third"));
    assert_eq!(kept_files(&place).len(), 1);

    // Every setting of which tokens or their division depend has a key of its own.
    let more: [&[&str]; 6] = [
        &["--learn", "last"],
        &["--thinking", "off"],
        &["--context", "40"],
        &["--seed", "4"],
        &["--overlong", "drop"],
        &["--bad", "drop"],
    ];
    for (place_in_row, more) in more.into_iter().enumerate() {
        let text = train(&format!("other-{place_in_row}"), more);
        assert!(!text.contains(KEPT), "{more:?}: {text}");
    }

    // So have other contents under the same name.
    write_talks(&place, "long.jsonl", "it was");
    let other = train("changed", &[]);
    assert!(!other.contains(KEPT), "{other}");
    assert_ne!(adapter(&place, "first"), adapter(&place, "changed"));
}

#[test]
fn damaged_kept_examples_are_encoded_anew_and_said() {
    let place = Place::new();
    write_talks(&place, "long.jsonl", "it is");
    let train = |out: &str| run(place.train("sft", "long.jsonl", out, &["--steps", "1"]));
    assert_eq!(train("first").0, Some(0));
    let [kept] = &kept_files(&place)[..] else { panic!("one file") };
    let mut bytes = std::fs::read(kept).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(kept, &bytes).expect("a file");
    let (code, text) = train("second");
    assert!(
        code == Some(0) && text.contains("encoded anew") && text.contains("not those that were written"),
        "{text}"
    );
    assert_eq!(adapter(&place, "first"), adapter(&place, "second"));
    // They are whole again.
    assert!(train("third").1.contains(KEPT));

    // A folder that cannot be: the run goes on.
    std::fs::remove_dir_all(place.path("examples")).expect("a folder");
    std::fs::write(place.path("examples"), b"a file").expect("a file");
    let (code, text) = train("fourth");
    assert!(code == Some(0) && text.contains("are not kept for later runs"), "{text}");
}
