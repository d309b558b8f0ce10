//! The four tones of Middle Chinese, and what regulated verse makes of them.

use serde::Serialize;

/// By which readings tones and rhymes are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standard {
    /// Those of the Pingshui rhyme book; rhymes of ci by 《詞林正韻》.
    RhymeBook,
    /// Those of today: first and second tone are level; rhymes by 《中華新韻》.
    Modern,
}

/// A tone of Middle Chinese, as rhyme books divide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// 平
    Level,
    /// 上
    Rising,
    /// 去
    Departing,
    /// 入
    Entering,
}

/// How a character counts in a tone pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// 平
    Level,
    /// 仄: rising, departing or entering
    Oblique,
    /// Has readings of both kinds, which one depends on its meaning.
    Either,
    /// In no table.
    Unknown,
}

impl Pattern {
    /// What several readings come to together.
    pub(crate) fn of(mut levels: impl Iterator<Item = bool>) -> Pattern {
        let Some(first) = levels.next() else { return Pattern::Unknown };
        if levels.any(|level| level != first) {
            return Pattern::Either;
        }
        if first { Pattern::Level } else { Pattern::Oblique }
    }

    /// Whether the character may stand where a level (or, with `false`, an oblique) one is asked for.
    pub fn may_be_level(self, level: bool) -> bool {
        match self {
            Pattern::Level => level,
            Pattern::Oblique => !level,
            Pattern::Either | Pattern::Unknown => true,
        }
    }

    /// Whether two characters may be of one kind (or, with `false`, of opposite kinds).
    pub(crate) fn may_agree(self, other: Pattern, agree: bool) -> bool {
        [true, false].into_iter().any(|level| self.may_be_level(level) && other.may_be_level(level == agree))
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern::{Either, Level, Oblique, Unknown};
    use super::*;

    #[test]
    fn readings_of_both_kinds_fit_everywhere() {
        assert_eq!(Pattern::of([true, false].into_iter()), Either);
        assert_eq!(Pattern::of([false, false].into_iter()), Oblique);
        assert_eq!(Pattern::of(std::iter::empty()), Unknown);
        assert!(Either.may_be_level(true) && Either.may_be_level(false));
        assert!(!Level.may_agree(Oblique, true) && Level.may_agree(Oblique, false));
        assert!(Level.may_agree(Unknown, true) && Level.may_agree(Unknown, false));
    }
}
