//! One request on its way through the engine. Knows its tokens and pages; does not know the other requests.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use zhenjin_model::{PAGE_TOKENS, PageId};

use super::about_prompt::AboutPrompt;
use crate::inbox::Submission;
use crate::kv::prefix_cache::{ChainId, PageTokens, PrefixScope};
use crate::request::{Event, Request, Timings, Usage};
use crate::sampling::mask::TokenMask;
use crate::sampling::penalties::TokenHistory;
use crate::speculation::acceptance::Acceptance;
use crate::speculation::draft::{Draft, LONGEST_DRAFT};
use crate::speculation::drafter::Drafter;
use crate::weights::WeightsVersion;

/// A request, its tokens so far, and the pages that hold their keys and values.
///
/// Invariants between steps: `computed < tokens.len()`; `pages` covers at least `computed` positions; the
/// first `published` pages are full, known to the prefix cache, and end the chain `chain`.
pub(crate) struct Sequence {
    pub(crate) id: u64,
    /// What was asked for; its prompt has moved into `tokens`.
    pub(crate) request: Request,
    pub(crate) seed: u64,
    /// The prompt and the answer so far.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    /// How many of `tokens` have their keys and values in `pages`.
    pub(crate) computed: usize,
    pub(crate) pages: Vec<PageId>,
    pub(crate) published: usize,
    pub(crate) chain: ChainId,
    /// What it is computed with.
    pub(crate) weights: WeightsVersion,
    /// Prompt tokens that came from the cache.
    pub(crate) cached_tokens: usize,
    /// What was asked about the prompt.
    pub(crate) about_prompt: AboutPrompt,
    /// [`Event::Prompt`] was sent.
    pub(crate) prompt_announced: bool,
    pub(crate) history: Option<TokenHistory>,
    pub(crate) mask: Option<TokenMask>,
    /// Made when the first draft is asked for.
    pub(crate) drafter: Option<Box<Drafter>>,
    /// How often the draft model was right here; made when it could first guess.
    pub(crate) model_acceptance: Option<Box<Acceptance>>,
    pub(crate) draft: Draft,
    /// The last token and the draft after it, as the next step computes them; empty without a draft.
    pub(crate) draft_rows: Vec<u32>,
    pub(crate) events: UnboundedSender<Event>,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Sequence {
    /// A submission whose prompt has at least one token.
    pub(crate) fn new(submission: Submission, usable_vocabulary: usize) -> Sequence {
        let Submission { id, mut request, seed, submitted, events, weights } = submission;
        let tokens = std::mem::take(&mut request.prompt);
        let scope = scope(&request, &weights);
        Sequence {
            id,
            seed,
            prompt_tokens: tokens.len(),
            computed: 0,
            pages: Vec::new(),
            published: 0,
            chain: ChainId::Beginning(scope),
            weights,
            cached_tokens: 0,
            about_prompt: AboutPrompt::new(&request, &tokens),
            prompt_announced: false,
            history: request.sampling.has_penalties().then(|| TokenHistory::of_prompt(&tokens)),
            mask: request.constraint.is_some().then(|| TokenMask::none(usable_vocabulary)),
            drafter: None,
            model_acceptance: None,
            draft: Draft::default(),
            draft_rows: Vec::new(),
            events,
            submitted,
            started: None,
            first_token: None,
            last_token: None,
            request,
            tokens,
        }
    }

    /// What its pages are kept under.
    pub(crate) fn scope(&self) -> PrefixScope {
        scope(&self.request, &self.weights)
    }

    /// What the draft model's pages are kept under: it knows no adapters and keeps its weights.
    pub(crate) fn draft_scope(&self) -> PrefixScope {
        PrefixScope { salt: self.request.cache_salt, ..PrefixScope::default() }
    }

    /// Tokens whose keys and values are not computed yet: at least one.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// The most tokens that a draft can hold: within the page that the next row needs anyway, so that no draft
    /// takes memory, and so that the last row checked generates the answer's last token at most.
    pub(crate) fn room_for_draft(&self) -> usize {
        let left_in_page = PAGE_TOKENS - 1 - self.computed % PAGE_TOKENS;
        let left_in_answer = self.request.max_tokens.saturating_sub(self.completion_tokens());
        left_in_page.min(left_in_answer.saturating_sub(1)).min(LONGEST_DRAFT)
    }

    pub(crate) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// Nothing is wanted of positions below this, so that cached pages can stand in for them.
    pub(crate) fn reusable_until(&self) -> usize {
        let wanted = self.about_prompt.first_wanted();
        wanted.map_or(self.tokens.len() - 1, |wanted| wanted.min(self.tokens.len() - 1))
    }

    /// The tokens of page `index`, if it is full.
    pub(crate) fn page_tokens(&self, index: usize) -> Option<PageTokens> {
        let start = index.checked_mul(PAGE_TOKENS)?;
        self.tokens.get(start..start + PAGE_TOKENS)?.try_into().ok()
    }

    /// True if the next token to compute is the first of a page that the sequence does not hold yet.
    pub(crate) fn is_at_new_page(&self) -> bool {
        self.computed == self.published * PAGE_TOKENS && self.pages.len() == self.published
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Takes note that its first row is being computed.
    pub(crate) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// Appends a generated token. Returns how long it took: since submission for the first one, else since
    /// the one before.
    pub(crate) fn push(&mut self, token: u32, now: Instant) -> TokenTime {
        self.tokens.push(token);
        if let Some(history) = &mut self.history {
            history.push(token);
        }
        let time = match self.last_token {
            None => TokenTime::First(now.duration_since(self.submitted)),
            Some(last) => TokenTime::Next(now.duration_since(last)),
        };
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
        time
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens(),
        }
    }

    pub(crate) fn timings(&self, now: Instant) -> Timings {
        let since_submission = |instant: Instant| instant.duration_since(self.submitted);
        let decode = self.first_token.zip(self.last_token).map(|(first, last)| last.duration_since(first));
        Timings {
            queue: since_submission(self.started.unwrap_or(now)),
            time_to_first_token: self.first_token.map(since_submission),
            decode: decode.unwrap_or_default(),
            total: since_submission(now),
        }
    }

    /// Sends an event. A receiver that is gone is noticed before the next step.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

fn scope(request: &Request, weights: &WeightsVersion) -> PrefixScope {
    PrefixScope {
        weights: weights.fingerprint(),
        adapter: request.adapter.as_ref().map(|adapter| adapter.fingerprint()),
        salt: request.cache_salt,
    }
}

/// How long a token took.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenTime {
    /// Since the request's submission.
    First(Duration),
    /// Since the token before.
    Next(Duration),
}
