//! Texts that are nearly the same: by the share of runs of characters that they have in common.
//!
//! MinHash (Broder, "On the resemblance and containment of documents", 1997): the least hash of a text's runs under one of
//! several hash functions is equal for two texts with a probability that is the share of common runs. Bands of such hashes find
//! candidates; the share of equal hashes says which of them are the likeliest; whether these are alike is then computed from their runs: from all
//! of them, and of long texts from those with the least hashes (bottom-k sketches: Cohen and Kaplan, "Summarizing data using bottom-k sketches",
//! 2007), so that the memory for a text has a bound.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use zhenjin_random::SplitMix64;

/// Characters of a run; letters and digits alone count, in lower case. Right for words of letters and for Chinese.
const RUN: usize = 5;
/// Texts are alike where so much of all runs of both is common to both.
const ALIKE: f64 = 0.8;
const BANDS: usize = 16;
const ROWS: usize = 4;
const HASHES: usize = BANDS * ROWS;

/// Candidates with fewer equal hashes are not compared: of two texts that are alike at least 51 are equal on the average, and with a
/// probability of about 0.9998 at least so many.
const LEAST_EQUAL: usize = 40;
/// The most places of bands that are followed for one text, the rarest bands first. Thousands of texts made by one pattern are candidates of
/// one another, and without a bound the time would be the square of their number.
const MAX_FOLLOWED: usize = 2048;
/// The most runs that are kept of a text: with so many, a share of 0.8 is estimated with a standard error below 0.01.
const MOST_KEPT: usize = 2048;
/// How many of the likeliest candidates of a text are compared, however long they are.
const LEAST_COMPARED: usize = 8;
/// The most runs that are compared for one text, beside those of the likeliest candidates.
const MAX_RUNS: usize = 1 << 14;

/// What every hash function begins with.
static SALTS: [u64; HASHES] = salts();

/// What is kept of a text.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    /// The least hashes of its runs, ascending, each once: all of them, or [`MOST_KEPT`].
    runs: Vec<u64>,
    /// The least hash of its runs under every function: so many bits of it that other texts have the same by chance only rarely.
    least: [u16; HASHES],
    bands: [u64; BANDS],
}

impl Sketch {
    pub(super) fn of(text: &str) -> Sketch {
        let characters: Vec<char> = text
            .chars()
            .filter(|character| character.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        let length = RUN.min(characters.len().max(1));
        let mut runs: Vec<u64> = characters.windows(length).map(hash_of).collect();
        runs.sort_unstable();
        runs.dedup();
        let mut least = [u64::MAX; HASHES];
        for run in &runs {
            for (salt, least) in SALTS.iter().zip(&mut least) {
                *least = (*least).min(mixed(run ^ salt));
            }
        }
        let mut bands = [0; BANDS];
        for (band, rows) in bands.iter_mut().zip(least.chunks(ROWS)) {
            *band = rows.iter().fold(0, |hash, row| mixed(hash ^ row));
        }
        runs.truncate(MOST_KEPT);
        runs.shrink_to_fit();
        // The lowest bits: the highest of a least hash are nearly always zero.
        Sketch { runs, least: least.map(|hash| hash as u16), bands }
    }

    /// How many of the least hashes are equal.
    fn equal(&self, other: &Sketch) -> usize {
        self.least.iter().zip(&other.least).filter(|(one, other)| one == other).count()
    }

    /// The share of runs that both have, of those that either has; of long texts estimated from the least hashes of both together. One of these
    /// that both texts have is among the least of each.
    fn likeness(&self, other: &Sketch) -> f64 {
        let (mut one, mut two) = (&self.runs[..], &other.runs[..]);
        let is_cut = self.runs.len().max(other.runs.len()) >= MOST_KEPT;
        let most = if is_cut { MOST_KEPT } else { usize::MAX };
        let (mut common, mut all) = (0usize, 0usize);
        while all < most
            && let Some(least) = [one.first(), two.first()].into_iter().flatten().min().copied()
        {
            let (in_one, in_two) = (one.first() == Some(&least), two.first() == Some(&least));
            (one, two) = (&one[usize::from(in_one)..], &two[usize::from(in_two)..]);
            common += usize::from(in_one && in_two);
            all += 1;
        }
        if all == 0 { 0.0 } else { common as f64 / all as f64 }
    }
}

/// What was found for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The number of one that is alike: the likeliest of them by its hashes.
    Alike(usize),
    /// None is.
    None,
    /// None of those that were compared is, and there were too many candidates to compare all of them.
    NotAllCompared,
}

