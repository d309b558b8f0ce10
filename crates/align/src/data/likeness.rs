//! Texts that are nearly the same: by the share of runs of characters that they have in common.
//!
//! MinHash (Broder, "On the resemblance and containment of documents", 1997): the least hash of a text's runs under one of
//! several hash functions is equal for two texts with a probability that is the share of common runs. Bands of such hashes find
//! candidates; whether they are alike is then computed from all runs.

use std::collections::BTreeMap;

/// Characters of a run; letters and digits alone count, in lower case. Right for words of letters and for Chinese.
const RUN: usize = 5;
/// Texts are alike where so much of all runs of both is common to both.
const ALIKE: f64 = 0.8;
const BANDS: usize = 16;
const ROWS: usize = 4;

/// What is kept of a text.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    /// Hashes of its runs, ascending, each once.
    runs: Vec<u64>,
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
        let mut least = [u64::MAX; BANDS * ROWS];
        for run in &runs {
            for (function, least) in least.iter_mut().enumerate() {
                *least = (*least).min(mixed(run ^ mixed(function as u64 + 1)));
            }
        }
        let mut bands = [0; BANDS];
        for (band, rows) in bands.iter_mut().zip(least.chunks(ROWS)) {
            *band = rows.iter().fold(0, |hash, row| mixed(hash ^ row));
        }
        Sketch { runs, bands }
    }

    /// The share of runs that both have, of those that either has.
    fn likeness(&self, other: &Sketch) -> f64 {
        let common = self.runs.iter().filter(|run| other.runs.binary_search(run).is_ok()).count();
        let all = self.runs.len() + other.runs.len() - common;
        if all == 0 { 0.0 } else { common as f64 / all as f64 }
    }
}

/// Sketches in which others are looked for.
#[derive(Debug, Default)]
pub(super) struct Likenesses {
    sketches: Vec<(usize, Sketch)>,
    /// By band and its hash, the first sketch that has it.
    first: BTreeMap<(usize, u64), usize>,
}

impl Likenesses {
    pub(super) fn add(&mut self, number: usize, sketch: Sketch) {
        let place = self.sketches.len();
        for (band, hash) in sketch.bands.iter().enumerate() {
            self.first.entry((band, *hash)).or_insert(place);
        }
        self.sketches.push((number, sketch));
    }

    /// The number of one that is alike; the first of those that were found.
    pub(super) fn find(&self, sketch: &Sketch) -> Option<usize> {
        let candidates =
            sketch.bands.iter().enumerate().filter_map(|(band, hash)| self.first.get(&(band, *hash)));
        let mut candidates: Vec<usize> = candidates.copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let is_alike = |place: &usize| self.sketches[*place].1.likeness(sketch) >= ALIKE;
        candidates.into_iter().find(is_alike).map(|place| self.sketches[place].0)
    }
}

fn hash_of(characters: &[char]) -> u64 {
    characters.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &one| mixed(hash ^ u64::from(u32::from(one))))
}

/// The finaliser of SplitMix64.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(texts: &[&str], text: &str) -> Option<usize> {
        let mut likenesses = Likenesses::default();
        texts.iter().enumerate().for_each(|(number, text)| likenesses.add(number, Sketch::of(text)));
        likenesses.find(&Sketch::of(text))
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
}
