//! Which model an adapter says that it belongs to. Shapes alone do not tell two models apart that were trained from one.

use std::path::{Component, Path};

use super::{AdapterMerge, AdapterValues};

/// Parts of a path that look for a name, from its end: a file, and the folders that hubs keep files in.
const MOST_PARTS: usize = 4;
/// What does not tell models apart at the end of a name: a file's type and how its weights are stored.
const ENDINGS: [&str; 7] = ["gguf", "safetensors", "f32", "f16", "fp16", "bf16", "bin"];
/// Folders that a run or a program calls alike for every model.
const COMMON: [&str; 11] = [
    "model",
    "models",
    "checkpoint",
    "checkpoints",
    "step",
    "run",
    "runs",
    "snapshots",
    "main",
    "merged",
    "final",
];

impl AdapterMerge {
    /// As [`AdapterValues::other_base`].
    pub fn other_base(&self, model: &Path) -> Option<&str> {
        other(self.base(), model)
    }
}

fn other<'a>(base: Option<&'a str>, model: &Path) -> Option<&'a str> {
    base.filter(|base| !base.trim().is_empty() && !is_same(base, model))
}

impl AdapterValues {
    /// The name or path of another model than the one at `model`, if the adapter's settings give one: what was trained on other weights of the
    /// same shape opens, but what it adds was not learnt beside these. Names are compared without what hubs, quantisation and file types add
    /// to them, so that a copy under a name of its own is another model too; it is a reason to say so, not to refuse.
    pub fn other_base(&self, model: &Path) -> Option<&str> {
        other(self.base(), model)
    }
}

/// Whether a base that an adapter names can be the model at this path.
fn is_same(base: &str, model: &Path) -> bool {
    let base = Path::new(base);
    if base == model {
        return true;
    }
    if let (Ok(base), Ok(model)) = (base.canonicalize(), model.canonicalize())
        && (base == model || model.parent() == Some(&base) || base.parent() == Some(&model))
    {
        return true;
    }
    let Some(of_base) = names(base).into_iter().next() else { return false };
    // The short name of a catalogue is that of a folder; the name of a hub is longer, and in the file's own name.
    let most = if base.components().count() > 1 { 1 } else { MOST_PARTS };
    names(model).iter().take(most).flatten().any(|name| of_base.contains(name))
}

/// What each of the last parts of a path is called, from its end, in a form that can be compared; without the parts that many models share.
fn names(path: &Path) -> Vec<Vec<String>> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let of_part = |part: &str| -> Vec<String> {
        // `models--OWNER--NAME` in caches of hubs.
        let all = [Some(part), part.rsplit_once("--").map(|(_, name)| name)];
        all.into_iter().flatten().map(plain).filter(|name| tells(name)).collect()
    };
    parts.map(of_part).filter(|names| !names.is_empty()).take(MOST_PARTS).collect()
}

/// Whether a name tells models apart: not one that runs and programs give to every model, nor the number of a version at a hub.
fn tells(name: &str) -> bool {
    let word = name.trim_end_matches(|character: char| character.is_ascii_digit());
    let is_hash = name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    !word.is_empty() && !COMMON.contains(&word) && !is_hash
}

/// Letters and digits in lower case, without endings that say how weights are stored.
fn plain(name: &str) -> String {
    let name = name.to_lowercase();
    let mut rest = name.as_str();
    while let Some(place) = rest.rfind(['.', '-', ':'])
        && is_storage(&rest[place + 1..])
    {
        rest = &rest[..place];
    }
    rest.chars().filter(|character| character.is_alphanumeric()).collect()
}

fn is_storage(ending: &str) -> bool {
    let quantised = ending.strip_prefix('i').unwrap_or(ending);
    let is_quantised = quantised
        .strip_prefix(['q', 'Q'])
        .is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_digit()));
    is_quantised || ENDINGS.contains(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_its_name_at_hubs_in_caches_and_quantised() {
        for (base, model) in [
            ("HuggingFaceTB/SmolLM2-135M-Instruct", "/models/smollm2--135m/SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("smollm2:135m", "/models/smollm2--135m/SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "/m/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            ("HuggingFaceTB/SmolLM2-135M", "/c/models--HuggingFaceTB--SmolLM2-135M/snapshots/12fd25f77366"),
            ("runs/a/checkpoints/step-00000100", "runs/a/checkpoints/step-00000100"),
            ("poet", "/models/poet/model.safetensors"),
        ] {
            assert!(is_same(base, Path::new(model)), "{base} {model}");
        }
    }

    /// Two models of one shape were once told apart by nothing.
    #[test]
    fn another_model_of_the_same_shape_is_another() {
        for (base, model) in [
            ("HuggingFaceTB/SmolLM2-135M", "/models/smollm2--135m/SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("smollm2:135m", "/models/runs/tuned"),
            ("runs/a/checkpoints/step-00000100", "runs/b/checkpoints/step-00000100"),
            ("model", "/elsewhere/model"),
        ] {
            assert!(!is_same(base, Path::new(model)), "{base} {model}");
        }
    }
}
