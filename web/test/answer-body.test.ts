// What is said below an answer that became as long as it may, and whether it can go on.
import { flushSync, mount, unmount } from 'svelte';
import { afterEach, describe, expect, test } from 'vitest';
import type { Message } from '$lib/api/types';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import AnswerBody from '../src/components/AnswerBody.svelte';
import { message } from './fakes';

const views: Record<string, unknown>[] = [];
const onward = () => undefined;

function show(fields: Partial<Message>, more: { onward?: () => unknown } = {}) {
  const target = document.createElement('div');
  document.body.append(target);
  const answer = message({
    id: 'a', role: 'assistant', content: 'Gold.', finish_reason: 'length', prompt_tokens: 10, completion_tokens: 40, ...fields,
  }); // prettier-ignore
  views.push(mount(AnswerBody, { target, props: { message: answer, ...more } }) as Record<string, unknown>);
  flushSync();
  const note = target.querySelector('.note');
  return { said: note?.textContent ?? '', buttons: note?.querySelectorAll('button').length };
}

afterEach(() => {
  for (const view of views.splice(0)) void unmount(view);
  i18n.use('en', []);
  document.body.replaceChildren();
});

describe.each(locales)('in %s', (locale) => {
  const t = catalogues[locale].message;

  // Regression: every such answer said "Let it go on", also where nothing did.
  test('to let it go on is said only where that is offered', () => {
    i18n.use(locale, []);
    const last = show({}, { onward });
    expect(last.said).toContain(t.continueHint);
    expect(last.buttons).toBe(1);
    for (const shown of [show({}), show({ content: '<think>\nhm' }, { onward })]) {
      expect(shown.said).toContain(t.raiseHint);
      expect(shown.said).not.toContain(t.continueHint);
      expect(shown.buttons).toBe(0);
    }
  });

  test('an answer that ended with the context does not go on, whatever the settings', () => {
    i18n.use(locale, []);
    const ended = show({ context_length: 50 }, { onward });
    // With the numbers: what a new question takes may be far less.
    expect(ended.said).toContain(t.contextEnded('10', '40'));
    expect(ended.buttons).toBe(0);
    const short = show({ context_length: 51 }, { onward });
    expect(short.said).not.toContain(t.contextEnded('10', '40'));
    expect(short.buttons).toBe(1);
  });
});
