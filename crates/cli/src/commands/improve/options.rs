//! The options that decide what becomes of an improvement, as its recipe has them.

use super::ImproveArguments;
use super::training::judged_settings;
use std::collections::BTreeMap;
use zhenjin_improve::{Collection, Method};
use zhenjin_promotions::{DEFAULT_PASSES, Improvement, PASSES, PER_PERSON, SET};

/// The settings of a recipe, for an improvement that begins.
pub(super) fn settings(arguments: &ImproveArguments, collection: &Collection) -> BTreeMap<String, String> {
    let settings = [
        (PASSES, arguments.passes.unwrap_or(DEFAULT_PASSES).to_string()),
        (PER_PERSON, arguments.per_person.map(|count| count.to_string()).unwrap_or_default()),
        (SET, arguments.set.join("\n")),
    ];
    let mut settings: BTreeMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if collection.method == Method::Kto {
        let (liked, disliked) = collection.liked_and_disliked();
        settings.extend([judged_settings(liked, disliked)]);
    }
    settings
}

/// The given options that an interrupted improvement did not begin with, in words.
pub(super) fn different(arguments: &ImproveArguments, record: &Improvement) -> Vec<String> {
    let began = |name: &str| record.recipe.settings.get(name).cloned();
    let set = (!arguments.set.is_empty()).then(|| arguments.set.join("\n"));
    let options = [
        ("the model", arguments.model.clone(), Some(record.model.clone())),
        ("--method", arguments.method.map(|method| method.to_string()), Some(record.method.clone())),
        ("--passes", arguments.passes.map(|count| count.to_string()), began(PASSES)),
        ("--per-person", arguments.per_person.map(|count| count.to_string()), began(PER_PERSON)),
        ("--set", set, began(SET)),
    ];
    let difference = |(name, given, began): (&str, Option<String>, Option<String>)| {
        let given = given.filter(|given| began.as_ref() != Some(given))?.replace('\n', " ");
        Some(match began.filter(|began| !began.is_empty()) {
            Some(began) => format!("{name} {given} instead of {}", began.replace('\n', " ")),
            None => format!("{name} {given}"),
        })
    };
    options.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        improve: ImproveArguments,
    }

    fn given(words: &[&str]) -> ImproveArguments {
        Words::try_parse_from([&["improve"][..], words].concat()).expect("options").improve
    }

    fn begun(words: &[&str]) -> Improvement {
        let mut record = Improvement::begun("one", "tiny", "dpo", 1);
        let arguments = given(words);
        let collection = zhenjin_improve::collect_again(
            &[],
            "tiny",
            &zhenjin_improve::Again {
                method: Method::Dpo,
                division: zhenjin_improve::Division::Opening,
                order: zhenjin_improve::Order::Name,
                without: &[],
            },
        );
        record.recipe.settings = settings(&arguments, &collection);
        record
    }

    /// They were once ignored in silence.
    #[test]
    fn options_that_an_interrupted_improvement_did_not_begin_with_are_named() {
        let plain = begun(&[]);
        let difference = |words: &[&str], record: &Improvement| different(&given(words), record).join(", ");
        for same in [&[][..], &["tiny", "--method", "dpo", "--passes", "4", "--again", "--auto"][..]] {
            assert_eq!(difference(same, &plain), "", "{same:?}");
        }
        let other = ["--passes", "8", "--per-person", "50", "--set", "a=1", "--set", "b=2"];
        let words = "--passes 8 instead of 4, --per-person 50, --set a=1 b=2";
        assert_eq!(difference(&other, &plain), words);
        let with = begun(&other);
        assert_eq!(difference(&other, &with), "");
        assert_eq!(difference(&[], &with), "", "what is not given is as it began");
        let words =
            "the model small instead of tiny, --method kto instead of dpo, --set a=1 instead of a=1 b=2";
        assert_eq!(difference(&["small", "--method", "kto", "--set", "a=1"], &with), words);
        // A record of an earlier version does not say how many examples of one person there could be.
        let mut earlier = plain;
        earlier.recipe.settings.remove(PER_PERSON);
        assert_eq!(difference(&["--per-person", "50"], &earlier), "--per-person 50");
        assert_eq!(difference(&[], &earlier), "");
    }
}
