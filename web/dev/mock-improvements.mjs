// The mock improvements: one takes a few seconds and passes its gate; an earlier one did not.

/** @typedef {import('../src/lib/api/types.ts').Improvement} Improvement */
/** @typedef {import('../src/lib/api/types.ts').Promotion} Promotion */
/** @typedef {import('../src/lib/api/types.ts').RunningImprovement} RunningImprovement */
/** @typedef {import('../src/lib/api/types.ts').Criterion} Criterion */

const DATA = {
  pairs: 214, ratings: 37, corrections: 9, train: 208, held_out: 52, conversations: 61, owners: 3,
  left_out: [
    { reason: 'whoever judged does not allow that models learn from it', count: 18 },
    { reason: "more than one person's share: the newest 200 of `local` count", count: 940 },
  ],
}; // prettier-ignore

/** @param {number} wins @returns {Criterion[]} */
const gate = (wins) => [
  { name: 'preference_accuracy', value: 0.731, base: 0.519, lower: 0.596, upper: 0.837, limit: 0.5, examples: 52, passed: true, note: null },
  {
    name: 'win_rate', value: wins, base: null, lower: wins - 0.11, upper: wins + 0.11, limit: 0.5, examples: 52, passed: wins > 0.6,
    note: 'the judge agrees with 0.694 (0.612 to 0.771) of 128 judgements that it did not see',
  },
  { name: 'liked_answers', value: 0.014, base: null, lower: -0.021, upper: 0.035, limit: -0.1, examples: 24, passed: true, note: null },
  { name: 'perplexity_en', value: 21.44, base: 21.13, lower: null, upper: null, limit: 21.76, examples: 2048, passed: true, note: null },
  {
    name: 'perplexity_zh', value: null, base: null, lower: null, upper: null, limit: 0, examples: 0, passed: null,
    note: "nothing held out fits into the model's context",
  },
  { name: 'speed', value: 41.2, base: 42.5, lower: null, upper: null, limit: 34, examples: 8, passed: true, note: null },
]; // prettier-ignore

export class MockImprovements {
  /** @type {RunningImprovement | null} */
  running = null;
  /** @type {Improvement[]} */
  improvements = [
    {
      id: '2026-11-25-1', model: 'smollm2:135m', method: 'kto', created_at: Date.now() - 2 * 86_400_000, finished_at: Date.now(),
      state: 'refused', error: null, promoted: false, compared_with: 'base', compared_with_other: false, data: DATA, gate: gate(0.52),
    },
  ]; // prettier-ignore
  /** @type {Promotion[]} */
  promotions = [];
  #next = 1;
  #recorded = false;
  #stepMilliseconds;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {number} stepMilliseconds */
  constructor(stepMilliseconds) {
    this.#stepMilliseconds = stepMilliseconds;
  }

  /** @param {URLSearchParams} query @returns {import('../src/lib/api/types.ts').ImprovementPreview} */
  preview(query) {
    return {
      model: query.get('model') ?? 'smollm2:135m', method: query.get('method') ?? 'dpo', enough: true,
      least_train: 20, held_out_questions: 12, least_held_out: 5, nothing_new_since: null, data: DATA,
    }; // prettier-ignore
  }

  list() {
    // Its record comes a moment after the answer that it has begun.
    return {
      running: this.#recorded ? this.running : null,
      improvements: this.improvements,
      promotions: this.promotions,
    };
  }

  /** @param {{ model?: string, method?: Improvement['method'] }} wish */
  start({ model = 'smollm2:135m', method = 'dpo' }) {
    const id = `2026-11-27-${this.#next++}`;
    this.running = { id, model, phase: 'collecting', step: null, steps: null, started_at: Date.now() };
    this.#recorded = false;
    let step = 0;
    this.#timer = setInterval(() => {
      step++;
      this.#recorded = true;
      if (step > 12) return this.#finish(id, model, method);
      const phase = step < 2 ? 'collecting' : step < 11 ? 'training' : 'judging';
      const steps = phase === 'training' ? 8 : null;
      const done = phase === 'training' ? step - 2 : null;
      this.running = { id, model, phase, step: done, steps, started_at: this.running?.started_at ?? 0 };
    }, this.#stepMilliseconds);
    return id;
  }

  /** @param {string} id @param {string} model @param {Improvement['method']} method */
  #finish(id, model, method) {
    this.cancel();
    this.improvements = [
      {
        id, model, method, created_at: Date.now(), finished_at: Date.now(), state: 'passed', error: null, promoted: false,
        compared_with: this.promoted(model)?.id ?? 'base', compared_with_other: false, data: DATA, gate: gate(0.68),
      },
      ...this.improvements,
    ]; // prettier-ignore
  }

  /** @param {Improvement} improvement */
  discard(improvement) {
    improvement.state = 'failed';
    improvement.error =
      'it was discarded before it had ended; all that it had computed is removed: begin a new one';
  }

  cancel() {
    clearInterval(this.#timer);
    this.running = null;
  }

  /** @param {string} model */
  #promotion(model) {
    return this.promotions.find((promotion) => promotion.model === model);
  }

  /** What answers in the place of a model. @param {string} model */
  promoted(model) {
    return this.#promotion(model)?.promoted ?? null;
  }

  /** @param {Improvement} improvement */
  promote({ id, model, method }) {
    return this.#put(model, id, method, this.#earlier(model));
  }

  /** Weights that no improvement made. @param {string} model */
  promoteFolder(model) {
    return this.#put(model, null, 'dpo', this.#earlier(model), true);
  }

  /** @param {string} model */
  #earlier(model) {
    const now = this.#promotion(model);
    return now ? [...now.earlier, now.improvement ?? 'base'] : ['base'];
  }

  /** What answered before answers again. @param {string} model @returns {Promotion | null} */
  rollBack(model) {
    const earlier = [...(this.#promotion(model)?.earlier ?? [])];
    const before = earlier.pop();
    if (before === undefined) return null;
    const improvement = this.improvements.find(({ id }) => id === before);
    return this.#put(model, improvement?.id ?? null, improvement?.method ?? null, earlier);
  }

  /**
   * @param {string} model @param {string | null} improvement @param {string | null} method @param {string[]} earlier
   * @param {boolean} [fromElsewhere]
   */
  #put(model, improvement, method, earlier, fromElsewhere = false) {
    const since = improvement === null && !fromElsewhere ? null : Date.now();
    const made = {
      data: '208 examples, 52 held out, of 61 conversations of 3 people',
      gate: 'preference_accuracy 0.731 (0.596 to 0.837), win_rate 0.680 (0.570 to 0.790), perplexity_en 21.440',
    };
    const copied = { data: null, gate: null, source: 'poet' };
    const origin = improvement === null ? copied : { ...made, source: null };
    const promoted =
      since === null ? null : { id: '9f2c', kind: 'adapter', since, method, ...origin, improvement };
    /** @type {Promotion} */
    const promotion = {
      ...{ model, improvement, method, since, promoted, earlier },
      unloaded_adapters: [],
      loaded_adapters: [],
    };
    this.promotions = [...this.promotions.filter((other) => other.model !== model), promotion];
    for (const one of this.improvements) {
      if (one.model !== model) continue;
      one.promoted = one.id === improvement;
      one.compared_with_other = !one.promoted && one.compared_with !== (promoted?.id ?? 'base');
    }
    return promotion;
  }
}
