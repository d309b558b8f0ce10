//! Copies of what people wrote, in the folders of improvements that are not made now: removed as soon as it may no longer be learned from.

use std::collections::BTreeSet;

use zhenjin_promotions::{Improvement, Improvements, PromotionError, Running};
use zhenjin_store::Store;

use super::menu::ModelMenu;
use super::promotions::now;
use crate::blocking::blocking;
use crate::errors::ApiError;

impl ModelMenu {
    /// Removes the copies that unfinished improvements hold of what was erased, changed or put into the trash, or is of people who no longer
    /// allow learning. Gives the names of the improvements that are given up by this. While a program makes an improvement, nothing is
    /// removed: that program looks itself when it ends.
    ///
    /// # Errors
    /// When the disk or the database refuses; the next call removes what is left.
    pub(crate) async fn forget_withdrawn(&self, store: &Store) -> Result<Vec<String>, ApiError> {
        let improvements = self.library.improvements.clone();
        let begun = blocking(move || begin(&improvements).map_err(kept)).await?;
        let Some(making) = begun else { return Ok(Vec::new()) };
        // Read while nothing is made: whatever an improvement learned from was there before.
        let rows = store.feedback_rows().await?;
        let may_be_learned: BTreeSet<String> =
            rows.iter().filter(|row| row.consents && !row.in_trash).map(|row| row.id.to_string()).collect();
        let improvements = self.library.improvements.clone();
        let (making, given_up) = blocking(move || {
            let is_allowed = |row: &str| may_be_learned.contains(row);
            let given_up = improvements.forget_withdrawn(&making, &is_allowed).map_err(kept)?;
            Ok((making, given_up))
        })
        .await?;
        let mut names = Vec::new();
        for Improvement { id, .. } in &given_up {
            // Nothing is left that learned from it.
            store.forget_training(id).await?;
            tracing::info!(improvement = %id, "given up: what it learned from was erased or is no longer allowed");
            names.push(id.clone());
        }
        let improvements = self.library.improvements.clone();
        // The records last: what is left after a crash in between is found again, as they still say that they may go on.
        blocking(move || {
            let mut records = given_up.into_iter();
            records.try_for_each(|mut record| {
                improvements.end_withdrawn(&making, &mut record, now()).map_err(kept)
            })
        })
        .await?;
        Ok(names)
    }

    /// The names of improvements that were interrupted; none while one is made, for then none is given up.
    pub(crate) async fn interrupted(&self) -> Result<Vec<String>, ApiError> {
        let improvements = self.library.improvements.clone();
        blocking(move || {
            if improvements.is_running() {
                return Ok(Vec::new());
            }
            improvements.unfinished().map_err(|error| {
                tracing::error!(%error, "the records of improvements could not be read");
                ApiError::internal(
                    "the records of improvements could not be read; the server's log says more",
                )
            })
        })
        .await
    }
}

/// The right to change the folders, if there is anything to remove and nobody makes an improvement.
fn begin(improvements: &Improvements) -> Result<Option<Running>, PromotionError> {
    if !improvements.may_hold_withdrawn()? {
        return Ok(None);
    }
    match improvements.try_begin() {
        Err(PromotionError::Busy) => Ok(None),
        begun => begun.map(Some),
    }
}

fn kept(error: PromotionError) -> ApiError {
    tracing::error!(%error, "what was erased could not be removed from the folders of unfinished improvements");
    ApiError::internal(
        "it is gone from the database, but copies that unfinished improvements hold of it could not be removed; the server tries again every \
         hour, and its log says more",
    )
}
