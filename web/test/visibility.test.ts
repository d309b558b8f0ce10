// A window that nobody sees holds no connections; seen again, it follows every answer, whatever becomes of reading the chat anew.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ApiError } from '$lib/api/errors';
import type { Exchange, ModelInfo } from '$lib/api/types';
import { api, cameOrWent, catchUp, chat, models, session, toasts } from '$lib/app.svelte';
import { conversation, message } from './fakes';

let hidden = false;

function turn(away: boolean) {
  hidden = away;
  document.dispatchEvent(new Event('visibilitychange'));
}

/** A stream on which nothing comes until it is given up. */
async function* silence(signal: AbortSignal): AsyncGenerator<never> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
}

const question = message({ id: 'q', content: 'What is gold?' });
const growing = () =>
  message({ id: 'a', parent_id: 'q', role: 'assistant', content: 'Gold', status: 'generating' });

/** The answers that are followed at the moment, and from which character on each was asked for. */
const followed = () =>
  vi
    .mocked(api.answerEvents)
    .mock.calls.filter(([, , signal]) => !signal.aborted)
    .map(([id, offset]) => [id, offset]);

beforeEach(() => {
  hidden = false;
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
  document.addEventListener('visibilitychange', cameOrWent);
  vi.spyOn(api, 'answerEvents').mockImplementation((_id, _offset, signal) =>
    Promise.resolve(silence(signal)),
  );
  vi.spyOn(api, 'modelEvents').mockImplementation((signal) => Promise.resolve(silence(signal)));
  vi.spyOn(api, 'conversations').mockResolvedValue([]);
  vi.spyOn(api, 'models').mockResolvedValue([]);
  vi.spyOn(api, 'conversation').mockRejectedValue(new ApiError(503, 'busy', 'unavailable'));
  session.phase = 'open';
  chat.conversation = conversation();
  chat.messages = { q: question, a: growing() };
  chat.leaf = 'a';
});
afterEach(() => {
  chat.sending = false;
  chat.startNew();
  models.unwatch();
  models.list = [];
  toasts.clear();
  document.removeEventListener('visibilitychange', cameOrWent);
  Reflect.deleteProperty(document, 'hidden');
  vi.restoreAllMocks();
});

// Regression: only reading the chat again followed its answers again, and an answer stayed as it was where that was refused.
test('an answer goes on when the window is seen again, though the chat cannot be read just then', async () => {
  chat.followAll();
  expect(followed()).toEqual([['a', 4]]);
  turn(true);
  expect(followed()).toEqual([]);
  turn(false);
  expect(followed()).toEqual([['a', 4]]);
  await vi.waitFor(() => expect(toasts.list).toHaveLength(1));
  expect(followed()).toEqual([['a', 4]]);
});

// Regression: the chat is not read then, so that nothing followed its answers again.
test('an answer goes on also while a question is on its way', () => {
  chat.followAll();
  turn(true);
  chat.sending = true;
  turn(false);
  expect(api.conversation).not.toHaveBeenCalled();
  expect(followed()).toEqual([['a', 4]]);
});

// Regression: windows that were opened in the background, or caught up there, took connections from the one that is seen.
test('a window in the background opens no streams before it is seen', async () => {
  const pull = { state: 'running', source: null, done_bytes: 1, total_bytes: 10, error: null };
  vi.spyOn(api, 'models').mockResolvedValue([{ name: 'm', title: 'm', pull } as unknown as ModelInfo]);
  const whole = { ...conversation({ current_leaf: 'a' }), messages: [question, growing()], choices: [] };
  vi.spyOn(api, 'conversation').mockResolvedValue(whole);
  hidden = true;
  await chat.open('c');
  await catchUp();
  expect(chat.growing?.id).toBe('a');
  expect(api.answerEvents).not.toHaveBeenCalled();
  expect(api.modelEvents).not.toHaveBeenCalled();
  turn(false);
  expect(followed()).toEqual([['a', 4]]);
  expect(api.modelEvents).toHaveBeenCalledOnce();
});

// Regression: a question that was taken while the window was hidden had its answer followed all the same.
test('an answer that began while the window was hidden is followed when it is seen again', async () => {
  let take: (taken: Exchange) => void = () => undefined;
  vi.spyOn(api, 'ask').mockImplementation(() => new Promise((resolve) => (take = resolve)));
  chat.messages = { q: question, a: { ...growing(), status: 'complete' } };
  const asking = chat.ask('And silver?');
  turn(true);
  const user = message({ id: 'q2', parent_id: 'a', content: 'And silver?' });
  take({
    user,
    answer: message({ id: 'b', parent_id: 'q2', role: 'assistant', content: '', status: 'generating' }),
  });
  await asking;
  expect(api.answerEvents).not.toHaveBeenCalled();
  turn(false);
  expect(followed()).toEqual([['b', 0]]);
});
