// The mock models, and downloads that take a few seconds.
import { EventEmitter } from 'node:events';

const GB = 1e9;

/** @typedef {import('../src/lib/api/types.ts').ModelInfo} ModelInfo */

/** @param {Partial<ModelInfo> & { name: string, title: string }} model @returns {ModelInfo} */
const model = (model) => ({
  source: 'catalogue',
  installed: false,
  removable: false,
  served: false,
  loaded: false,
  size_bytes: null,
  least_memory_bytes: null,
  planned_memory_bytes: null,
  fits: true,
  languages: ['en'],
  licence: 'Apache-2.0',
  good_for: null,
  context_length: 2048,
  pull: null,
  promoted: null,
  ...model,
});

export class MockModels extends EventEmitter {
  /** @type {ModelInfo[]} */
  list = [
    model({
      name: 'smollm2:135m', title: 'SmolLM2 135M', installed: true, removable: true, served: true, loaded: true,
      size_bytes: 98_362_432, least_memory_bytes: 0.15 * GB, planned_memory_bytes: 0.55 * GB,
      good_for: { en: 'Trying things out: quick on any machine.', zh: '试用：在任何机器上都很快。' },
    }),
    model({
      name: 'smollm2:360m', title: 'SmolLM2 360M', size_bytes: 0.27 * GB, least_memory_bytes: 0.8 * GB,
      good_for: { en: 'Short English answers and rewriting.', zh: '简短的英文回答与改写。' },
    }),
    model({
      name: 'qwen3:0.6b', title: 'Qwen3 0.6B', size_bytes: 0.64 * GB, least_memory_bytes: 1.4 * GB, languages: ['zh', 'en'],
      context_length: 32_768,
      good_for: { en: 'Everyday Chinese and English.', zh: '日常的中文和英文对话。' },
    }),
    model({
      name: 'qwen3:4b', title: 'Qwen3 4B', size_bytes: 2.5 * GB, least_memory_bytes: 4.9 * GB, languages: ['zh', 'en'],
      context_length: 32_768,
      good_for: { en: 'Better reasoning and longer texts.', zh: '更好的推理，更长的文章。' },
    }),
    model({
      name: 'qwen3:32b', title: 'Qwen3 32B', size_bytes: 19.8 * GB, least_memory_bytes: 24 * GB, languages: ['zh', 'en'],
      context_length: 32_768, fits: false,
      good_for: { en: 'Hard questions, on a large machine.', zh: '难题，需要大内存的机器。' },
    }),
  ]; // prettier-ignore
  /** @type {Map<string, ReturnType<typeof setInterval>>} */
  #running = new Map();

  /** @param {string} name */
  find(name) {
    return this.list.find((model) => model.name === name);
  }

  /** Models with an adapter are models of their own. @param {string[]} names */
  adapted(names) {
    return names.map((name) => model({ name, title: name, source: 'local', installed: true, served: true }));
  }

  /** How far each known download is, as events tell it. */
  pulls() {
    return this.list.flatMap((model) => (model.pull ? [{ name: model.name, ...model.pull }] : []));
  }

  /** @param {ModelInfo} model */
  pull(model) {
    const total = model.size_bytes ?? 0;
    const pull = (model.pull = {
      state: /** @type {import('../src/lib/api/types.ts').PullState} */ ('running'),
      source: 'huggingface.co',
      done_bytes: 0,
      total_bytes: total,
      error: /** @type {string | null} */ (null),
    });
    const timer = setInterval(() => {
      pull.done_bytes = Math.min(total, Math.round(pull.done_bytes + total / 25));
      if (pull.done_bytes === total) {
        this.#stop(model, 'done');
        model.installed = true;
        model.removable = true;
        model.served = true;
      } else this.emit('pull', { name: model.name, ...pull });
    }, 120);
    this.#running.set(model.name, timer);
  }

  /** @param {ModelInfo} model */
  cancel(model) {
    if (this.#running.has(model.name)) this.#stop(model, 'cancelled');
  }

  /** @param {ModelInfo} model @param {import('../src/lib/api/types.ts').PullState} state */
  #stop(model, state) {
    clearInterval(this.#running.get(model.name));
    this.#running.delete(model.name);
    if (!model.pull) return;
    model.pull.state = state;
    this.emit('pull', { name: model.name, ...model.pull });
  }

  /** @param {ModelInfo} model */
  remove(model) {
    model.installed = false;
    model.removable = false;
    model.served = false;
    model.loaded = false;
    model.pull = null;
  }
}
