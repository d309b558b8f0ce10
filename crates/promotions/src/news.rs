//! Whether an improvement would learn anything that the last one did not.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::PromotionError;
use crate::improvements::{Improvement, ImprovementState, Improvements};

/// The name of a recipe's setting that says how often the examples are gone through.
pub const PASSES: &str = "passes";
/// The name of the setting that bounds the examples of one person; it is empty where nobody said it.
pub const PER_PERSON: &str = "per_person";
/// The name of the setting with those of the training that were given, one a line.
pub const SET: &str = "set";
/// The passes where nobody says how many.
pub const DEFAULT_PASSES: u32 = 4;

/// The settings of a recipe where nobody says any.
pub fn unsaid_settings() -> BTreeMap<String, String> {
    let passes = DEFAULT_PASSES.to_string();
    [(PASSES, passes), (PER_PERSON, String::new()), (SET, String::new())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// In what an improvement differs from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Judgements that it alone learns from.
    pub new: usize,
    /// Judgements that the earlier one alone learned from.
    pub gone: usize,
    /// Whether it learns otherwise.
    pub has_other_options: bool,
}

impl News {
    /// In which judgements and options `wished` differs from `last`; `None` where it does in nothing.
    pub fn since(last: &Improvement, wished: &Improvement) -> Option<News> {
        let [known, used]: [BTreeSet<&String>; 2] =
            [last, wished].map(|record| record.recipe.rows.iter().collect());
        let (new, gone) = (used.difference(&known).count(), known.difference(&used).count());
        // Records of earlier versions do not say all of them.
        let differs = |name: &str| {
            let then = last.recipe.settings.get(name);
            then.is_some() && then != wished.recipe.settings.get(name)
        };
        let has_other_options =
            last.method != wished.method || [PASSES, PER_PERSON, SET].into_iter().any(differs);
        (new > 0 || gone > 0 || has_other_options).then_some(News { new, gone, has_other_options })
    }
}

impl Improvements {
    /// The last improvement of a model that came to the end of its gate.
    ///
    /// # Errors
    /// As for [`Improvements::list`].
    pub fn last_judged(&self, model: &str) -> Result<Option<Improvement>, PromotionError> {
        let has_ended = |record: &Improvement| {
            record.model == model
                && matches!(record.state, ImprovementState::Passed | ImprovementState::Refused)
        };
        Ok(self.list()?.into_iter().find(has_ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(method: &str, rows: &[&str], options: &[(&str, &str)]) -> Improvement {
        let mut record = Improvement::begun("one", "tiny", method, 1);
        record.recipe.rows = rows.iter().map(|row| (*row).to_owned()).collect();
        record.recipe.settings =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        record
    }

    /// What was erased once made the next improvement learn from nothing new, and it was refused; so was another method.
    #[test]
    fn nothing_is_new_only_where_nothing_differs() {
        let unsaid = [(PASSES, "4"), (PER_PERSON, ""), (SET, "")];
        let last = Improvement {
            recipe: crate::Recipe {
                settings: unsaid_settings(),
                ..learned("dpo", &["a", "b", "c"], &[]).recipe
            },
            ..learned("dpo", &[], &[])
        };
        let news = |method: &str, rows: &[&str], options: &[(&str, &str)]| {
            News::since(&last, &learned(method, rows, options))
        };
        let differs = |new, gone, has_other_options| Some(News { new, gone, has_other_options });
        assert_eq!(news("dpo", &["a", "b", "c"], &unsaid), None);
        assert_eq!(news("dpo", &["b", "c", "d"], &unsaid), differs(1, 1, false));
        assert_eq!(news("dpo", &["a"], &unsaid), differs(0, 2, false));
        assert_eq!(news("kto", &["a", "b", "c"], &unsaid), differs(0, 0, true));
        let more = [(PASSES, "8"), (PER_PERSON, ""), (SET, "")];
        assert_eq!(news("dpo", &["a", "b", "c"], &more), differs(0, 0, true));
        // An earlier version did not write down how many examples of one person there could be.
        let earlier = learned("dpo", &["a"], &[(PASSES, "4"), (SET, "")]);
        assert_eq!(News::since(&earlier, &learned("dpo", &["a"], &unsaid)), None);
    }
}
