//! Which trained weights answer under the names of which models: promoted, replaced, rolled back, and where each came from.
//!
//! Everything is in one folder: `promotions.json` says what answers, and each set of weights has a folder of its own, named by the hash of
//! its files, so that a run whose checkpoints go does not take away what answers. Several programs may work on the folder at once: changes
//! are made one after another under a lock, and readers see the list before a change or after it.
//!
//! Beside it are the records of improvements: what each learned from, and what was measured before it could be promoted.
//!
//! This crate does not load weights and knows no server.

mod error;
mod improvements;
mod json_file;
mod list;
mod maker;
mod news;
mod origin;
mod serving;
mod weights;
mod words;

pub use error::PromotionError;
pub use improvements::{
    Criterion, DataCounts, Improvement, ImprovementState, Improvements, LeftOut, Progress, Recipe, Running,
};
pub use list::{ModelPromotions, Promotions};
pub use maker::Maker;
pub use news::{DEFAULT_PASSES, News, PASSES, PER_PERSON, SET, unsaid_settings};
pub use serving::{ServedName, Serving};
pub use weights::{Origin, Promoted, WeightsKind};
pub use words::{AGAIN_FOLDER, ANCHOR_FILE, HELD_OUT_FILE, LOG_FILE, TRAIN_FILE};
