//! How far generated poems keep the rules of their forms.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use zhenjin_prosody::{Poem, Standard, is_han};

use crate::copying::{CopiedRun, CopyFinder};

/// A poem with what it was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedPoem {
    /// What decides which forms are right: the tune of a ci, the kind of others.
    pub form: String,
    /// Whether it is a ci, whose lines rhyme by other rules and have no common tone pattern.
    pub is_ci: bool,
    /// The poem.
    pub text: String,
}

/// The forms that occur in training poems: lines and characters of each line, by kind or tune.
#[derive(Clone, Debug, Default)]
pub struct KnownForms {
    counts: BTreeMap<String, BTreeMap<Vec<usize>, usize>>,
}

impl KnownForms {
    /// Takes note of a training poem.
    pub fn learn(&mut self, form: &str, poem: &Poem) {
        let of_form = self.counts.entry(form.to_owned()).or_default();
        *of_form.entry(poem.lengths()).or_default() += 1;
    }

    /// Whether at least `times` training poems of this kind or tune have these lengths of lines.
    pub fn is_known(&self, form: &str, lengths: &[usize], times: usize) -> bool {
        let count = self.counts.get(form).and_then(|of_form| of_form.get(lengths));
        count.is_some_and(|count| *count >= times)
    }
}

/// Training poems that must have a form before it counts as right.
const TIMES_SEEN: usize = 3;
/// Pairs of characters among which the distinct ones are counted, at most: the share falls with their number, so that sets of poems can be
/// compared only over as many.
const PAIRS_COMPARED: usize = 10_000;

/// How far a set of poems keeps the rules of rhyme and tone, by one standard. Shares are of the poems that the row above them counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerseScores {
    /// Poems with at least two lines that should rhyme.
    pub with_rhymes: usize,
    /// Of those, poems in which every one does.
    pub all_rhyme: usize,
    /// Lines that should rhyme, in all.
    pub rhyme_lines: usize,
    /// Of those, lines that share the poem's rhyme.
    pub rhyming_lines: usize,
    /// Poems of an even number of lines of five or seven characters.
    pub with_tone_pattern: usize,
    /// Of those, poems that keep every rule of regulated verse.
    pub regulated: usize,
    /// Rules of regulated verse checked, in all.
    pub tone_checks: usize,
    /// Of those, rules kept.
    pub tones_kept: usize,
}

impl VerseScores {
    fn add(&mut self, poem: &Poem, is_ci: bool, standard: Standard) {
        let rhymes = if is_ci { poem.ci_rhymes_by(standard) } else { poem.shi_rhymes_by(standard) };
        if rhymes.expected > 1 {
            self.with_rhymes += 1;
            self.all_rhyme += usize::from(rhymes.is_complete());
            self.rhyme_lines += rhymes.expected;
            self.rhyming_lines += rhymes.lines.len();
        }
        if let (false, Some(checks)) = (is_ci, poem.tone_checks(standard)) {
            let kept = checks.iter().filter(|check| check.holds).count();
            self.with_tone_pattern += 1;
            self.regulated += usize::from(kept == checks.len());
            self.tone_checks += checks.len();
            self.tones_kept += kept;
        }
    }
}

/// What a set of poems comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoemScores {
    /// Poems judged.
    pub poems: usize,
    /// Poems whose numbers of lines and characters occur in three training poems of that kind or tune.
    pub right_form: usize,
    /// Poems that are no ci, and those of them with a right form.
    pub shi: usize,
    /// See [`PoemScores::shi`].
    pub shi_right_form: usize,
    /// Chinese characters of all poems.
    pub characters: usize,
    /// The share of different ones among the pairs of neighbouring characters of the first poems, 10,000 pairs at most (distinct-2; Li et al.
    /// 2016, arXiv 1510.03055). `None` without a pair.
    pub distinct_pairs: Option<f64>,
    /// Rhymes and tones by the Pingshui rhyme book, of ci by 《詞林正韻》.
    pub by_rhyme_book: VerseScores,
    /// The same by modern readings and 《中華新韻》.
    pub by_modern_readings: VerseScores,
    /// Characters of the longest run copied from training poems: median, 95th percentile, greatest.
    pub longest_copy: [usize; 3],
    /// The greatest of those runs.
    pub longest_copy_text: String,
}

/// The Chinese characters of a text: copied runs are counted without punctuation.
pub fn chinese_characters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|character| is_han(*character))
}

/// A finder for what `poems` copied; training poems are read through [`chinese_characters`].
pub fn copy_finder(poems: &[JudgedPoem]) -> CopyFinder {
    let texts: Vec<String> = poems.iter().map(|poem| chinese_characters(&poem.text).collect()).collect();
    CopyFinder::new(texts.iter().map(String::as_str))
}

