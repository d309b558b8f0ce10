//! The judgements of an improvement: read from the store, written as files of examples while it is made, and forgotten afterwards.

use super::{Stage, now, sha256};
use crate::commands::feedback::judged;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use zhenjin_files::{FileDigest, write_whole};
use zhenjin_improve::{
    Again, Collection, Division, Item, Judged, Limits, Method, Order, anchor, collect, collect_again,
};
use zhenjin_promotions::{ANCHOR_FILE, HELD_OUT_FILE, Improvement, Improvements, News, Running, TRAIN_FILE};
use zhenjin_store::{FeedbackId, Store};

/// A judgement, and its name in the store.
#[derive(Clone, Debug)]
pub(super) struct Row {
    id: FeedbackId,
    judged: Judged,
}

/// Examples as they are written to files.
pub(super) struct Collected {
    pub(super) collection: Collection,
    /// The names of all judgements behind them.
    pub(super) rows: Vec<String>,
    pub(super) train_sha256: String,
    pub(super) held_out_sha256: String,
    train: String,
    held_out: String,
}

/// All judgements in the store.
pub(super) async fn read(store: &Store) -> Result<Vec<Row>> {
    let said = store.training_feedback().await?;
    let ids: Vec<FeedbackId> = said.iter().map(|feedback| feedback.id.clone()).collect();
    Ok(ids.into_iter().zip(judged(said)).map(|(id, judged)| Row { id, judged }).collect())
}

