//! The scripts of `runs/` that train a model further, at toy size on a tiny random model: they go through, and a second time where they were.

#[path = "../../../tests/tiny_model.rs"]
mod tiny_model;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use zhenjin_model::write::FloatType;

/// A folder with a model that knows nothing, in which scripts run.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script, which must succeed; what it printed.
    fn script(&self, name: &str, arguments: &[&str]) -> String {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../runs").join(name);
        let mut command = Command::new("bash");
        command.arg(path).args(arguments).arg("--model").arg(self.path("model"));
        command.arg("--out").arg(self.path("out"));
        command.env("ZHENJIN", env!("CARGO_BIN_EXE_zhenjin")).env("ZHENJIN_HOME", self.path("home"));
        command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
        let output = command.output().expect("bash");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {stdout}{stderr}");
        format!("{stdout}{stderr}")
    }

    fn json(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.path("out").join(name)).expect("a file");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path("out").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn newest(&self, run: &str) -> PathBuf {
        newest(&self.path("out").join(run))
    }
}

fn newest(run: &Path) -> PathBuf {
    let checkpoints = std::fs::read_dir(run.join("checkpoints")).expect("a folder").flatten();
    checkpoints.map(|entry| entry.path()).max().expect("a checkpoint")
}

#[test]
fn json_measures_the_house_format_with_and_without_adapter_and_constraint() {
    let place = Place::new();
    let arguments = ["--steps", "2", "--notes", "4"];
    let text = place.script("json.sh", &arguments);
    assert!(text.contains("| with the adapter | constrained by the schema |"), "{text}");
    let results = place.json("results.json");
    let results = results.as_array().expect("results");
    assert_eq!(results.len(), 4);
    for result in results {
        assert_eq!(result["notes"], 4, "{result}");
        assert!(result["right"].as_u64() <= result["valid"].as_u64(), "{result}");
    }
    for language in ["en", "zh"] {
        let report = String::from_utf8(place.bytes(&format!("json.{language}.html"))).expect("UTF-8");
        assert!(report.contains("<svg"), "{language}");
    }
    let adapter = place.newest("run");
    let weights = std::fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter");
    place.script("json.sh", &arguments);
    assert_eq!(place.newest("run"), adapter);
    assert!(std::fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter") == weights);
}
