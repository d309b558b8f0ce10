// How models are called beside their answers, what the poet is given to begin with, and how full the context is said to be.
import { flushSync } from 'svelte';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ModelInfo } from '$lib/api/types';
import { chat, composer, context, models } from '$lib/app.svelte';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import { modelName } from '$lib/names';
import { POEM_TITLES } from '$lib/state/models.svelte';
import ContextFull from '../src/components/ContextFull.svelte';
import ContextMeter from '../src/components/ContextMeter.svelte';
import Welcome from '../src/components/Welcome.svelte';
import { conversation, message } from './fakes';
import { hideAll, makeTarget, show, target } from './views';

const poet = {
  name: 'poet', title: 'Zhenjin Poet', source: 'catalogue', installed: true, removable: false, served: true, loaded: true, size_bytes: 1,
  least_memory_bytes: 1, planned_memory_bytes: null, fits: true, languages: ['zh'], licence: null, good_for: null, context_length: 256, pull: null,
  promoted: null,
} as unknown as ModelInfo; // prettier-ignore

beforeEach(() => {
  makeTarget();
  models.list = [poet, { ...poet, name: 'poet+base', title: 'poet+base' }];
  models.loaded = true;
});
afterEach(async () => {
  await hideAll();
  chat.startNew();
  composer.text = '';
  context.forget();
  models.list = [];
  models.loaded = false;
  i18n.use('en', []);
  document.body.replaceChildren();
});

describe.each(locales)('in %s', (locale) => {
  const t = catalogues[locale];
  beforeEach(() => i18n.use(locale, []));

  // Regression: two answers were headed by "poet+base".
  test('a model without its improvement is called so', () => {
    expect(modelName('poet+base')).toBe(t.models.withoutImprovement('Zhenjin Poet'));
    expect(modelName('poet')).toBe('Zhenjin Poet');
    expect(modelName('gone+base')).toBe('gone+base');
    expect(modelName(null)).toBe('');
  });

  // Regression: it was to explain rainbows and to write Python.
  test('the poet is given titles of poems to begin with', () => {
    show(Welcome, {});
    const words = (selector: string) =>
      [...target.querySelectorAll(`.examples ${selector}`)].map((one) => one.textContent);
    expect(words('[lang=zh-CN]')).toEqual([...POEM_TITLES]);
    expect(words('small')).toEqual(t.welcome.poems);
  });

  // Regression: the answer "ended because the context is full" beside 81 %.
  test('after an answer that has filled the context the meter says so, until something is written', () => {
    const answer = message({
      id: 'a', parent_id: 'q', role: 'assistant', content: '春', finish_reason: 'length', prompt_tokens: 207, completion_tokens: 49, context_length: 256,
    }); // prettier-ignore
    chat.conversation = conversation({ model: 'poet' });
    chat.messages = { q: message({ id: 'q' }), a: answer };
    chat.leaf = 'a';
    context.use = { prompt_tokens: 207, context_length: 256 };
    show(ContextMeter, {});
    const said = () => [target.querySelector('span')?.textContent, target.querySelector('button')?.title];
    expect(said()).toEqual(['100%', expect.stringContaining(t.context.used('256', '256'))]);
    composer.text = '春夜';
    context.use = { prompt_tokens: 9, context_length: 256 };
    flushSync();
    expect(said()).toEqual(['3.5%', t.context.used('9', '256')]);
  });

  test('of a message that is too long by itself no earlier question is said to be to blame', () => {
    chat.conversation = conversation({ model: 'poet' });
    chat.messages = { q: message({ id: 'q' }), a: message({ id: 'a', parent_id: 'q', role: 'assistant' }) };
    chat.leaf = 'a';
    composer.text = '春'.repeat(300);
    context.use = { prompt_tokens: 500, context_length: 256 };
    context.alone = { prompt_tokens: 310, context_length: 256 };
    show(ContextFull, {});
    expect(target.textContent).toContain(t.context.alone);
    expect(target.textContent).toContain(t.context.aloneDetail('310', '256'));
    expect(target.textContent).toContain(t.context.shorter);
    expect(target.textContent).not.toContain(t.context.editEarlier);
    context.alone = { prompt_tokens: 200, context_length: 256 };
    flushSync();
    expect(target.textContent).toContain(t.context.full);
    expect(target.textContent).toContain(t.context.editEarlier);
  });
});
