//! A set of trained weights in the folder of promotions: copied once, named by the hash of its files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zhenjin_files::{NewFile, NewFolder};

use crate::error::{PromotionError, io};

/// Files of an adapter, as the `peft` library calls them.
const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// The files without which a folder holds no model.
const MODEL_CONFIG: &str = "config.json";
const MODEL_WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
/// The other files of a model that matter to answers.
const MODEL_FILES: [&str; 12] = [
    MODEL_CONFIG,
    MODEL_WEIGHTS[0],
    MODEL_WEIGHTS[1],
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];
/// The name of a GGUF file's copy.
const GGUF_FILE: &str = "model.gguf";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Hexadecimal digits of a folder's name.
const ID_DIGITS: usize = 16;

/// What a set of weights is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsKind {
    /// A low-rank adapter to the model's own weights.
    Adapter,
    /// Weights in place of the model's own: a Hugging Face folder.
    Folder,
    /// Weights in place of the model's own: a GGUF file.
    Gguf,
}

/// Where weights came from. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The method that trained them, such as `dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What they learned from, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What was measured before they were promoted, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// The improvement whose record says all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub improvement: Option<String>,
    /// Where they were copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Weights that answer, or answered, under a model's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The first 16 hexadecimal digits of the SHA-256 of its files: its folder's name.
    pub id: String,
    /// What it is.
    pub kind: WeightsKind,
    /// When it was promoted: milliseconds since 1970 (UTC).
    pub since: i64,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
}

impl Promoted {
    /// Its adapter folder, model folder or GGUF file within the folder of promotions.
    pub fn path(&self, promotions: &Path) -> PathBuf {
        let folder = promotions.join(&self.id);
        match self.kind {
            WeightsKind::Adapter | WeightsKind::Folder => folder,
            WeightsKind::Gguf => folder.join(GGUF_FILE),
        }
    }

    pub(crate) fn is_plausible(&self) -> bool {
        self.id.len() == ID_DIGITS && self.id.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// Files to copy: each one's path and the name of its copy, sorted by name.
struct Source {
    kind: WeightsKind,
    files: Vec<(PathBuf, String)>,
}

/// Copies the weights at `source` into a folder of their own in `promotions`, unless they are there already.
pub(crate) fn take(
    promotions: &Path,
    source: &Path,
    since: i64,
    origin: Origin,
) -> Result<Promoted, PromotionError> {
    let Source { kind, files } = find(source)?;
    let id = hash(&files)?;
    let folder = promotions.join(&id);
    if !folder.is_dir() {
        let new = NewFolder::create(&folder)?;
        for (path, name) in &files {
            copy(path, &new.temporary_path().join(name))?;
        }
        // Another program may have copied the same files meanwhile.
        match new.finish() {
            Err(_) if folder.is_dir() => {}
            finished => finished?,
        }
    }
    Ok(Promoted { id, kind, since, origin })
}

fn find(source: &Path) -> Result<Source, PromotionError> {
    let nothing = || PromotionError::NoWeights { path: source.to_owned() };
    if source.is_file() {
        let is_gguf = source.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if is_gguf {
            return Ok(Source {
                kind: WeightsKind::Gguf,
                files: vec![(source.to_owned(), GGUF_FILE.to_owned())],
            });
        }
        // One of the files of an adapter or a model stands for its folder.
        let name = source.file_name().and_then(|name| name.to_str()).ok_or_else(nothing)?;
        let is_known = ADAPTER_FILES.contains(&name) || MODEL_FILES.contains(&name);
        return source.parent().filter(|_| is_known).ok_or_else(nothing).and_then(find);
    }
    let has = |name: &str| source.join(name).is_file();
    let named = |name: &str| (source.join(name), name.to_owned());
    if ADAPTER_FILES.iter().all(|name| has(name)) {
        return Ok(Source { kind: WeightsKind::Adapter, files: ADAPTER_FILES.map(named).to_vec() });
    }
    if !has(MODEL_CONFIG) || !MODEL_WEIGHTS.iter().any(|name| has(name)) {
        return Err(nothing());
    }
    let mut files: Vec<_> = MODEL_FILES.iter().filter(|name| has(name)).map(|name| named(name)).collect();
    for entry in source.read_dir().map_err(io("read the folder", source))? {
        let name = entry.map_err(io("read the folder", source))?.file_name();
        let part = name.to_str().filter(|name| name.starts_with("model-") && name.ends_with(".safetensors"));
        files.extend(part.map(named));
    }
    files.sort_by(|(_, left), (_, right)| left.cmp(right));
    Ok(Source { kind: WeightsKind::Folder, files })
}

/// The hash of files' names and contents.
fn hash(files: &[(PathBuf, String)]) -> Result<String, PromotionError> {
    let mut sum = Sha256::new();
    for (path, name) in files {
        let mut file = File::open(path).map_err(io("read", path))?;
        let length = file.metadata().map_err(io("read", path))?.len();
        sum.update((name.len() as u64).to_le_bytes());
        sum.update(name.as_bytes());
        sum.update(length.to_le_bytes());
        pieces(path, &mut file, |piece| {
            sum.update(piece);
            Ok(())
        })?;
    }
    let digits = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(digits[..ID_DIGITS].to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<(), PromotionError> {
    let mut file = File::open(from).map_err(io("read", from))?;
    let mut new = NewFile::create(to)?;
    pieces(from, &mut file, |piece| Ok(new.append(piece)?))?;
    Ok(new.finish()?)
}

fn pieces(
    path: &Path,
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> Result<(), PromotionError>,
) -> Result<(), PromotionError> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer).map_err(io("read", path))? {
            0 => return Ok(()),
            bytes => take(&buffer[..bytes])?,
        }
    }
}
