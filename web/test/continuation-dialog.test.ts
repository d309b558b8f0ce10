// The summary that a new chat begins with, written part by part.
import { flushSync, mount, unmount } from 'svelte';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ModelInfo } from '$lib/api/types';
import { api, chat, models, toasts } from '$lib/app.svelte';
import { catalogues, i18n } from '$lib/i18n/i18n.svelte';
import ContinuationDialog from '../src/components/ContinuationDialog.svelte';
import { conversation, fakeDialogs, message } from './fakes';

const t = catalogues.en.continuation;
const THOUGHT = '<think>\nwhat was it about?\n</think>\n\n';
let target: HTMLElement;
let view: Record<string, unknown> | null = null;

const area = () => target.querySelector('textarea')!;
const button = (name: string) =>
  [...target.querySelectorAll('button')].find((one) => one.textContent?.trim() === name);

function open() {
  view = mount(ContinuationDialog, { target }) as Record<string, unknown>;
  flushSync();
  target.querySelector<HTMLInputElement>('input[value=summary]')!.click();
  flushSync();
}

/** Lets the model write, and waits for its end. */
async function write() {
  button(t.write)!.click();
  flushSync();
  await vi.waitFor(() => {
    flushSync();
    expect(button(t.write)).toBeDefined();
  });
}

beforeEach(() => {
  fakeDialogs();
  target = document.createElement('div');
  document.body.append(target);
  i18n.use('en', []);
  vi.spyOn(api, 'contextUse').mockResolvedValue({ prompt_tokens: 10, context_length: 100 });
  models.list = [
    { name: 'm', title: 'm', installed: true, languages: ['en'], context_length: 100, promoted: null } as unknown as ModelInfo,
  ]; // prettier-ignore
  chat.conversation = conversation();
  // Each message is a part of its own in so short a context.
  chat.messages = {
    q: message({ id: 'q', content: 'a'.repeat(150) }),
    a: message({ id: 'a', parent_id: 'q', role: 'assistant', content: 'b'.repeat(150) }),
    q2: message({ id: 'q2', parent_id: 'a', content: 'c'.repeat(150) }),
    a2: message({ id: 'a2', parent_id: 'q2', role: 'assistant', content: 'd'.repeat(150) }),
  };
  chat.leaf = 'a2';
});
afterEach(async () => {
  if (view) await unmount(view);
  view = null;
  chat.startNew();
  models.list = [];
  toasts.clear();
  vi.restoreAllMocks();
  document.body.replaceChildren();
});

// Regression: where a model spent a whole part thinking, all that it had summarised before was lost.
test('a part that was all thought keeps the summary of those before it', async () => {
  const written = ['Gold.', THOUGHT, 'Gold and silver.', THOUGHT];
  const asked: string[] = [];
  vi.spyOn(api, 'write').mockImplementation(async function* (_model, question) {
    asked.push(question);
    await Promise.resolve();
    yield written[asked.length - 1] ?? '';
  });
  open();
  await write();
  expect(asked).toHaveLength(4);
  expect(asked[2]).toContain(`${t.heading}\nGold.`);
  expect(area().value).toBe('Gold and silver.');
});

// Regression: stopped while it thought, it left its thought there in place of what the reader had written.
test('stopped while it thinks, it leaves what was there', async () => {
  vi.spyOn(api, 'write').mockImplementation(async function* () {
    await Promise.resolve();
    yield '<think>\nwhat was';
    throw new DOMException('stopped', 'AbortError');
  });
  open();
  area().value = 'Mine.';
  area().dispatchEvent(new InputEvent('input', { bubbles: true }));
  flushSync();
  await write();
  expect(area().value).toBe('Mine.');
  expect(toasts.list).toEqual([]);
});
