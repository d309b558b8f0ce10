//! Random requests of every kind, and what can be compared of their answers. Knows no text: prompts are token ids,
//! some of them with a common beginning, some that repeat themselves.

use zhenjin_engine::{EndReason, Event, PromptLogprobs, Request, Sampling, TokenReport};

/// SplitMix64: the same numbers from the same seed on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + (self.next() % (most - least + 1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.between(1, count) == 1
    }

    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }
}

/// A request that can be made more than once.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) logprobs: Option<usize>,
    pub(crate) prompt_logprobs: Option<usize>,
}

impl Plan {
    pub(crate) fn request(&self) -> Request {
        Request {
            logprobs: self.logprobs,
            prompt_logprobs: self.prompt_logprobs.map(|top| PromptLogprobs { from: 0, top }),
            ..Request::new(self.prompt.clone(), self.max_tokens, self.sampling.clone())
        }
    }
}

/// Where random requests come from.
pub(crate) struct Requests {
    vocabulary: usize,
    longest: usize,
    beginnings: Vec<Vec<u32>>,
}

impl Requests {
    /// Requests whose prompts have 1 to `longest` tokens.
    pub(crate) fn new(random: &mut Random, vocabulary: usize, longest: usize) -> Requests {
        const BEGINNINGS: usize = 3;
        let beginnings = (0..BEGINNINGS).map(|_| tokens(random, vocabulary, longest)).collect();
        Requests { vocabulary, longest, beginnings }
    }

    fn longest_answer(&self) -> usize {
        24 + self.longest / 5
    }

    /// The most tokens of a prompt and its answer.
    pub(crate) fn most_tokens(&self) -> usize {
        self.longest + self.longest_answer()
    }

    pub(crate) fn next(&self, random: &mut Random) -> Plan {
        let prompt = self.prompt(random);
        // The whole prompt's logits are the most expensive wish there is.
        let prompt_logprobs = random.one_in(12).then(|| random.between(0, 2));
        let longest_answer = if random.one_in(4) { self.longest_answer() } else { 24 };
        Plan {
            prompt: if prompt_logprobs.is_some() { shortened(prompt, 150) } else { prompt },
            sampling: sampling(random, self.vocabulary),
            max_tokens: random.between(1, longest_answer),
            logprobs: Some(random.choose(&[0, 0, 1, 5])),
            prompt_logprobs,
        }
    }

    fn prompt(&self, random: &mut Random) -> Vec<u32> {
        match random.between(0, 5) {
            // What chats have in common: a long beginning, and something new behind it.
            0..=2 => {
                let beginning = &self.beginnings[random.between(0, self.beginnings.len() - 1)];
                let length = random.between(1, self.longest);
                let common = length - random.between(0, length / 4);
                let rest = tokens(random, self.vocabulary, length - common);
                beginning[..common].iter().copied().chain(rest).collect()
            }
            // A phrase over and over, so that the answer goes on with it.
            3 => {
                let length = self.length(random);
                let period = random.between(1, 40);
                tokens(random, self.vocabulary, period).into_iter().cycle().take(length).collect()
            }
            _ => {
                let length = self.length(random);
                tokens(random, self.vocabulary, length)
            }
        }
    }

    /// Half are at most a tenth of the longest: most questions are short.
    fn length(&self, random: &mut Random) -> usize {
        let longest = if random.one_in(2) { self.longest.div_ceil(10) } else { self.longest };
        random.between(1, longest)
    }
}

fn tokens(random: &mut Random, vocabulary: usize, count: usize) -> Vec<u32> {
    (0..count).map(|_| random.between(0, vocabulary - 1) as u32).collect()
}

fn shortened(mut prompt: Vec<u32>, length: usize) -> Vec<u32> {
    prompt.truncate(length);
    prompt
}

fn sampling(random: &mut Random, vocabulary: usize) -> Sampling {
    let drawn = Sampling {
        temperature: random.choose(&[0.3, 0.8, 1.0, 1.7]),
        seed: Some(random.next()),
        ..Sampling::default()
    };
    match random.between(0, 7) {
        0..=2 => Sampling::greedy(),
        3 => drawn,
        4 => Sampling { top_p: 0.9, min_p: 0.01, ..drawn },
        5 => Sampling { top_k: random.between(1, 60), repetition_penalty: 1.15, ..drawn },
        6 => Sampling { frequency_penalty: 0.4, presence_penalty: -0.2, ..drawn },
        _ => {
            let bias = vec![(random.between(0, vocabulary - 1) as u32, 4.0)];
            Sampling { logit_bias: bias, repetition_penalty: 1.1, ..Sampling::greedy() }
        }
    }
}

/// A token, the bits of its log-probability, and the same of the most likely ones at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenBits {
    id: u32,
    logprob: Option<u32>,
    top: Vec<(u32, u32)>,
}

impl From<&TokenReport> for TokenBits {
    fn from(report: &TokenReport) -> TokenBits {
        TokenBits {
            id: report.id,
            logprob: report.logprob.map(f32::to_bits),
            top: report.top.iter().map(|top| (top.id, top.logprob.to_bits())).collect(),
        }
    }
}

/// All that was answered so far: the prompt's reports, if asked for, then the answer's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    tokens: Vec<TokenBits>,
    finished: bool,
}

impl Answer {
    /// Takes note of an event; true while more will come.
    ///
    /// # Errors
    /// The reason, when the request ended otherwise than by its length.
    pub(crate) fn note(&mut self, event: &Event) -> Result<bool, String> {
        match event {
            Event::Prompt { tokens, .. } => self.tokens.extend(tokens.iter().map(TokenBits::from)),
            Event::Token { report, .. } => self.tokens.push(TokenBits::from(report)),
            Event::Finished { reason: EndReason::Length, .. } => self.finished = true,
            Event::Finished { reason, .. } => return Err(format!("the request ended early: {reason:?}")),
        }
        Ok(!self.finished)
    }

    /// Tokens reported.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// What is different from `expected`, if anything is.
    pub(crate) fn difference(&self, expected: &Answer) -> Option<String> {
        let place =
            self.tokens.iter().zip(&expected.tokens).position(|(actual, expected)| actual != expected);
        match place {
            Some(place) => Some(format!(
                "token {place} is {:?} instead of {:?}",
                self.tokens[place], expected.tokens[place]
            )),
            None if self == expected => None,
            None => Some(format!("{} tokens instead of {}", self.len(), expected.len())),
        }
    }
}
