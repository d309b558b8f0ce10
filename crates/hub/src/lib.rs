//! Models by name: the catalogue, downloading, the local store, and opening a model with its tokenizer and template.
//!
//! * [`Catalogue`]: the models that have a short name, such as `smollm2:135m`.
//! * [`pull`]: fetches a model from the first source that has it, checks it, and puts it into the store in one step.
//! * [`ModelStore`]: what is on this machine; a local path is accepted wherever a name is.
//! * [`open`]: a model's file, tokenizer, chat template and generation settings.
//! * [`open_embedder`]: a model that makes vectors of texts, with its tokenizer and the way to make them; [`is_embedder`] tells such models from
//!   those that write.
//! * [`export_hugging_face`], [`export_gguf`]: an opened model written anew, in the other format or quantised; [`open_to_export`] opens one for it.
//!
//! This crate does not know inference, conversations, the terminal, or the environment: callers pass endpoints, tokens and
//! folders, and show progress.

#![warn(missing_docs)]

mod catalogue;
mod embedder;
mod errors;
mod export;
mod lock;
mod open;
mod pull;
mod reference;
mod sentence_transformers;
mod sources;
mod store;

pub use catalogue::{Catalogue, CatalogueEntry, CatalogueFile, CatalogueSource, GoodFor, Licence};
pub use embedder::{OpenedEmbedder, is_embedder, open_embedder};
pub use errors::{ModelStoreError, OpenError};
pub use export::{ExportError, export_gguf, export_hugging_face, tokenizer_files};
pub use open::{GenerationDefaults, OpenedModel, open, open_to_export, tokenizer_of_folder};
pub use pull::{PullError, PullEvent, PullObserver, PullOptions, Secret, SilentObserver, Timeouts, pull};
pub use reference::ModelReference;
pub use store::{LocalModel, ManifestFile, ModelManifest, ModelStore, bytes_at};
