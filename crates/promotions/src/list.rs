//! The list of what answers under which name, and what answered before.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{PromotionError, io};
use crate::json_file;
use crate::weights::{Origin, Promoted, WeightsKind, take};

const LIST_FILE: &str = "promotions.json";
const LOCK_FILE: &str = "promotions.lock";
/// What a model keeps of what answered before: its own weights, and the latest of what was promoted since.
const KEPT: usize = 64;

/// What answers under a model's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPromotions {
    /// What answers; `None`: the model's own weights.
    pub now: Option<Promoted>,
    /// What answered before, the latest last; `None`: the model's own weights, which are always the first.
    #[serde(default)]
    pub earlier: Vec<Option<Promoted>>,
}

impl ModelPromotions {
    /// Puts the model's own weights first where they are missing: earlier versions dropped them after many promotions.
    fn restore_own_weights(&mut self) {
        let has_promotions = self.now.is_some() || !self.earlier.is_empty();
        if has_promotions && !matches!(self.earlier.first(), Some(None)) {
            self.earlier.insert(0, None);
        }
    }
}

/// The folder of promotions.
#[derive(Clone, Debug)]
pub struct Promotions {
    folder: PathBuf,
}

/// Held while the list is changed; the system lets go of it when the process ends, however it ends.
struct Lock {
    _file: File,
}

