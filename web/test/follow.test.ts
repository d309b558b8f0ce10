import { beforeEach, expect, test, vi } from 'vitest';
import { followAnswer } from '$lib/api/follow';
import { ApiError, NetworkError } from '$lib/api/errors';
import type { Message } from '$lib/api/types';
import { brokenStream, fakeServer, message, sse } from './fakes';

const answer = message({ id: 'a', role: 'assistant', content: '真金不怕火炼 👩‍🚀 true gold' });

beforeEach(() => {
  vi.useFakeTimers();
  return () => vi.useRealTimers();
});

async function follow(respond: (path: string) => Response | Promise<Response>, shown = 0) {
  const { client, calls } = fakeServer({ 'GET /api/messages/a/stream': ({ path }) => respond(path) });
  let text = [...answer.content].slice(0, shown).join('');
  let done: Message | null = null;
  const lost = vi.fn();
  const controller = new AbortController();
  const observer = { text: (more: string) => (text += more), done: (last: Message) => (done = last), lost };
  const following = followAnswer(client, 'a', shown, observer, controller.signal);
  following.catch(() => undefined);
  await vi.runAllTimersAsync();
  return { following, text: () => text, done: () => done, calls, lost };
}

test('a stream that breaks after any number of characters loses and repeats nothing', async () => {
  for (let count = 1; count <= 12; count++) {
    const { text, done } = await follow((path) => brokenStream(answer, path, count));
    expect(text()).toBe(answer.content);
    expect(done()).toEqual(answer);
  }
});

test('goes on where a reloaded page stands', async () => {
  const { text, calls } = await follow((path) => brokenStream(answer, path, 1000), 5);
  expect(calls[0]?.path).toBe('/api/messages/a/stream?offset=5');
  expect(text()).toBe(answer.content);
});

test('what a server repeats is shown once, and a gap is asked for again', async () => {
  let attempt = 0;
  const { text } = await follow((path) => {
    if (attempt++ > 0) return brokenStream(answer, path, 1000);
    const repeated = sse('delta', { offset: 0, text: '真金' }) + sse('delta', { offset: 1, text: '金不' });
    return new Response(repeated + sse('delta', { offset: 5, text: '炼' }));
  });
  expect(text()).toBe(answer.content);
});

test('a lost network is told and mended', async () => {
  let attempt = 0;
  const { text, lost } = await follow((path) =>
    attempt++ < 3 ? Promise.reject(new TypeError('offline')) : brokenStream(answer, path, 1000),
  );
  expect(lost).toHaveBeenCalledTimes(3);
  expect(lost.mock.calls.every(([error]) => error instanceof NetworkError)).toBe(true);
  expect(text()).toBe(answer.content);
});

// Regression: a server whose streams were all taken, or that waited in vain for a request, made the page give up.
test.each([408, 429])('with too much to do (%i) the server is asked again', async (status) => {
  let attempt = 0;
  const { text, done, calls } = await follow((path) =>
    attempt++ < 2
      ? Response.json({ error: { message: 'later' } }, { status })
      : brokenStream(answer, path, 1000),
  );
  expect(text()).toBe(answer.content);
  expect(done()).toEqual(answer);
  expect(calls).toHaveLength(3);
});

test('a refusal is thrown, not repeated', async () => {
  const { following, calls } = await follow(() =>
    Response.json({ error: { message: 'gone' } }, { status: 404 }),
  );
  await expect(following).rejects.toBeInstanceOf(ApiError);
  expect(calls).toHaveLength(1);
});
