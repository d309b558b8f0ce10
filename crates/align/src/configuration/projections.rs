//! Which projections of the layers get an addition.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zhenjin_model::LayerWeightName::{self, Down, Gate, Key, Output, Query, Up, Value};

/// All seven, by the names that Hugging Face and PEFT (`target_modules`) have for them.
const NAMED: [(&str, LayerWeightName); 7] = [
    ("q_proj", Query),
    ("k_proj", Key),
    ("v_proj", Value),
    ("o_proj", Output),
    ("gate_proj", Gate),
    ("up_proj", Up),
    ("down_proj", Down),
];

/// A set of projections. As text it is `all`, `attention` (queries, keys, values and the output), `query-value`, or names with commas
/// between, such as `q_proj,v_proj,down_proj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projections {
    /// Whether each of [`NAMED`] is in the set.
    chosen: [bool; NAMED.len()],
}

impl Projections {
    /// All seven.
    pub const ALL: Projections = Projections { chosen: [true; NAMED.len()] };
    /// Queries, keys, values and the output of attention.
    pub const ATTENTION: Projections = Projections { chosen: [true, true, true, true, false, false, false] };
    /// Queries and values, as in the paper (Hu et al. 2021, section 4.2).
    pub const QUERY_VALUE: Projections =
        Projections { chosen: [true, false, true, false, false, false, false] };
    /// Sets that have a name of their own.
    const SETS: [(&str, Projections); 3] = [
        ("all", Projections::ALL),
        ("attention", Projections::ATTENTION),
        ("query-value", Projections::QUERY_VALUE),
    ];

    /// The set of these projections; `None` where there are none, or one of them cannot be in a set.
    pub fn of(weights: impl IntoIterator<Item = LayerWeightName>) -> Option<Projections> {
        let mut chosen = [false; NAMED.len()];
        for weight in weights {
            chosen[NAMED.iter().position(|(_, named)| *named == weight)?] = true;
        }
        chosen.contains(&true).then_some(Projections { chosen })
    }

    /// Those of the set with their names, in the order of a layer.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, LayerWeightName)> {
        NAMED.iter().zip(self.chosen).filter(|(_, chosen)| *chosen).map(|(named, _)| *named)
    }

    /// Those of the set, in the order of a layer.
    pub fn weights(&self) -> impl Iterator<Item = LayerWeightName> {
        self.named().map(|(_, weight)| weight)
    }

    /// The set as settings have it.
    pub fn text(&self) -> String {
        match Projections::SETS.iter().find(|(_, set)| set == self) {
            Some((name, _)) => (*name).to_owned(),
            None => self.named().map(|(name, _)| name).collect::<Vec<_>>().join(","),
        }
    }

    fn of_text(text: &str) -> Result<Projections, String> {
        if let Some((_, set)) = Projections::SETS.iter().find(|(name, _)| *name == text) {
            return Ok(*set);
        }
        let mut chosen = [false; NAMED.len()];
        for word in text.split(',').map(str::trim) {
            let place = NAMED.iter().position(|(name, _)| *name == word).ok_or_else(|| {
                let sets = Projections::SETS.map(|(name, _)| name).join(", ");
                let names = NAMED.map(|(name, _)| name).join(",");
                format!("`{word}` is no projection: give {sets}, or some of {names} with commas between")
            })?;
            chosen[place] = true;
        }
        Ok(Projections { chosen })
    }
}

impl Serialize for Projections {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'a> Deserialize<'a> for Projections {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Projections, D::Error> {
        let text = String::deserialize(deserializer)?;
        Projections::of_text(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_names_come_back_and_other_words_are_refused_by_name() {
        for text in ["all", "attention", "query-value", "down_proj", "q_proj,k_proj", "v_proj,o_proj,up_proj"]
        {
            assert_eq!(Projections::of_text(text).unwrap().text(), text);
        }
        // Sets by the names of their members, in any order.
        assert_eq!(Projections::of_text("v_proj, q_proj").unwrap(), Projections::QUERY_VALUE);
        assert_eq!(Projections::QUERY_VALUE.weights().collect::<Vec<_>>(), [Query, Value]);
        let of = |weights: &[LayerWeightName]| {
            Projections::of(weights.iter().copied()).map(|projections| projections.text())
        };
        assert_eq!(of(&[Value, Query, Value]).as_deref(), Some("query-value"));
        assert_eq!(of(&[Down]).as_deref(), Some("down_proj"));
        assert_eq!((of(&[]), of(&[Query, LayerWeightName::Router])), (None, None));
        for text in ["", "q_proj,", "lm_head", "q_proj v_proj", "ALL"] {
            let problem = Projections::of_text(text).unwrap_err();
            assert!(problem.contains("is no projection") && problem.contains("down_proj"), "{problem}");
        }
    }
}