impl Promotions {
    /// The promotions in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Promotions {
        Promotions { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What answers under each name that ever had a promotion.
    ///
    /// # Errors
    /// [`PromotionError::Damaged`] when the list is not one, [`PromotionError::Io`] when it cannot be read.
    pub fn read(&self) -> Result<BTreeMap<String, ModelPromotions>, PromotionError> {
        let path = self.folder.join(LIST_FILE);
        let mut list: BTreeMap<String, ModelPromotions> = json_file::read(&path)?.unwrap_or_default();
        check(&list).map_err(|problem| PromotionError::Damaged { path, problem })?;
        list.values_mut().for_each(ModelPromotions::restore_own_weights);
        Ok(list)
    }

    /// What answers for `model` in the place of its own weights.
    ///
    /// # Errors
    /// As for [`Promotions::read`].
    pub fn answering(&self, model: &str) -> Result<Option<Promoted>, PromotionError> {
        Ok(self.read()?.remove(model).and_then(|of_model| of_model.now))
    }

    /// The adapter that an improvement of `model` is compared with; `None`: the model's own weights.
    ///
    /// # Errors
    /// [`PromotionError::WholeWeights`] where other weights answer in their place, and as for [`Promotions::read`].
    pub fn comparable(&self, model: &str) -> Result<Option<Promoted>, PromotionError> {
        let now = self.answering(model)?;
        if now.as_ref().is_none_or(|now| now.kind == WeightsKind::Adapter) {
            return Ok(now);
        }
        Err(PromotionError::WholeWeights { model: model.to_owned() })
    }

    /// Changes whenever the list changes; `None` without one.
    pub fn version(&self) -> Option<(std::time::SystemTime, u64)> {
        let found = std::fs::metadata(self.folder.join(LIST_FILE)).ok()?;
        Some((found.modified().ok()?, found.len()))
    }

    /// Copies the weights at `source` and lets them answer for `model`. `now` is the time in milliseconds since 1970. Of
    /// weights that answer already: see [`Promotions::enter`].
    ///
    /// # Errors
    /// [`PromotionError::NoWeights`], and when files cannot be read or written; then the same weights answer as before.
    pub fn promote(
        &self,
        model: &str,
        source: &Path,
        now: i64,
        origin: Origin,
    ) -> Result<Promoted, PromotionError> {
        self.enter(model, self.copy(source, now, origin)?)
    }

    /// Copies the weights at `source`, so that they can be tried before [`Promotions::enter`] lets them answer. `now` is the time in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// [`PromotionError::NoWeights`], and when files cannot be read or written.
    pub fn copy(&self, source: &Path, now: i64, origin: Origin) -> Result<Promoted, PromotionError> {
        std::fs::create_dir_all(&self.folder).map_err(io("make the folder", &self.folder))?;
        take(&self.folder, source, now, origin)
    }

    /// Lets weights that were copied answer for `model`. Weights that answer already go on, and are from then on the improvement's if `promoted`
    /// is of one. Copies are never removed, whether the list still names them or not.
    ///
    /// # Errors
    /// When the list cannot be read or written; then it is as it was.
    pub fn enter(&self, model: &str, promoted: Promoted) -> Result<Promoted, PromotionError> {
        let _lock = self.lock()?;
        let mut list = self.read()?;
        let of_model = list.entry(model.to_owned()).or_default();
        if let Some(present) = of_model.now.as_mut().filter(|present| present.id == promoted.id) {
            // An improvement's record says more of them than the folder from which they were promoted before.
            let has_news = promoted.origin.improvement.is_some() && present.origin != promoted.origin;
            if has_news {
                present.origin = promoted.origin;
            }
            let present = present.clone();
            if has_news {
                self.write(&list)?;
            }
            return Ok(present);
        }
        let before = of_model.now.replace(promoted.clone());
        of_model.earlier.push(before);
        let surplus = of_model.earlier.len().saturating_sub(KEPT);
        // The first are the model's own weights, which can always be gone back to.
        of_model.earlier.drain(1..=surplus);
        self.write(&list)?;
        Ok(promoted)
    }

    /// Lets what answered before answer again: `None` is the model's own weights. What is rolled back keeps its folder.
    ///
    /// # Errors
    /// [`PromotionError::NothingEarlier`], and when the list cannot be read or written.
    pub fn roll_back(&self, model: &str) -> Result<Option<Promoted>, PromotionError> {
        let _lock = self.lock()?;
        let mut list = self.read()?;
        let of_model = list.get_mut(model);
        let earlier = of_model.and_then(|of_model| {
            let earlier = of_model.earlier.pop()?;
            of_model.now.clone_from(&earlier);
            Some(earlier)
        });
        let nothing = || PromotionError::NothingEarlier { model: model.to_owned() };
        let now = earlier.ok_or_else(nothing)?;
        self.write(&list)?;
        Ok(now)
    }

    fn write(&self, list: &BTreeMap<String, ModelPromotions>) -> Result<(), PromotionError> {
        json_file::write(&self.folder.join(LIST_FILE), list)
    }

    fn lock(&self) -> Result<Lock, PromotionError> {
        let file = json_file::open_lock(&self.folder, LOCK_FILE)?;
        file.lock().map_err(io("lock", &self.folder.join(LOCK_FILE)))?;
        Ok(Lock { _file: file })
    }
}

/// Refuses a list that names folders elsewhere.
fn check(list: &BTreeMap<String, ModelPromotions>) -> Result<(), String> {
    for (model, of_model) in list {
        let all = of_model.earlier.iter().chain([&of_model.now]).flatten();
        if let Some(wrong) = all.into_iter().find(|promoted| !promoted.is_plausible()) {
            return Err(format!("`{}` under `{model}` is not the name of a promotion's folder", wrong.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn adapter(folder: &Path, content: &str) -> PathBuf {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("adapter_config.json"), "{}").expect("a file");
        std::fs::write(folder.join("adapter_model.safetensors"), content).expect("a file");
        std::fs::write(folder.join("optimiser.safetensors"), "not copied").expect("a file");
        folder.to_owned()
    }

    fn promotions() -> (tempfile::TempDir, Promotions) {
        let folder = tempfile::tempdir().expect("a folder");
        let promotions = Promotions::new(folder.path().join("promoted"));
        (folder, promotions)
    }

    #[test]
    fn promoted_replaced_and_rolled_back_in_order() {
        let (folder, promotions) = promotions();
        assert_eq!(promotions.read().expect("a list"), BTreeMap::new());
        let [one, two] = ["one", "two"].map(|name| adapter(&folder.path().join(name), name));
        let origin = Origin { method: Some("dpo".to_owned()), ..Origin::default() };
        let first = promotions.promote("a", &one, 1, origin.clone()).expect("promoted");
        let second = promotions
            .promote("a", &two.join("adapter_config.json"), 2, Origin::default())
            .expect("promoted");
        assert_ne!(first.id, second.id);
        assert_eq!((first.kind, first.since, &first.origin), (WeightsKind::Adapter, 1, &origin));
        let list = promotions.read().expect("a list");
        assert_eq!(list["a"].now.as_ref(), Some(&second));
        assert_eq!(list["a"].earlier, [None, Some(first.clone())]);
        // Its source may go.
        std::fs::remove_dir_all(&one).expect("removed");
        assert_eq!(promotions.roll_back("a").expect("rolled back"), Some(first.clone()));
        let copied = first.path(promotions.folder());
        assert_eq!(std::fs::read_to_string(copied.join("adapter_model.safetensors")).expect("a file"), "one");
        assert!(!copied.join("optimiser.safetensors").exists());
        assert_eq!(promotions.roll_back("a").expect("rolled back"), None);
        let error = promotions.roll_back("a").expect_err("nothing is left").to_string();
        assert!(error.contains("`a`"), "{error}");
    }

    #[test]
    fn the_same_weights_once_more_change_nothing() {
        let (folder, promotions) = promotions();
        let one = adapter(&folder.path().join("one"), "one");
        let first = promotions.promote("a", &one, 1, Origin::default()).expect("promoted");
        assert_eq!(promotions.promote("a", &one, 2, Origin::default()).expect("promoted"), first);
        assert_eq!(promotions.read().expect("a list")["a"].earlier, [None]);
    }

    /// Regression: an improvement was promoted whose weights answered already, as they had been promoted from a folder, and nothing said that it was
    /// the improvement that answered.
    #[test]
    fn weights_that_answer_already_are_the_improvements_once_it_is_promoted() {
        let (folder, promotions) = promotions();
        let one = adapter(&folder.path().join("one"), "one");
        let of_folder = Origin { source: Some("one".to_owned()), ..Origin::default() };
        let of_improvement = Origin { improvement: Some("i7".to_owned()), ..Origin::default() };
        let first = promotions.promote("a", &one, 1, of_folder.clone()).expect("promoted");
        let promoted = promotions.promote("a", &one, 2, of_improvement.clone()).expect("promoted");
        assert_eq!(promoted, Promoted { origin: of_improvement, ..first });
        let list = promotions.read().expect("a list");
        assert_eq!((list["a"].now.as_ref(), &list["a"].earlier[..]), (Some(&promoted), &[None][..]));
        // The other way round nothing is forgotten.
        assert_eq!(promotions.promote("a", &one, 3, of_folder).expect("promoted"), promoted);
        assert_eq!(promotions.read().expect("a list"), list);
    }

    /// Regression: after many promotions the oldest entry was dropped, which is the model itself, so that nobody could go back to it.
    #[test]
    fn the_models_own_weights_can_be_gone_back_to_after_many_promotions() {
        let (folder, promotions) = promotions();
        let [one, two] = ["one", "two"].map(|name| adapter(&folder.path().join(name), name));
        let made: Vec<Promoted> = (0..KEPT + 2)
            .map(|index| {
                let source = if index % 2 == 0 { &one } else { &two };
                promotions.promote("a", source, index as i64, Origin::default()).expect("promoted")
            })
            .collect();
        let earlier = promotions.read().expect("a list").remove("a").expect("a model").earlier;
        assert_eq!((earlier.len(), &earlier[0]), (KEPT, &None));
        let mut back = Vec::new();
        while let Ok(now) = promotions.roll_back("a") {
            back.push(now);
        }
        // The latest first, without those that were too many, and at last the model itself.
        let latest = made.iter().rev().skip(1).take(KEPT - 1).cloned().map(Some);
        assert_eq!(back, latest.chain([None]).collect::<Vec<_>>());
        let error = promotions.roll_back("a").expect_err("the model itself answers");
        assert!(matches!(error, PromotionError::NothingEarlier { .. }), "{error}");
        let list = promotions.read().expect("a list");
        assert_eq!(list["a"], ModelPromotions::default());
    }

    /// Lists of earlier versions lack the model itself where it was promoted for many times.
    #[test]
    fn a_list_that_lost_the_models_own_weights_has_them_again() {
        let (folder, promotions) = promotions();
        let one = adapter(&folder.path().join("one"), "one");
        let promoted = promotions.promote("a", &one, 1, Origin::default()).expect("promoted");
        let lost = |earlier| ModelPromotions { now: Some(promoted.clone()), earlier };
        let other = Promoted { id: "0123456789abcdef".to_owned(), ..promoted.clone() };
        let [a, b] = [lost(vec![Some(other.clone())]), lost(Vec::new())];
        let list = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        promotions.write(&list).expect("written");
        let read = promotions.read().expect("a list");
        assert_eq!(read["a"].earlier, [None, Some(other)]);
        assert_eq!(read["b"].earlier, [None]);
        assert_eq!(promotions.roll_back("b").expect("rolled back"), None);
        assert_eq!(promotions.read().expect("a list")["b"], ModelPromotions::default());
    }

    #[test]
    fn whole_models_are_folders_or_gguf_files() {
        let (folder, promotions) = promotions();
        let model = folder.path().join("model");
        std::fs::create_dir_all(&model).expect("a folder");
        for name in
            ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json", "state.json"]
        {
            std::fs::write(model.join(name), name).expect("a file");
        }
        let promoted = promotions.promote("a", &model, 1, Origin::default()).expect("promoted");
        assert_eq!(promoted.kind, WeightsKind::Folder);
        let copy = promoted.path(promotions.folder());
        assert!(copy.join("model-00001-of-00001.safetensors").is_file() && !copy.join("state.json").exists());
        let file = folder.path().join("small.gguf");
        std::fs::write(&file, "GGUF").expect("a file");
        // With neither can an adapter to the model's own weights be compared.
        let refused = promotions.comparable("a").expect_err("whole weights");
        assert!(matches!(refused, PromotionError::WholeWeights { .. }), "{refused}");
        assert_eq!(promotions.comparable("b").expect("its own weights"), None);
        let promoted = promotions.promote("a", &file, 2, Origin::default()).expect("promoted");
        assert_eq!((promoted.kind, promoted.path(promotions.folder()).is_file()), (WeightsKind::Gguf, true));
        let nothing =
            promotions.promote("a", folder.path(), 3, Origin::default()).expect_err("no weights").to_string();
        assert!(nothing.contains("adapter_config.json"), "{nothing}");
    }

    #[test]
    fn a_list_that_points_elsewhere_is_refused() {
        let (_folder, promotions) = promotions();
        std::fs::create_dir_all(promotions.folder()).expect("a folder");
        let text = r#"{"a": {"now": {"id": "../../../../etc", "kind": "adapter", "since": 0}}}"#;
        std::fs::write(promotions.folder().join(LIST_FILE), text).expect("a file");
        let error = promotions.read().expect_err("a path").to_string();
        assert!(error.contains("../../../../etc"), "{error}");
    }

    #[test]
    fn promotions_made_at_once_are_all_kept() {
        let (folder, promotions) = promotions();
        std::thread::scope(|scope| {
            for index in 0..8 {
                let (folder, promotions) = (folder.path(), &promotions);
                scope.spawn(move || {
                    let source = adapter(&folder.join(format!("source-{index}")), &format!("{}", index % 4));
                    promotions
                        .promote(&format!("model-{}", index % 2), &source, index, Origin::default())
                        .expect("promoted");
                });
            }
        });
        let list = promotions.read().expect("a list");
        for name in ["model-0", "model-1"] {
            let mut ids: Vec<_> = list[name]
                .earlier
                .iter()
                .chain([&list[name].now])
                .flatten()
                .map(|promoted| promoted.id.clone())
                .collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 2, "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_list_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (_folder, promotions) = promotions();
            std::fs::create_dir_all(promotions.folder()).expect("a folder");
            std::fs::write(promotions.folder().join(LIST_FILE), bytes).expect("a file");
            let _ = promotions.read();
        }

        #[test]
        fn whatever_is_written_is_read_back(id in "[0-9a-f]{16}", since in any::<i64>(), text in ".*", has_more in any::<bool>()) {
            let origin = Origin { data: Some(text.clone()), ..Origin::default() };
            let promoted = Promoted { id, kind: WeightsKind::Gguf, since, origin };
            let of_model = ModelPromotions { now: has_more.then(|| promoted.clone()), earlier: vec![None, Some(promoted)] };
            let list = BTreeMap::from([(text, of_model)]);
            let (_folder, promotions) = promotions();
            std::fs::create_dir_all(promotions.folder()).expect("a folder");
            promotions.write(&list).expect("written");
            prop_assert_eq!(promotions.read().expect("a list"), list);
        }
    }
}
