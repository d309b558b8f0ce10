//! The longest run of characters that a generated text shares with the training texts: what a model learnt by heart shows here.
//!
//! A suffix automaton (Blumer et al. 1985) of all generated texts is built once; the training texts, which may be many times
//! larger, are read through it one by one and need not be in memory.

use std::collections::HashMap;

/// A run of characters that a sample shares with a training text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopiedRun {
    /// Its characters.
    pub text: String,
    /// How many they are.
    pub characters: usize,
}

#[derive(Default)]
struct State {
    next: HashMap<char, usize>,
    /// The state of the longest suffix that is another state; the root has none.
    link: Option<usize>,
    /// Characters of the longest text that leads here.
    length: usize,
    /// Characters of the longest training run that ends here.
    matched: usize,
}

/// Finds what samples have in common with training texts.
pub struct CopyFinder {
    states: Vec<State>,
    samples: Vec<Vec<char>>,
}

impl CopyFinder {
    /// A finder for `samples`.
    pub fn new<'a>(samples: impl IntoIterator<Item = &'a str>) -> CopyFinder {
        let samples: Vec<Vec<char>> = samples.into_iter().map(|sample| sample.chars().collect()).collect();
        let mut finder = CopyFinder { states: vec![State::default()], samples: Vec::new() };
        for sample in &samples {
            let mut last = 0;
            for character in sample {
                last = finder.extend(last, *character);
            }
        }
        finder.samples = samples;
        finder
    }

    /// The state of the text that leads to `last`, followed by `character`.
    fn extend(&mut self, last: usize, character: char) -> usize {
        if let Some(&next) = self.states[last].next.get(&character) {
            // Another sample began so, too.
            return match self.states[next].length == self.states[last].length + 1 {
                true => next,
                false => self.split(last, next, character),
            };
        }
        let length = self.states[last].length + 1;
        let new = self.push(State { length, ..State::default() });
        let mut state = Some(last);
        while let Some(index) = state.filter(|index| !self.states[*index].next.contains_key(&character)) {
            self.states[index].next.insert(character, new);
            state = self.states[index].link;
        }
        let link = match state {
            None => 0,
            Some(index) => {
                let next = self.states[index].next[&character];
                match self.states[next].length == self.states[index].length + 1 {
                    true => next,
                    false => self.split(index, next, character),
                }
            }
        };
        self.states[new].link = Some(link);
        new
    }

    /// Divides `next`, which `from` and its suffixes reach by `character`, from the longer texts that also lead to it.
    fn split(&mut self, from: usize, next: usize, character: char) -> usize {
        let length = self.states[from].length + 1;
        let (transitions, link) = (self.states[next].next.clone(), self.states[next].link);
        let clone = self.push(State { next: transitions, link, length, matched: 0 });
        self.states[next].link = Some(clone);
        let mut state = Some(from);
        while let Some(index) = state.filter(|index| self.states[*index].next.get(&character) == Some(&next))
        {
            self.states[index].next.insert(character, clone);
            state = self.states[index].link;
        }
        clone
    }

    fn push(&mut self, state: State) -> usize {
        self.states.push(state);
        self.states.len() - 1
    }

    /// Takes note of a training text.
    pub fn read(&mut self, training: impl IntoIterator<Item = char>) {
        let (mut state, mut length) = (0, 0);
        for character in training {
            let next = loop {
                if let Some(&next) = self.states[state].next.get(&character) {
                    break Some(next);
                }
                let Some(link) = self.states[state].link else { break None };
                (state, length) = (link, self.states[link].length);
            };
            let Some(next) = next else {
                (state, length) = (0, 0);
                continue;
            };
            (state, length) = (next, length + 1);
            let matched = &mut self.states[state].matched;
            *matched = length.max(*matched);
        }
    }

    /// The longest run that each sample shares with a training text that was read, the first of equally long ones.
    pub fn longest(&self) -> Vec<CopiedRun> {
        let mut matched: Vec<usize> = self.states.iter().map(|state| state.matched).collect();
        // A run that ends in a state has all its suffixes in it, and those are whole in the states that it links to.
        let mut order: Vec<usize> = (0..self.states.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.states[*index].length));
        for index in order {
            if let (Some(link), true) = (self.states[index].link, matched[index] > 0) {
                matched[link] = self.states[link].length;
            }
        }
        self.samples.iter().map(|sample| self.longest_of(sample, &matched)).collect()
    }

    fn longest_of(&self, sample: &[char], matched: &[usize]) -> CopiedRun {
        let (mut best, mut end, mut state) = (0, 0, 0);
        for (position, character) in sample.iter().enumerate() {
            state = self.states[state].next[character];
            // The longest suffix that a training text has: in this state, or whole in one that it links to.
            let mut holder = state;
            while let (0, Some(link)) = (matched[holder], self.states[holder].link) {
                holder = link;
            }
            if matched[holder] > best {
                (best, end) = (matched[holder], position + 1);
            }
        }
        CopiedRun { text: sample[end - best..end].iter().collect(), characters: best }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition.
    fn longest_by_trial(sample: &[char], training: &[Vec<char>]) -> usize {
        let is_shared =
            |run: &[char]| training.iter().any(|text| text.windows(run.len()).any(|window| window == run));
        let mut best = 0;
        for start in 0..sample.len() {
            for end in start + 1..=sample.len() {
                if end - start > best && is_shared(&sample[start..end]) {
                    best = end - start;
                }
            }
        }
        best
    }

    proptest! {
        #[test]
        fn the_longest_run_is_that_of_trying_all(
            samples in prop::collection::vec("[a-c]{0,12}", 1..5),
            training in prop::collection::vec("[a-d]{0,16}", 0..6),
        ) {
            let mut finder = CopyFinder::new(samples.iter().map(String::as_str));
            training.iter().for_each(|text| finder.read(text.chars()));
            let training: Vec<Vec<char>> = training.iter().map(|text| text.chars().collect()).collect();
            for (sample, found) in samples.iter().zip(finder.longest()) {
                let characters: Vec<char> = sample.chars().collect();
                prop_assert_eq!(found.characters, longest_by_trial(&characters, &training), "{}", sample);
                prop_assert_eq!(found.text.chars().count(), found.characters);
                prop_assert!(sample.contains(&found.text));
            }
        }
    }

    #[test]
    fn runs_do_not_continue_from_one_training_text_into_the_next() {
        let mut finder = CopyFinder::new(["白日依山"]);
        finder.read("白日".chars());
        finder.read("依山盡".chars());
        assert_eq!(finder.longest()[0], CopiedRun { text: "白日".to_owned(), characters: 2 });
    }
}
