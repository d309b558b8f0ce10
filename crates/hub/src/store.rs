//! The models on this machine.
//!
//! Layout of the store's folder:
//! ```text
//! smollm2--135m/                     one folder per model, named by it: see `ModelReference::folder_name`
//!     model.json                     name, source, files with sizes and digests; written last, so it marks a whole model
//!     SmolLM2-135M-Instruct.Q4_1.gguf
//!     X.gguf.partial                 an unfinished download, and what it is a part of
//!     X.gguf.partial.json
//! smollm2--135m.lock                 held while the folder is changed
//! ```
//! This file does not know networks.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zhenjin_files::{FileError, read_at_most};

use crate::lock::FolderLock;
use crate::{Catalogue, GenerationDefaults, ModelReference, ModelStoreError};

const MANIFEST: &str = "model.json";
/// A description is a few hundred bytes per file.
const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// A folder with models.
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
}

/// What the store knows about one of its models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// The model's name.
    pub name: String,
    /// Where it was pulled from, for people.
    pub source: String,
    /// The file to open, relative to the folder; `.` for a Hugging Face folder.
    pub open: String,
    /// All files.
    pub files: Vec<ManifestFile>,
    /// The catalogue's advice for sampling.
    #[serde(default)]
    pub sampling: GenerationDefaults,
}

/// A file of a model as it was verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path relative to the model's folder.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the contents, computed while downloading.
    pub sha256: String,
    /// Whether it had the digest that the catalogue or the source gives; false for a file of which neither gives one.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub verified: bool,
}

/// Earlier versions did not record it; they took no weights without a digest.
fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A model that can be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalModel {
    /// Its name: of the catalogue, `hf:…`, or the path as it was given.
    pub name: String,
    /// What to give to [`crate::open`].
    pub path: PathBuf,
    /// Size of its files in bytes.
    pub bytes: u64,
    /// What the store knows about it; `None` for a path.
    pub manifest: Option<ModelManifest>,
}

impl ModelStore {
    /// The store in this folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> ModelStore {
        ModelStore { root: root.into() }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a model.
    pub(crate) fn folder(&self, reference: &ModelReference) -> PathBuf {
        self.root.join(reference.folder_name())
    }

    /// Locks a model's folder against other programs, making the store's folder when it is missing.
    ///
    /// # Errors
    /// [`ModelStoreError::Busy`] while another program has it; [`ModelStoreError::BadName`] where it holds another model, as two names
    /// that differ in case alone have one folder on some disks.
    pub(crate) fn lock(&self, reference: &ModelReference) -> Result<FolderLock, ModelStoreError> {
        fs::create_dir_all(&self.root).map_err(ModelStoreError::io("make the folder", &self.root))?;
        self.rename_old_folders()?;
        let (folder, name) = (reference.folder_name(), reference.to_string());
        let lock = FolderLock::try_acquire(&self.lock_path(&folder), &name)?;
        match name_in(&self.root.join(folder)).filter(|found| *found != name) {
            Some(found) => {
                let reason = format!("on this disk its folder is the one of {found}");
                Err(ModelStoreError::BadName { name, reason })
            }
            None => Ok(lock),
        }
    }

    fn lock_path(&self, folder: &str) -> PathBuf {
        self.root.join(format!("{folder}.lock"))
    }