/// The texts that share a hash of a band: how many there are, and the newest of them. Each text names the one before it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    count: usize,
    newest: usize,
}

/// A text in which others are looked for.
#[derive(Debug)]
struct Kept {
    number: usize,
    sketch: Sketch,
    /// By band, the text before it that has the same hash.
    before: [Option<u32>; BANDS],
}

/// Sketches in which others are looked for.
#[derive(Debug, Default)]
pub(super) struct Likenesses {
    kept: Vec<Kept>,
    buckets: BTreeMap<(usize, u64), Bucket>,
    /// By place, the number of the search that saw it last.
    seen: Vec<u64>,
    searches: u64,
}

impl Likenesses {
    /// Keeps a text; one without a letter or digit is like no other.
    pub(super) fn add(&mut self, number: usize, sketch: Sketch) {
        let place = self.kept.len();
        if sketch.runs.is_empty() || u32::try_from(place).is_err() {
            return;
        }
        let mut before = [None; BANDS];
        for (band, (hash, before)) in sketch.bands.iter().zip(&mut before).enumerate() {
            let bucket = self.buckets.entry((band, *hash)).or_insert(Bucket { count: 0, newest: place });
            if bucket.count > 0 {
                *before = Some(bucket.newest as u32);
            }
            *bucket = Bucket { count: bucket.count + 1, newest: place };
        }
        self.kept.push(Kept { number, sketch, before });
        self.seen.push(0);
    }

    /// One that is alike.
    pub(super) fn find(&mut self, sketch: &Sketch) -> Found {
        let (candidates, mut is_whole) = self.candidates(sketch);
        let mut likeliest: Vec<(Reverse<usize>, usize)> = candidates
            .into_iter()
            .map(|place| (Reverse(self.kept[place].sketch.equal(sketch)), place))
            .filter(|(Reverse(equal), _)| *equal >= LEAST_EQUAL)
            .collect();
        likeliest.sort_unstable();
        let mut runs = 0;
        for (compared, (_, place)) in likeliest.into_iter().enumerate() {
            let Kept { number, sketch: other, .. } = &self.kept[place];
            if compared >= LEAST_COMPARED {
                runs += sketch.runs.len() + other.runs.len();
                if runs > MAX_RUNS {
                    is_whole = false;
                    break;
                }
            }
            if other.likeness(sketch) >= ALIKE {
                return Found::Alike(*number);
            }
        }
        if is_whole { Found::None } else { Found::NotAllCompared }
    }

    /// The places of texts that share a band with this one, and whether these are all: where there are too many, those of the rarest bands
    /// come first. What nearly is this text shares most of its bands, rare ones among them; what only has the same pattern shares those that
    /// all texts of the pattern have.
    fn candidates(&mut self, sketch: &Sketch) -> (Vec<usize>, bool) {
        self.searches += 1;
        let buckets = sketch.bands.iter().enumerate().filter_map(|(band, hash)| {
            let bucket = self.buckets.get(&(band, *hash))?;
            Some((bucket.count, band, bucket.newest))
        });
        let mut buckets: Vec<(usize, usize, usize)> = buckets.collect();
        buckets.sort_unstable();
        let mut candidates = Vec::new();
        let mut followed = 0;
        for (_, band, newest) in buckets {
            let mut next = Some(newest);
            while let Some(place) = next {
                if followed == MAX_FOLLOWED {
                    return (candidates, false);
                }
                followed += 1;
                if self.seen[place] != self.searches {
                    self.seen[place] = self.searches;
                    candidates.push(place);
                }
                next = self.kept[place].before[band].map(|place| place as usize);
            }
        }
        (candidates, true)
    }
}

