// The mock feedback of one reader: judgements, choices and consent, in memory.

/** @typedef {import('../src/lib/api/types.ts').Message} Message */
/** @typedef {import('../src/lib/api/types.ts').Choice} Choice */
/** @typedef {import('../src/lib/api/types.ts').Consent} Consent */
/** @typedef {import('../src/lib/api/types.ts').Feedback} Feedback */
/** @typedef {import('../src/lib/api/types.ts').FeedbackRecord} FeedbackRecord */
/** @typedef {import('./mock-chats.mjs').MockChats} MockChats */

/** @type {Record<string, string[]>} */
const REASONS = {
  up: ['accurate', 'helpful', 'clear', 'well_written', 'good_tone'],
  down: ['wrong', 'not_helpful', 'did_not_follow', 'too_long', 'too_short', 'bad_style', 'unsafe', 'other'],
};

export class MockFeedback {
  /** @type {Consent} */
  consent = { allowed: false, changed_at: null };
  /** @type {{ chosen: string, rejected: string, created_at: number }[]} */
  #pairs = [];
  #chats;
  /** Which improvements learned from which chat. @type {Map<string, string[]>} */
  trained = new Map();

  /** @param {MockChats} chats */
  constructor(chats) {
    this.#chats = chats;
  }

  /** @param {boolean} allowed */
  allow(allowed) {
    const same = this.consent.allowed === allowed && this.consent.changed_at !== null;
    if (!same) this.consent = { allowed, changed_at: Date.now() };
    return this.consent;
  }

  /** Why the judgement cannot be taken; null when it can. @param {Message} answer @param {any} said */
  problem(answer, said) {
    const { rating = null, reasons = [], comment = null, correction = null } = said;
    if (answer.role !== 'assistant') return 'only answers can be judged';
    if (rating === null && reasons.length > 0) return '`reasons` need a `rating`';
    if (rating === null && comment === null && correction === null) return 'this says nothing';
    if (reasons.some((/** @type {string} */ reason) => !REASONS[rating]?.includes(reason)))
      return 'a reason that is none';
    if ([comment, correction].some((text) => text !== null && text.trim() === ''))
      return 'a text must not be empty';
    if (correction?.trim() === answer.content.trim()) return '`correction` is the answer itself';
    return null;
  }

  /** @param {Message} answer @param {any} said */
  judge(answer, said) {
    const { rating = null, reasons = [], comment = null, correction = null } = said;
    const now = Date.now();
    const created_at = answer.feedback?.created_at ?? now;
    answer.feedback = { rating, reasons, comment, correction, created_at, updated_at: now };
    return answer.feedback;
  }

  /** @param {Message} chosen @param {Message[]} rejected */
  choose(chosen, rejected) {
    for (const { id } of rejected) {
      const pair = [chosen.id, id];
      this.#pairs = this.#pairs.filter((one) => !pair.includes(one.chosen) || !pair.includes(one.rejected));
      this.#pairs.push({ chosen: chosen.id, rejected: id, created_at: Date.now() });
    }
    return this.choices(chosen.conversation_id).find((choice) => choice.chosen === chosen.id);
  }

  /** @param {string} chosen */
  forgetChoice(chosen) {
    this.#pairs = this.#pairs.filter((pair) => pair.chosen !== chosen);
  }

  /** @param {string} conversation @returns {Choice[]} */
  choices(conversation) {
    /** @type {Map<string, Choice>} */
    const made = new Map();
    for (const { chosen, rejected, created_at } of this.#pairs) {
      const message = this.#chats.messages.get(chosen);
      if (message?.conversation_id !== conversation) continue;
      const one = made.get(chosen);
      if (one) one.rejected.push(rejected);
      else
        made.set(chosen, { question_id: message.parent_id ?? '', chosen, rejected: [rejected], created_at });
    }
    return [...made.values()];
  }

  #judged() {
    return [...this.#chats.messages.values()].filter(({ feedback }) => feedback !== null);
  }

  /** @returns {FeedbackRecord[]} */
  rows() {
    const judged = this.#judged().map((answer) => this.#record(answer, 'feedback', answer.feedback));
    const chosen = this.#pairs.flatMap(({ chosen, rejected, created_at }) => {
      const [better, worse] = [this.#chats.messages.get(chosen), this.#chats.messages.get(rejected)];
      return better && worse ? [this.#record(better, 'choice', { created_at }, worse)] : [];
    });
    return [...judged, ...chosen];
  }

  /**
   * @param {Message} answer @param {FeedbackRecord['kind']} kind @param {Partial<Feedback> | null} said @param {Message} [rejected]
   * @returns {FeedbackRecord}
   */
  #record(answer, kind, said, rejected) {
    const { rating = null, reasons = [], comment = null, correction = null, created_at = 0 } = said ?? {};
    const judged = (/** @type {Message} */ { id, model, content, status, finish_reason }) => ({
      id, model, content, status, finish_reason, sampling: null,
    }); // prettier-ignore
    const question = answer.parent_id ?? '';
    const root = this.#chats.messages.get(question);
    return {
      id: `${answer.id}-${kind}-${rejected?.id ?? ''}`, kind, conversation_id: answer.conversation_id, question_id: question,
      created_at, updated_at: said?.updated_at ?? created_at, in_trash: this.#chats.deleted.has(answer.conversation_id),
      trained: this.trained.get(answer.conversation_id) ?? [],
      system_prompt: this.#chats.conversations.get(answer.conversation_id)?.system_prompt ?? null,
      turns: root ? [{ role: root.role, content: root.content }] : [], answer: judged(answer),
      rejected: rejected ? judged(rejected) : null, rating, reasons, comment, correction,
    }; // prettier-ignore
  }

  /** @returns {import('../src/lib/api/types.ts').FeedbackStatistics} */
  statistics() {
    const all = {
      judgements: 0,
      up: 0,
      down: 0,
      corrections: 0,
      choices: 0,
      comments: 0,
      trained: 0,
      new: 0,
    };
    /** @type {Record<string, number>} */
    const reasons = {};
    /** @type {Record<string, number>} */
    const models = {};
    /** @type {(model: string | null | undefined) => void} */
    const count = (model) => {
      all.judgements++;
      models[model ?? ''] = (models[model ?? ''] ?? 0) + 1;
    };
    for (const { feedback, model } of this.#judged()) {
      count(model);
      if (feedback?.rating) all[feedback.rating]++;
      if (feedback?.comment) all.comments++;
      if (feedback?.correction) all.corrections++;
      for (const reason of feedback?.reasons ?? []) reasons[reason] = (reasons[reason] ?? 0) + 1;
    }
    for (const { chosen } of this.#pairs) {
      count(this.#chats.messages.get(chosen)?.model);
      all.choices++;
    }
    const { allowed } = this.consent;
    all.new = allowed ? all.judgements : 0;
    return {
      all, reasons, models, owners: all.judgements > 0 ? [{ owner: 'local', name: null, allowed, counts: all }] : [],
      with_consent: allowed ? all.judgements : 0, without_consent: allowed ? 0 : all.judgements, in_trash: 0,
      limits: { comment_characters: 2000, correction_characters: 100_000, rejected_answers: 16 },
    }; // prettier-ignore
  }

  erasure() {
    return { erased: this.rows().length, trained: [...new Set([...this.trained.values()].flat())].sort() };
  }

  erase() {
    const done = this.erasure();
    for (const message of this.#judged()) message.feedback = null;
    this.#pairs = [];
    return done;
  }
}
