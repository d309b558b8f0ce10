//! Which files of a repository make one model. This file does not know networks.

use crate::sentence_transformers::{MODULES, PROMPTS, TRANSFORMER_SETTINGS};

/// A file in a repository's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: Option<String>,
}

/// One model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen<'a> {
    /// The file to open; `.` for the folder.
    pub(super) open: String,
    pub(super) files: Vec<&'a ListedFile>,
}

/// Files beside the weights of a Hugging Face folder; those in the first list must be there.
const NEEDED: &[&str] = &["config.json", "tokenizer.json"];
const WELCOME: &[&str] = &[
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    MODULES,
    PROMPTS,
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Chooses the named file, or the only GGUF model, or the safetensors folder.
///
/// # Errors
/// What the repository has, when the choice is not clear.
pub(super) fn choose<'a>(
    listed: &'a [ListedFile],
    repository: &str,
    file: Option<&str>,
) -> Result<Chosen<'a>, String> {
    let ggufs = gguf_models(listed);
    if let Some(file) = file {
        let found = ggufs.into_iter().find(|model| model.iter().any(|part| part.path == file));
        return match found {
            Some(files) => Ok(Chosen { open: files[0].path.clone(), files }),
            None if listed.iter().any(|listed| listed.path == file) => Err(format!(
                "{file} is not a GGUF file; for safetensors give the repository alone, hf:{repository}"
            )),
            None => Err(format!("the repository has no file {file}; it has {}", names(listed))),
        };
    }
    match ggufs.len() {
        1 => {
            let files = ggufs.into_iter().next().unwrap_or_default();
            Ok(Chosen { open: files[0].path.clone(), files })
        }
        0 => safetensors_folder(listed),
        _ => {
            let choices: Vec<String> =
                ggufs.iter().map(|model| format!("\n    hf:{repository}:{}", model[0].path)).collect();
            Err(format!("the repository has {} models; name one of them:{}", choices.len(), choices.concat()))
        }
    }
}

/// Every GGUF model with its parts in order. Files for images (`mmproj`) are no models.
fn gguf_models(listed: &[ListedFile]) -> Vec<Vec<&ListedFile>> {
    let mut ggufs: Vec<&ListedFile> = listed
        .iter()
        .filter(|file| file.path.ends_with(".gguf") && !file.path.to_ascii_lowercase().contains("mmproj"))
        .collect();
    ggufs.sort_by(|a, b| a.path.cmp(&b.path));
    let mut models: Vec<Vec<&ListedFile>> = Vec::new();
    for file in ggufs {
        match models.last_mut() {
            Some(model) if stem(&model[0].path).is_some() && stem(&model[0].path) == stem(&file.path) => {
                model.push(file)
            }
            _ => models.push(vec![file]),
        }
    }
    models
}

/// `NAME` of a part `NAME-00001-of-00003.gguf`.
fn stem(path: &str) -> Option<&str> {
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(count) && is_number(part)).then_some(name)
}

/// Whether a file belongs to a module of sentence-transformers behind the transformer, as `1_Pooling/config.json`.
fn is_of_module(path: &str) -> bool {
    let Some((folder, file)) = path.split_once('/') else { return false };
    let number = folder.split_once('_').map_or("", |(number, _)| number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && ["config.json", SINGLE].contains(&file)
}

fn safetensors_folder(listed: &[ListedFile]) -> Result<Chosen<'_>, String> {
    let find = |path: &str| listed.iter().find(|file| file.path == path);
    let mut files = Vec::new();
    for path in NEEDED {
        files.push(find(path).ok_or_else(|| {
            format!("the repository has neither a GGUF file nor {path}; it has {}", names(listed))
        })?);
    }
    files.extend(WELCOME.iter().chain(&TRANSFORMER_SETTINGS).filter_map(|path| find(path)));
    files.extend(listed.iter().filter(|file| is_of_module(&file.path)));
    if let Some(weights) = find(SINGLE) {
        files.push(weights);
    } else if let Some(index) = find(INDEX) {
        files.push(index);
        let shards = listed.iter().filter(|file| {
            file.path.starts_with("model-") && file.path.ends_with(".safetensors") && !file.path.contains('/')
        });
        files.extend(shards);
    } else {
        return Err(format!(
            "the repository has no weights in GGUF or safetensors; it has {}",
            names(listed)
        ));
    }
    Ok(Chosen { open: ".".to_owned(), files })
}

/// The first names of a list, for people.
fn names(listed: &[ListedFile]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<&str> = listed.iter().take(SHOWN).map(|file| file.path.as_str()).collect();
    let more = format!("{} more", listed.len().saturating_sub(SHOWN));
    if listed.len() > SHOWN {
        shown.push(&more);
    }
    if shown.is_empty() { "no files".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&str]) -> Vec<ListedFile> {
        paths.iter().map(|path| ListedFile { path: (*path).to_owned(), bytes: 1, sha256: None }).collect()
    }

    fn chosen(paths: &[&str], file: Option<&str>) -> Result<(String, Vec<String>), String> {
        let listed = listed(paths);
        let chosen = choose(&listed, "o/r", file)?;
        Ok((chosen.open, chosen.files.iter().map(|file| file.path.clone()).collect()))
    }

    #[test]
    fn the_only_gguf_model_is_chosen_with_all_its_parts() {
        assert_eq!(chosen(&["README.md", "a.gguf", "mmproj-a.gguf"], None).unwrap().0, "a.gguf");
        let (open, files) = chosen(&["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"], None).unwrap();
        assert_eq!(open, "a-00001-of-00002.gguf");
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn several_models_are_listed_and_one_can_be_named() {
        let paths = ["a.Q4_0.gguf", "a.Q8_0.gguf"];
        let error = chosen(&paths, None).unwrap_err();
        assert!(error.contains("hf:o/r:a.Q4_0.gguf") && error.contains("hf:o/r:a.Q8_0.gguf"), "{error}");
        assert_eq!(chosen(&paths, Some("a.Q8_0.gguf")).unwrap().1, ["a.Q8_0.gguf"]);
        assert!(chosen(&paths, Some("b.gguf")).unwrap_err().contains("a.Q4_0.gguf"));
    }

    #[test]
    fn a_safetensors_folder_needs_its_tokenizer() {
        let whole = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "x.bin"];
        let (open, files) = chosen(&whole, None).unwrap();
        assert_eq!(open, ".");
        assert_eq!(files, ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]);
        assert!(chosen(&["config.json", "model.safetensors"], None).unwrap_err().contains("tokenizer.json"));
        let sharded = [
            "config.json",
            "tokenizer.json",
            INDEX,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen(&sharded, None).unwrap().1.len(), 5);
        assert!(chosen(&["config.json", "tokenizer.json"], None).unwrap_err().contains("no weights"));
    }

    #[test]
    fn an_encoders_modules_come_with_it() {
        let modules =
            ["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"];
        let others =
            ["onnx/model.onnx", "2_Dense/pytorch_model.bin", "openvino/config.json", "x_1/config.json"];
        let weights = ["config.json", "tokenizer.json", "model.safetensors"];
        let (open, files) = chosen(&[&modules[..], &others, &weights].concat(), None).unwrap();
        assert_eq!(open, ".");
        assert!(
            modules.iter().chain(&weights).all(|path| files.iter().any(|file| file == path)),
            "{files:?}"
        );
        assert_eq!(files.len(), 7);
    }
}