/// Distinct pairs of neighbouring characters, punctuation aside; none reaches from one poem into the next.
fn distinct_pairs(poems: &[JudgedPoem]) -> Option<f64> {
    let texts = poems.iter().map(|poem| chinese_characters(&poem.text).collect::<Vec<char>>());
    let pairs = texts.flat_map(|text| text.windows(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>());
    let compared: Vec<[char; 2]> = pairs.take(PAIRS_COMPARED).collect();
    let distinct: BTreeSet<&[char; 2]> = compared.iter().collect();
    (!compared.is_empty()).then(|| distinct.len() as f64 / compared.len() as f64)
}

impl PoemScores {
    /// Judges `poems`; `copied` has the longest copied run of each.
    pub fn of(poems: &[JudgedPoem], forms: &KnownForms, copied: &[CopiedRun]) -> PoemScores {
        let mut scores = PoemScores { poems: poems.len(), ..PoemScores::default() };
        poems.iter().for_each(|poem| scores.add(poem, forms));
        scores.distinct_pairs = distinct_pairs(poems);
        let mut runs: Vec<&CopiedRun> = copied.iter().collect();
        runs.sort_by_key(|run| run.characters);
        if let Some(longest) = runs.last() {
            let at = |share: f64| runs[((runs.len() - 1) as f64 * share).round() as usize].characters;
            scores.longest_copy = [at(0.5), at(0.95), longest.characters];
            scores.longest_copy_text.clone_from(&longest.text);
        }
        scores
    }

    fn add(&mut self, judged: &JudgedPoem, forms: &KnownForms) {
        let poem = Poem::parse(&judged.text);
        let is_right = usize::from(forms.is_known(&judged.form, &poem.lengths(), TIMES_SEEN));
        self.right_form += is_right;
        if !judged.is_ci {
            self.shi += 1;
            self.shi_right_form += is_right;
        }
        self.characters += poem.lengths().iter().sum::<usize>();
        self.by_rhyme_book.add(&poem, judged.is_ci, Standard::RhymeBook);
        self.by_modern_readings.add(&poem, judged.is_ci, Standard::Modern);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> JudgedPoem {
        JudgedPoem { form: "tang".to_owned(), is_ci: false, text: text.to_owned() }
    }

    #[test]
    fn a_known_poem_keeps_its_rules_and_nonsense_does_not() {
        let real = judged("白日依山盡，黃河入海流。欲窮千里目，更上一層樓。");
        let mut forms = KnownForms::default();
        (0..3).for_each(|_| forms.learn("tang", &Poem::parse(&real.text)));
        let nonsense = judged("白日依山，黃河入海流。欲窮千里目。");
        let poems = [real.clone(), nonsense];
        let mut finder = copy_finder(&poems);
        finder.read(chinese_characters("更上一層樓"));
        let scores = PoemScores::of(&poems, &forms, &finder.longest());
        assert_eq!((scores.poems, scores.right_form), (2, 1));
        assert_eq!((scores.shi, scores.shi_right_form, scores.characters), (2, 1, 34));
        // 19 and 13 pairs; all of the second poem's stand in the first, but 山黃 and 流欲 bridge what it leaves out.
        assert_eq!(scores.distinct_pairs, Some(20.0 / 32.0));
        let by_book = &scores.by_rhyme_book;
        assert_eq!((by_book.with_tone_pattern, by_book.regulated), (1, 1));
        assert_eq!((by_book.with_rhymes, by_book.all_rhyme), (1, 1));
        assert_eq!(scores.longest_copy[2], 5);
        assert_eq!(scores.longest_copy_text, "更上一層樓");
    }

    #[test]
    fn modern_readings_are_judged_beside_the_rhyme_book() {
        // 國 and 白 had entering tones, and are level today.
        let text = "國破山河在，城春草木深。感時花濺淚，恨別鳥驚心。烽火連三月，家書抵萬金。白頭搔更短，渾欲不勝簪。";
        let scores = PoemScores::of(&[judged(text)], &KnownForms::default(), &[]);
        assert_eq!((scores.by_rhyme_book.regulated, scores.by_rhyme_book.all_rhyme), (1, 1));
        let modern = &scores.by_modern_readings;
        assert_eq!((modern.with_tone_pattern, modern.regulated), (1, 0));
        assert!(modern.tones_kept < modern.tone_checks && modern.rhyme_lines == 4, "{modern:?}");
    }

    #[test]
    fn no_poems_have_no_scores() {
        assert_eq!(PoemScores::of(&[], &KnownForms::default(), &[]), PoemScores::default());
    }
}