    /// Earlier versions gave some models each other's folders (`a--b` and `a:b`). A folder whose model has another one now moves there.
    fn rename_old_folders(&self) -> Result<(), ModelStoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ModelStoreError::io("read the folder", &self.root)(error)),
        };
        for old in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let Some(name) = name_in(&self.root.join(&old)) else { continue };
            let Ok(reference) = ModelReference::parse(&name) else { continue };
            let new = reference.folder_name();
            let target = self.root.join(&new);
            if new == old || target.exists() {
                continue;
            }
            match FolderLock::try_acquire(&self.lock_path(&old), &name) {
                Ok(_lock) => {
                    zhenjin_files::rename(&self.root.join(&old), &target)?;
                    tracing::info!(model = name, from = old, to = new, "a model's folder was renamed");
                }
                Err(error) => {
                    tracing::warn!(%error, model = name, "a model's folder keeps its old name for now")
                }
            }
        }
        Ok(())
    }

    /// All whole models, by name. A model whose description is damaged is reported in the log and left out.
    ///
    /// # Errors
    /// [`ModelStoreError::Io`] when the folder exists but cannot be read.
    pub fn list(&self) -> Result<Vec<LocalModel>, ModelStoreError> {
        self.rename_old_folders()?;
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ModelStoreError::io("read the folder", &self.root)(error)),
        };
        let mut models = Vec::new();
        for entry in entries {
            let folder = entry.map_err(ModelStoreError::io("read the folder", &self.root))?.path();
            match read_manifest(&folder) {
                Ok(Some(manifest)) => models.push(local_model(&folder, manifest)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a model is left out of the list"),
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// The model with this name, or at this path.
    ///
    /// # Errors
    /// [`ModelStoreError::NotInstalled`] for a name of the catalogue, [`ModelStoreError::Unknown`] for anything else that is not
    /// there, [`ModelStoreError::Manifest`] when the model's description is damaged.
    pub fn resolve(&self, name_or_path: impl AsRef<OsStr>) -> Result<LocalModel, ModelStoreError> {
        let path = Path::new(name_or_path.as_ref());
        let name_or_path = match name_or_path.as_ref().to_str() {
            Some(name_or_path) => name_or_path,
            // No name is written with such bytes, but a path can be.
            None if path.exists() => return local_file(path),
            None => {
                return Err(ModelStoreError::Unknown {
                    name: path.display().to_string(),
                    known: known_models(),
                });
            }
        };
        self.rename_old_folders()?;
        let reference = ModelReference::parse(name_or_path);
        if let Ok(reference) = &reference {
            let folder = self.folder(reference);
            if let Some(manifest) = read_manifest(&folder)?.filter(|manifest| manifest.name == name_or_path) {
                return Ok(local_model(&folder, manifest));
            }
        }
        if !name_or_path.is_empty() && path.exists() {
            return local_file(path);
        }
        let pullable = match &reference {
            Ok(ModelReference::Catalogue(name)) => Catalogue::embedded().get(name).is_some(),
            Ok(ModelReference::HuggingFace { .. }) => true,
            Err(_) => false,
        };
        if pullable {
            return Err(ModelStoreError::NotInstalled { name: name_or_path.to_owned() });
        }
        Err(ModelStoreError::Unknown { name: name_or_path.to_owned(), known: known_models() })
    }

    /// Deletes a model's files, finished or not.
    ///
    /// # Errors
    /// [`ModelStoreError::NotInstalled`] when there is nothing to delete, [`ModelStoreError::Busy`] while it is being pulled,
    /// [`ModelStoreError::BadName`] for a path: files outside the store are never deleted.
    pub fn remove(&self, name: &str) -> Result<(), ModelStoreError> {
        let reference = ModelReference::parse(name)?;
        self.rename_old_folders()?;
        let folder = self.folder(&reference);
        if !folder.is_dir() || name_in(&folder).is_some_and(|found| found != name) {
            return Err(ModelStoreError::NotInstalled { name: name.to_owned() });
        }
        let _lock = self.lock(&reference)?;
        // Without its description the model is gone for every reader, even when deleting the rest is interrupted.
        let manifest = folder.join(MANIFEST);
        if manifest.exists() {
            fs::remove_file(&manifest).map_err(ModelStoreError::io("delete", &manifest))?;
        }
        fs::remove_dir_all(&folder).map_err(ModelStoreError::io("delete", &folder))
    }

    /// Records a whole model, after all its files have their final names.
    pub(crate) fn record(
        &self,
        reference: &ModelReference,
        manifest: &ModelManifest,
    ) -> Result<LocalModel, ModelStoreError> {
        let folder = self.folder(reference);
        let path = folder.join(MANIFEST);
        let json = serde_json::to_vec_pretty(manifest)
            .map_err(|error| ModelStoreError::Manifest { path: path.clone(), reason: error.to_string() })?;
        zhenjin_files::write_whole(&path, &[&json])?;
        Ok(local_model(&folder, manifest.clone()))
    }
}

/// The catalogue's advice for the model at `path`, when it lies in a store. For a model that the catalogue knows by its name it
/// is today's, because advice gets better after a pull; for another one, what was recorded when it was pulled. A damaged
/// description is reported in the log.
pub(crate) fn sampling_advice(path: &Path) -> Option<GenerationDefaults> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    let manifest = read_manifest(folder).unwrap_or_else(|error| {
        tracing::warn!(%error, "a model's description cannot be read, so its advice for sampling is not used");
        None
    })?;
    (local_model(folder, manifest.clone()).path == path).then(|| {
        Catalogue::embedded().get(&manifest.name).map_or(manifest.sampling, |entry| entry.sampling.clone())
    })
}

fn known_models() -> String {
    let known: Vec<&str> = Catalogue::embedded().models().iter().map(|entry| entry.name.as_str()).collect();
    known.join(", ")
}

/// A model that lies outside the store.
fn local_file(path: &Path) -> Result<LocalModel, ModelStoreError> {
    let bytes = bytes_at(path).map_err(ModelStoreError::io("read", path))?;
    Ok(LocalModel { name: path.display().to_string(), path: path.to_owned(), bytes, manifest: None })
}

/// The name of the model that a folder holds, also when its files are damaged.
fn name_in(folder: &Path) -> Option<String> {
    let text = read_at_most(&folder.join(MANIFEST), MAX_MANIFEST_BYTES).ok()?;
    serde_json::from_slice(&text).ok().map(|manifest: ModelManifest| manifest.name)
}

fn read_manifest(folder: &Path) -> Result<Option<ModelManifest>, ModelStoreError> {
    let path = folder.join(MANIFEST);
    if fs::metadata(&path).is_err() {
        return Ok(None);
    }
    let damaged = |reason: String| ModelStoreError::Manifest { path: path.clone(), reason };
    let text = read_at_most(&path, MAX_MANIFEST_BYTES).map_err(|error| match error {
        FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::FileTooLarge => {
            damaged(source.to_string())
        }
        error => error.into(),
    })?;
    let manifest: ModelManifest =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    manifest.sampling.check().map_err(|problem| damaged(format!("its advice for sampling: {problem}")))?;
    for file in &manifest.files {
        let found = fs::metadata(folder.join(&file.file)).map(|metadata| metadata.len()).ok();
        if found != Some(file.bytes) {
            return Err(damaged(match found {
                None => format!("the file {} is missing", file.file),
                Some(found) => format!("the file {} has {found} bytes instead of {}", file.file, file.bytes),
            }));
        }
    }
    Ok(Some(manifest))
}

fn local_model(folder: &Path, manifest: ModelManifest) -> LocalModel {
    let path = if manifest.open == "." { folder.to_owned() } else { folder.join(&manifest.open) };
    LocalModel {
        name: manifest.name.clone(),
        path,
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        manifest: Some(manifest),
    }
}

/// Bytes of a file, or of the files directly inside a folder.
///
/// # Errors
/// The operating system's reason.
pub fn bytes_at(path: &Path) -> std::io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let metadata = entry?.metadata()?;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(bytes)
}
