//! What a candidate is compared with: what answers for its model now.

use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use zhenjin_hub::ModelStore;
use zhenjin_model::{AdapterValues, ModelFile};
use zhenjin_promotions::{Improvement, Promoted, Promotions};

/// What answers for a model now: its own weights, with an adapter or without.
pub(super) struct Answering {
    promoted: Option<Promoted>,
    /// The folder of promotions.
    folder: PathBuf,
}

impl Answering {
    /// What answers for `model`.
    ///
    /// # Errors
    /// When it cannot be read, or is other weights than the model's own.
    pub(super) fn of(home: &Home, model: &str) -> Result<Answering> {
        let promotions = Promotions::new(home.promoted());
        let promoted = promotions.comparable(model)?;
        Ok(Answering { promoted, folder: promotions.folder().to_owned() })
    }

    /// The folder of the adapter, if there is one.
    pub(super) fn adapter(&self) -> Option<PathBuf> {
        self.promoted.as_ref().map(|promoted| promoted.path(&self.folder))
    }

    /// The word for it in a record.
    pub(super) fn word(&self) -> &str {
        Improvement::word_of(self.promoted.as_ref())
    }
}

/// Refuses before anything is trained what could not be compared afterwards.
pub(super) fn expect_comparable(home: &Home, model: &str) -> Result<()> {
    match Answering::of(home, model)?.adapter() {
        Some(adapter) => open(home, model, &adapter).with_context(|| {
            format!("the adapter that answers as `{model}` now cannot be compared with: roll it back first")
        }),
        None => Ok(()),
    }
}

fn open(home: &Home, model: &str, adapter: &Path) -> Result<()> {
    let local = machine::resolve(&ModelStore::new(home.models()), model)?;
    AdapterValues::open(adapter, ModelFile::open(&local.path)?.config())?;
    Ok(())
}