fn hash_of(characters: &[char]) -> u64 {
    characters.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &one| mixed(hash ^ u64::from(u32::from(one))))
}

const fn mixed(value: u64) -> u64 {
    SplitMix64::new(value).next_u64()
}

const fn salts() -> [u64; HASHES] {
    let mut salts = [0; HASHES];
    let mut function = 0;
    while function < HASHES {
        salts[function] = mixed(function as u64 + 1);
        function += 1;
    }
    salts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(texts: &[&str], text: &str) -> Option<usize> {
        let mut likenesses = Likenesses::default();
        texts.iter().enumerate().for_each(|(number, text)| likenesses.add(number, Sketch::of(text)));
        match likenesses.find(&Sketch::of(text)) {
            Found::Alike(number) => Some(number),
            Found::None => None,
            Found::NotAllCompared => panic!("{} texts are too many", texts.len()),
        }
    }

    #[test]
    fn small_changes_are_seen_through_and_others_are_not() {
        let english = "The quick brown fox jumps over the lazy dog while nobody in the whole village was looking at it.";
        let chinese = "床前明月光，疑是地上霜。举头望明月，低头思故乡。春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。";
        let texts = [english, chinese];
        assert_eq!(find(&texts, &english.to_uppercase().replace(' ', "  ")), Some(0));
        assert_eq!(find(&texts, &english.replace("it.", "her!")), Some(0));
        assert_eq!(find(&texts, &chinese.replace('。', "\n")), Some(1));
        assert_eq!(find(&texts, &chinese.replace("多少", "几何")), Some(1));
        assert_eq!(find(&texts, "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"), None);
        assert_eq!(
            find(&texts, "A quick brown bear sleeps under the lazy cat while everybody was watching."),
            None
        );
        assert_eq!(find(&["", "a"], "b"), None);
        assert_eq!(find(&["ab"], "ab"), Some(0));
    }

    /// Texts of one pattern, which differ in their last words: by four fifths they are the same.
    fn of_pattern(number: u64) -> String {
        const WORDS: [&str; 16] = [
            "apple", "river", "stone", "cloud", "green", "quick", "bottle", "window", "paper", "music",
            "garden", "silver", "winter", "orange", "planet", "doctor",
        ];
        let words = (0..8).map(|place| WORDS[(mixed(number * 8 + place) % 16) as usize]);
        let words: Vec<&str> = words.collect();
        format!(
            "Below is a review that a customer wrote about a product. Classify the sentiment of the following review as \
             positive, negative or neutral, and explain your choice in one sentence. Write the label first. Review: {}",
            words.join(" ")
        )
    }

    /// Every run of every text was kept: eight bytes for each letter of all data.
    #[test]
    fn of_a_long_text_only_the_least_hashes_are_kept() {
        let word = |place: u64| format!("{:x} ", mixed(place) % 0x00FF_FFFF);
        let text: String = (0..4000).map(word).collect();
        let sketch = Sketch::of(&text);
        assert_eq!(sketch.runs.len(), MOST_KEPT);
        assert!(sketch.runs.capacity() < 2 * MOST_KEPT);
        // Those of all runs that are the least.
        let characters: Vec<char> = text.chars().filter(|character| *character != ' ').collect();
        let mut all: Vec<u64> = characters.windows(RUN).map(hash_of).collect();
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 5 * MOST_KEPT, "{} runs", all.len());
        assert_eq!(sketch.runs, all[..MOST_KEPT]);
        // A long text without its end.
        for (kept, expected) in [(3900, true), (3000, false)] {
            let half: String = (0..kept).map(word).collect();
            let likeness = sketch.likeness(&Sketch::of(&half));
            let share = f64::from(kept as u32) / 4000.0;
            assert!((likeness - share).abs() < 0.03, "{likeness} instead of {share}");
            assert_eq!(find(&[text.as_str()], &half), expected.then_some(0));
        }
        assert_eq!(sketch.likeness(&sketch.clone()), 1.0);
    }

    /// Sketches of runs by their numbers, as if these were their hashes.
    fn likeness_of(one: std::ops::Range<u64>, two: std::ops::Range<u64>) -> f64 {
        let sketch = |runs: std::ops::Range<u64>| {
            let mut runs: Vec<u64> = runs.map(mixed).collect();
            runs.sort_unstable();
            runs.truncate(MOST_KEPT);
            Sketch { runs, least: [0; HASHES], bands: [0; BANDS] }
        };
        sketch(one).likeness(&sketch(two))
    }

    #[test]
    fn the_likeness_of_short_texts_is_exact_and_that_of_long_ones_is_near() {
        // Neither has more runs than are kept, however many both have.
        assert_eq!(likeness_of(0..2000, 1000..3000), 1000.0 / 3000.0);
        assert_eq!(likeness_of(0..2047, 0..2046), 2046.0 / 2047.0);
        assert_eq!(likeness_of(0..5, 5..10), 0.0);
        assert_eq!(likeness_of(0..0, 0..0), 0.0);
        for (one, two, expected) in [
            (0..20_000, 2_000..22_000, 18.0 / 22.0),
            (0..20_000, 0..1_000, 0.05),
            (0..1_000, 0..20_000, 0.05),
            (0..20_000, 20_000..40_000, 0.0),
            (0..20_000, 0..20_000, 1.0),
            (0..2_048, 0..2_048, 1.0),
        ] {
            let found = likeness_of(one.clone(), two.clone());
            assert!((found - expected).abs() < 0.04, "{one:?} {two:?}: {found} instead of {expected}");
        }
    }

    /// The runs of the likeliest candidates were once counted too, so that of long texts nothing beyond these was compared.
    #[test]
    fn the_runs_of_the_likeliest_are_beside_the_limit() {
        // All hashes are equal, so that candidates are compared in their order.
        let of_runs = |runs: std::ops::Range<u64>| Sketch {
            runs: runs.collect(),
            least: [0; HASHES],
            bands: [0; BANDS],
        };
        let sought = of_runs(0..1000);
        let within = MAX_RUNS / 2000;
        let find = |others: usize| {
            let mut likenesses = Likenesses::default();
            (0..others).for_each(|number| likenesses.add(number, of_runs(500..1500)));
            likenesses.add(others, of_runs(1..1001));
            likenesses.find(&sought)
        };
        let last = LEAST_COMPARED + within - 1;
        assert_eq!(find(last), Found::Alike(last));
        assert_eq!(find(last + 1), Found::NotAllCompared);
    }

    /// Of the texts that share a band only the first was once a candidate, so that members of a family hid one another.
    #[test]
    fn the_nearest_of_many_that_are_half_alike_is_found() {
        const COUNT: usize = 1000;
        let mut likenesses = Likenesses::default();
        (0..COUNT).for_each(|number| likenesses.add(number, Sketch::of(&of_pattern(number as u64))));
        let copy = |number: usize| Sketch::of(&format!("{} ok", of_pattern(number as u64)));
        let found =
            (0..COUNT).filter(|&number| likenesses.find(&copy(number)) == Found::Alike(number)).count();
        assert_eq!(found, COUNT);
        // That not all were compared is known: this one is no copy, and a thousand others have its pattern.
        assert_eq!(likenesses.find(&Sketch::of(&of_pattern(1003))), Found::NotAllCompared);
        assert_eq!(likenesses.find(&Sketch::of("Another question, about something else.")), Found::None);
    }
}
