import { flushSync, mount, unmount } from 'svelte';
import { afterEach, expect, test, vi } from 'vitest';
import { ApiError } from '$lib/api/errors';
import type { Exchange } from '$lib/api/types';
import { api, chat, toasts } from '$lib/app.svelte';
import UserMessage from '../src/components/UserMessage.svelte';
import { conversation, message } from './fakes';

afterEach(() => {
  chat.startNew();
  toasts.clear();
  vi.restoreAllMocks();
  document.body.replaceChildren();
});

// Pressed again while the first was on its way, Enter closed the editor; when the first was refused, the words were gone.
test('an edited question stays until the server has taken it, however often Enter is pressed', async () => {
  const sent: { resolve: (taken: Exchange) => void; reject: (error: unknown) => void }[] = [];
  const ask = vi
    .spyOn(api, 'ask')
    .mockImplementation(() => new Promise((resolve, reject) => sent.push({ resolve, reject })));
  vi.spyOn(api, 'conversations').mockResolvedValue([]);
  const question = message({ id: 'q', content: 'first' });
  chat.conversation = conversation();
  chat.messages = { q: question };
  chat.leaf = chat.editing = 'q';
  const view = mount(UserMessage, { target: document.body, props: { message: question } });
  flushSync();
  const editor = () => document.querySelector('textarea');
  const enter = async () => {
    editor()?.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve));
    flushSync();
  };
  const area = editor()!;
  area.value = 'a second thought';
  area.dispatchEvent(new InputEvent('input', { bubbles: true }));

  await enter();
  await enter();
  expect(ask).toHaveBeenCalledOnce();
  expect(editor()?.value).toBe('a second thought');
  sent[0]?.reject(new ApiError(429, 'the queue is full', 'rate_limit_exceeded'));
  await vi.waitFor(() => expect(toasts.list).toHaveLength(1));
  flushSync();
  expect(editor()?.value).toBe('a second thought');
  expect(editor()?.readOnly).toBe(false);

  await enter();
  expect(ask).toHaveBeenCalledTimes(2);
  const user = message({ id: 'q2', content: 'a second thought' });
  sent[1]?.resolve({ user, answer: message({ id: 'a2', parent_id: 'q2', role: 'assistant' }) });
  await vi.waitFor(() => expect(chat.editing).toBeNull());
  await unmount(view);
});

test('an edited question outlives its editor, until it is given up', async () => {
  const question = message({ id: 'q', content: 'first' });
  chat.editing = 'q';
  const open = () => {
    const view = mount(UserMessage, { target: document.body, props: { message: question } });
    flushSync();
    return view;
  };
  const editor = () => document.querySelector('textarea')!;
  let view = open();
  editor().value = 'a second thought';
  editor().dispatchEvent(new InputEvent('input', { bubbles: true }));
  await unmount(view);
  view = open();
  expect(editor().value).toBe('a second thought');
  editor().dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
  await unmount(view);
  chat.editing = 'q';
  view = open();
  expect(editor().value).toBe('first');
  await unmount(view);
});