/// The one model whose answers were judged; `is_model` says of a name whether a model has it.
pub(super) fn only_model(rows: &[Row], is_model: &dyn Fn(&str) -> bool) -> Result<String> {
    let names: BTreeSet<&str> = rows.iter().map(|row| row.judged.model.as_str()).collect();
    let models: BTreeSet<String> =
        names.into_iter().map(|name| without_adapter(name, is_model).to_owned()).collect();
    match models.len() {
        0 => bail!(
            "nobody judged an answer yet: thumbs, corrections and choices in the chat page are what a model learns from"
        ),
        1 => Ok(models.into_iter().next().unwrap_or_default()),
        _ => bail!(
            "answers of several models were judged: name one of {}",
            models.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The model of the name `MODEL` or `MODEL+ADAPTER`. A model's own name may have a `+` as well; that of an adapter has neither it nor a `/`.
fn without_adapter<'a>(name: &'a str, is_model: &dyn Fn(&str) -> bool) -> &'a str {
    match name.rsplit_once('+') {
        Some((model, adapter)) if !adapter.contains('/') && !is_model(name) => model,
        _ => name,
    }
}

fn judged_of(rows: &[Row]) -> Vec<Judged> {
    rows.iter().map(|row| row.judged.clone()).collect()
}

/// Why the judgements in the store, which are all there, give other examples than those of the record.
pub(super) fn why_not_again(record: &Improvement) -> String {
    let id = &record.id;
    if record.recipe.division.is_empty() {
        return format!(
            "the examples of the improvement {id} cannot be made again: an earlier version of this program made it, and did not write down which \
             examples of these judgements it had left out; or somebody judged again, edited or withdrew their consent since"
        );
    }
    format!(
        "what the improvement {id} learned from has changed since: somebody judged again, edited or withdrew their consent"
    )
}

/// The judgements of these names.
pub(super) fn only(rows: &[Row], names: &[String]) -> Result<Vec<Row>> {
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let found: Vec<Row> =
        rows.iter().filter(|row| wanted.contains(row.judged.id.as_str())).cloned().collect();
    let there: BTreeSet<&str> = found.iter().map(|row| row.judged.id.as_str()).collect();
    if there.len() < wanted.len() {
        bail!(
            "{} of the {} judgements that it learned from are not there any more: they were erased, or are in the trash",
            wanted.len() - there.len(),
            wanted.len()
        );
    }
    Ok(found)
}

/// Refuses to do the same again: to learn from the same judgements by the same method with the same settings as the last time. Says what is
/// different, where it is judgements: there may be fewer of them as well, which is what an improvement is asked for after something was erased.
pub(super) fn expect_news(improvements: &Improvements, wished: &Improvement) -> Result<()> {
    let Some(last) = improvements.last_judged(&wished.model)? else { return Ok(()) };
    match News::since(&last, wished) {
        None => bail!("nothing was judged since the improvement {}; --again makes another one", last.id),
        Some(news) => eprintln!("{} since the improvement {}", in_words(news), last.id),
    }
    Ok(())
}

fn in_words(News { new, gone, has_other_options }: News) -> String {
    let mut words = vec![format!("{new} new judgements")];
    if gone > 0 {
        words.push(format!("{gone} fewer"));
    }
    if has_other_options {
        words.push("other options".to_owned());
    }
    words.join(", ")
}

impl Collected {
    pub(super) fn of(
        rows: &[Row],
        model: &str,
        method: Option<Method>,
        limits: &Limits,
    ) -> Result<Collected> {
        Ok(Collected::of_collection(collect(&judged_of(rows), model, method, limits)?))
    }

    fn of_collection(collection: Collection) -> Collected {
        let lines = |items: &[Item]| items.iter().map(|item| format!("{}\n", item.to_json())).collect();
        let (train, held_out): (String, String) = (lines(&collection.train), lines(&collection.held_out));
        Collected {
            rows: collection.rows(),
            train_sha256: sha256(train.as_bytes()),
            held_out_sha256: sha256(held_out.as_bytes()),
            collection,
            train,
            held_out,
        }
    }

    /// What an improvement learned from, made once more of the judgements in the store; `None` where that gives other examples.
    pub(super) fn again(rows: &[Row], record: &Improvement) -> Result<Option<Collected>> {
        let recipe = &record.recipe;
        let rows = judged_of(&only(rows, &recipe.rows)?);
        let unknown =
            |error: String| anyhow::anyhow!("the improvement {} cannot be made again: {error}", record.id);
        let again = Again {
            method: record.method.parse().map_err(unknown)?,
            division: Division::of_recipe(&recipe.division).map_err(unknown)?,
            order: Order::of_recipe(&recipe.order).map_err(unknown)?,
            without: &recipe.without,
        };
        let collected = Collected::of_collection(collect_again(&rows, &record.model, &again));
        let is_same = collected.train_sha256 == recipe.train_sha256
            && collected.held_out_sha256 == recipe.held_out_sha256;
        Ok(is_same.then_some(collected))
    }

    pub(super) fn write(&self, stage: &Stage<'_>) -> Result<()> {
        write_whole(&stage.path(TRAIN_FILE), &[self.train.as_bytes()])?;
        write_whole(&stage.path(HELD_OUT_FILE), &[self.held_out.as_bytes()])?;
        let texts = [anchor::ENGLISH, "\n", anchor::CHINESE].map(str::as_bytes);
        Ok(write_whole(&stage.path(ANCHOR_FILE), &texts)?)
    }

    /// Notes in the store what is learned from, before it is: whoever erases it meanwhile is told.
    pub(super) async fn note(&self, store: &Store, rows: &[Row], id: &str) -> Result<()> {
        let used: BTreeSet<&String> = self.rows.iter().collect();
        let mut ids: Vec<FeedbackId> =
            rows.iter().filter(|row| used.contains(&row.judged.id)).map(|row| row.id.clone()).collect();
        ids.dedup();
        Ok(store.note_training(id, &ids).await?)
    }
}

/// The files of examples must be those of the record: an improvement that goes on learns from what it began with.
pub(super) fn expect_files(stage: &Stage<'_>, record: &Improvement) -> Result<()> {
    for (name, expected) in
        [(TRAIN_FILE, &record.recipe.train_sha256), (HELD_OUT_FILE, &record.recipe.held_out_sha256)]
    {
        let found = FileDigest::of(&stage.path(name))?.hexadecimal();
        if found != *expected {
            bail!("{} is not what the improvement began with: begin a new one", stage.path(name).display());
        }
    }
    Ok(())
}

/// Whether an interrupted improvement has the examples that it began with. Where they are gone, they are made again of the judgements,
/// which are all there: see [`forget_withdrawn`].
pub(super) async fn restore(
    stage: &Stage<'_>,
    store: &Store,
    rows: &[Row],
    record: &Improvement,
) -> Result<bool> {
    if expect_files(stage, record).is_ok() && stage.path(ANCHOR_FILE).is_file() {
        return Ok(true);
    }
    // What else stands against it, such as too few examples, is said when it begins anew.
    let Ok(Some(collected)) = Collected::again(rows, record) else { return Ok(false) };
    collected.note(store, rows, &record.id).await?;
    collected.write(stage)?;
    Ok(true)
}

/// Removes the copies that were made of what may no longer be learned from: it was erased, changed or put into the trash, or its owner no
/// longer allows it. Says which unfinished improvements are given up by this, and gives their names.
pub(in crate::commands) async fn forget_withdrawn(
    improvements: &Improvements,
    making: &Running,
    store: &Store,
) -> Result<Vec<String>> {
    let rows = store.feedback_rows().await?;
    let may_be_learned: BTreeSet<String> =
        rows.iter().filter(|row| row.consents && !row.in_trash).map(|row| row.id.to_string()).collect();
    let withdrawn = improvements.forget_withdrawn(making, &|row| may_be_learned.contains(row))?;
    let mut given_up = Vec::new();
    for mut record in withdrawn {
        // Nothing is left that learned from it. The record last: after a crash in between it is found again.
        store.forget_training(&record.id).await?;
        improvements.end_withdrawn(making, &mut record, now())?;
        let reason = record.error.as_deref().unwrap_or_default();
        eprintln!("the improvement {} is given up: {reason}", record.id);
        given_up.push(record.id);
    }
    Ok(given_up)
}

pub(super) fn train_file(stage: &Stage<'_>) -> std::path::PathBuf {
    stage.path(TRAIN_FILE)
}

pub(super) fn anchor_file(stage: &Stage<'_>) -> std::path::PathBuf {
    stage.path(ANCHOR_FILE)
}

pub(super) fn held_out_file(stage: &Stage<'_>) -> std::path::PathBuf {
    stage.path(HELD_OUT_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_in_a_models_own_name_is_no_adapter() {
        let is_model = |name: &str| name == "a+b.gguf";
        for (name, model) in [
            ("smollm2:135m", "smollm2:135m"),
            ("smollm2:135m+tuned", "smollm2:135m"),
            ("/opt/c++/m.gguf", "/opt/c++/m.gguf"),
            ("/opt/c++/m.gguf+tuned.2", "/opt/c++/m.gguf"),
            ("a+b.gguf", "a+b.gguf"),
            ("a+b.gguf+base", "a+b.gguf"),
            ("gone+base", "gone"),
        ] {
            assert_eq!(without_adapter(name, &is_model), model, "{name}");
        }
    }
}
