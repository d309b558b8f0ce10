// @vitest-environment node
// Judging, choosing and improving, from the stores through the client to the mock server.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { startMockServer } from '../dev/mock-server.mjs';
import { fakeServer } from './fakes';
import { ApiClient } from '$lib/api/client';
import { ApiError } from '$lib/api/errors';
import type { Judgement as Said, Message } from '$lib/api/types';
import { preferredTo, rated, rejectedFor, saysNothing, SILENT, unrated } from '$lib/feedback';
import { Chat } from '$lib/state/chat.svelte';
import { Improving } from '$lib/state/improving.svelte';
import { Judging } from '$lib/state/judging.svelte';

let mock: Awaited<ReturnType<typeof startMockServer>>;
/** Calls whose path ends so are answered with an error instead. */
let failing: string | null;
let calls: string[];

function client(): ApiClient {
  return new ApiClient((path, init) => {
    calls.push(`${init?.method} ${path}`);
    if (failing !== null && path.endsWith(failing)) {
      const error = { message: 'the disk is full', type: 'server_error', param: null, code: 'store_failed' };
      return Promise.resolve(Response.json({ error }, { status: 500 }));
    }
    return fetch(mock.url + path, init);
  });
}

function setUp() {
  const api = client();
  const events = { changed: vi.fn(), asked: vi.fn(), finished: vi.fn(), judged: vi.fn(), failed: vi.fn() };
  const chat = new Chat(api, events, () => ({}));
  const report = vi.fn();
  const judging = new Judging(api, (answer, judgement) => chat.judge(answer, judgement), report);
  const ended = () => vi.waitFor(() => expect(chat.growing).toBeNull(), 5000);
  /** The answer as it is now. */
  const answer = () => chat.last as Message;
  return { api, chat, judging, report, events, ended, answer };
}

/** A chat with one finished answer. */
async function judgeable() {
  const all = setUp();
  await all.chat.ask('What is gold?');
  await all.ended();
  return all;
}

/** What the server has. */
async function stored(chat: Chat, id: string) {
  const { messages, choices } = await client().conversation(chat.id ?? '');
  return { feedback: messages.find((message) => message.id === id)?.feedback, choices };
}

beforeEach(async () => {
  failing = null;
  calls = [];
  mock = await startMockServer({ tokenMilliseconds: 1 });
});
afterEach(() => mock.close());

describe('a judgement', () => {
  test('keeps only the reasons that fit its rating, and a correction without any', () => {
    const down: Said = { rating: 'down', reasons: ['wrong'], comment: 'No', correction: 'Yes' };
    expect(rated(down, 'up')).toEqual({ ...down, rating: 'up', reasons: [] });
    expect(rated(down, 'down')).toEqual(down);
    expect(unrated(down)).toEqual({ ...SILENT, correction: 'Yes' });
    expect(saysNothing(unrated({ ...down, correction: null }))).toBe(true);
  });

  test('is saved with the first press, changed with the other thumb and taken back with a second', async () => {
    const { chat, judging, answer } = await judgeable();
    const { id } = answer();
    await judging.press(answer(), 'up');
    expect((await stored(chat, id)).feedback?.rating).toBe('up');
    await judging.press(answer(), 'down');
    expect((await stored(chat, id)).feedback?.rating).toBe('down');
    expect(judging.drafts[id]).toBeDefined();
    await judging.press(answer(), 'down');
    expect((await stored(chat, id)).feedback).toBeNull();
    expect(judging.rating(answer())).toBeNull();
    expect(judging.drafts[id]).toBeUndefined();
  });

  test('pressed twice at once ends as it was', async () => {
    const { chat, judging, answer } = await judgeable();
    const presses = [judging.press(answer(), 'up'), judging.press(answer(), 'up')];
    await Promise.all(presses);
    expect(judging.rating(answer())).toBeNull();
    expect((await stored(chat, answer().id)).feedback).toBeNull();
  });

  test('takes reasons, a comment and a correction, and gives the correction up', async () => {
    const { chat, judging, answer } = await judgeable();
    const { id, content } = answer();
    await judging.press(answer(), 'down');
    Object.assign(judging.drafts[id]!, {
      reasons: ['wrong'],
      comment: ' Not so. ',
      correction: 'Gold is heavy.',
    });
    expect(await judging.save(answer(), content)).toBe(true);
    const said = {
      rating: 'down',
      reasons: ['wrong'],
      comment: 'Not so.',
      correction: 'Gold is heavy.',
    };
    expect((await stored(chat, id)).feedback).toMatchObject(said);
    expect(chat.messages[id]?.feedback).toMatchObject(said);
    expect(judging.drafts[id]).toBeUndefined();

    await judging.removeCorrection(answer());
    expect((await stored(chat, id)).feedback).toMatchObject({ ...said, correction: null });
  });

  test('keeps a correction when its thumb is taken back', async () => {
    const { chat, judging, answer } = await judgeable();
    const { id, content } = answer();
    await judging.press(answer(), 'down');
    judging.drafts[id]!.correction = 'Better.';
    await judging.save(answer(), content);
    await judging.press(answer(), 'down');
    expect((await stored(chat, id)).feedback).toMatchObject({ rating: null, correction: 'Better.' });
  });

  test('of which the correction is the answer itself has no correction', async () => {
    const { chat, judging, answer } = await judgeable();
    const { id, content } = answer();
    await judging.press(answer(), 'up');
    judging.drafts[id]!.correction = `${content}\n`;
    await judging.save(answer(), content);
    expect((await stored(chat, id)).feedback).toMatchObject({ rating: 'up', correction: null });
  });

  test('that the server does not take stays in the panel, with the reason, until it is saved', async () => {
    const { chat, judging, answer } = await judgeable();
    const { id, content } = answer();
    failing = '/feedback';
    expect(await judging.press(answer(), 'down')).toBe(false);
    expect(judging.rating(answer())).toBe('down');
    Object.assign(judging.drafts[id]!, { reasons: ['too_long'], comment: 'Half would do.' });
    expect(await judging.save(answer(), content)).toBe(false);
    expect(judging.errors[id]).toBeInstanceOf(ApiError);
    expect(judging.drafts[id]).toMatchObject({ reasons: ['too_long'], comment: 'Half would do.' });
    expect(answer().feedback).toBeNull();

    failing = null;
    expect(await judging.save(answer(), content)).toBe(true);
    expect(judging.errors[id]).toBeUndefined();
    expect((await stored(chat, id)).feedback).toMatchObject({ rating: 'down', comment: 'Half would do.' });
  });

  test('that is given up shows again what the server has', async () => {
    const { judging, answer } = await judgeable();
    failing = '/feedback';
    await judging.press(answer(), 'down');
    judging.cancel(answer());
    expect(judging.rating(answer())).toBeNull();
    expect(judging.errors[answer().id]).toBeUndefined();
  });

  test('survives a list of messages that was on its way when it was saved', async () => {
    const { api, chat, judging, answer } = await judgeable();
    const read = api.conversation.bind(api);
    let arrive: (() => void) | undefined;
    vi.spyOn(api, 'conversation').mockImplementation(async (id) => {
      const list = await read(id);
      await new Promise<void>((resolve) => (arrive = resolve));
      return list;
    });
    const reload = chat.reload();
    await vi.waitFor(() => expect(arrive).toBeDefined());
    await judging.press(answer(), 'up');
    arrive?.();
    await reload;
    expect(answer().feedback?.rating).toBe('up');
  });
});

describe('consent', () => {
  test('is asked once, beside the first judgement', async () => {
    const { judging, answer } = await judgeable();
    await judging.press(answer(), 'up');
    expect(judging.asking).toBe(answer().id);
    await judging.allow(false);
    expect(judging.asking).toBeNull();
    expect(mock.feedback.consent.changed_at).not.toBeNull();
    await judging.press(answer(), 'down');
    expect(judging.asking).toBeNull();
  });

  test.each([true, false])('is not asked of who said %s before', async (allowed) => {
    mock.feedback.allow(allowed);
    const { judging, answer } = await judgeable();
    await judging.press(answer(), 'up');
    expect(judging.asking).toBeNull();
  });

  test('is not asked when a judgement is taken back', async () => {
    const { judging, answer } = await judgeable();
    await judging.press(answer(), 'up');
    judging.asking = null;
    await judging.press(answer(), 'up');
    expect(judging.asking).toBeNull();
  });

  test('goes on being asked for when the answer did not arrive', async () => {
    const { judging, answer } = await judgeable();
    await judging.press(answer(), 'up');
    failing = '/consent';
    await expect(judging.allow(true)).rejects.toThrow('the disk is full');
    expect(judging.asking).toBe(answer().id);
  });
});

describe('two answers', () => {
  test('grow side by side; the chat goes on with the better one', async () => {
    const { chat, ended } = setUp();
    await chat.ask('What is tin?', true);
    expect(chat.pair?.map(({ parent_id }) => parent_id)).toEqual([chat.path[0]?.id, chat.path[0]?.id]);
    expect(chat.pair?.filter(({ status }) => status === 'generating')).toHaveLength(2);
    await ended();
    const [left, right] = chat.pair!;
    expect(chat.leaf).toBe(left.id);
    await chat.choose(right, left);
    expect(chat.pair).toBeNull();
    expect(chat.leaf).toBe(right.id);
    const { choices } = await stored(chat, right.id);
    expect(choices).toMatchObject([{ chosen: right.id, rejected: [left.id] }]);
    expect(rejectedFor(chat.choices, right.id)).toEqual([left.id]);
    expect(preferredTo(chat.choices, left.id)).toEqual([right.id]);
    expect((await client().conversation(chat.id!)).current_leaf).toBe(right.id);

    // The other way round: one choice, not two.
    chat.lookAtBoth(right, left);
    expect(chat.pair?.map(({ id }) => id)).toEqual([left.id, right.id]);
    await chat.choose(left, right);
    expect(chat.choices).toMatchObject([{ chosen: left.id, rejected: [right.id] }]);
    await chat.forgetChoice(left);
    expect(chat.choices).toEqual([]);
    expect((await stored(chat, left.id)).choices).toEqual([]);
  });

  test('come from two models when the second is named', async () => {
    const { chat, answer, ended } = await judgeable();
    await chat.compare(answer(), 'qwen3:0.6b');
    expect(chat.pair?.map(({ model }) => model)).toEqual(['smollm2:135m', 'qwen3:0.6b']);
    await ended();
    expect((await stored(chat, chat.pair![1].id)).choices).toEqual([]);
  });

  test('are both stopped', async () => {
    const { chat } = setUp();
    await chat.ask('Tell me a long story.', true);
    await chat.stop();
    expect(chat.pair?.map(({ status }) => status)).toEqual(['stopped', 'stopped']);
    expect(chat.growing).toBeNull();
  });

  test('are one when the second is refused, which is told', async () => {
    const { chat, events, ended } = setUp();
    failing = '/regenerate';
    await chat.ask('What is tin?', true);
    await ended();
    expect(events.failed).toHaveBeenCalledOnce();
    expect(chat.pair).toBeNull();
    expect(chat.last?.status).toBe('complete');
  });

  // Regression: "That was not done" was said, and the first answer shown alone, though the second one was being written.
  test('are two, also when where the chat opens the next time cannot be saved', async () => {
    const { api, chat, events, answer, ended } = await judgeable();
    const error = new ApiError(500, 'disk', 'store_failed');
    vi.spyOn(api, 'updateConversation').mockRejectedValue(error);
    await chat.compare(answer());
    expect(chat.pair).toHaveLength(2);
    expect(events.failed.mock.calls).toEqual([[error]]);
    await ended();
  });

  test('stay side by side, with the choice open, when the choice is refused', async () => {
    const { chat, ended } = setUp();
    await chat.ask('What is tin?', true);
    await ended();
    const [left, right] = chat.pair!;
    failing = '/choice';
    await expect(chat.choose(right, left)).rejects.toThrow('the disk is full');
    expect(chat.pair).not.toBeNull();
    expect(chat.choices).toEqual([]);
  });

  // Regression: below two that broke off there was no way to ask again.
  test.each([
    ['one', ['failed', 'complete']],
    ['one', ['complete', 'failed']],
    ['two', ['failed', 'interrupted']],
  ] as const)('of which %s broke off are asked for again: %s', async (_, statuses) => {
    const { chat, ended } = setUp();
    await chat.ask('What is tin?', true);
    await ended();
    const before = chat.pair!;
    for (const [index, status] of statuses.entries()) before[index]!.status = status;
    await chat.replaceBroken(before);
    await ended();
    const pair = chat.pair!;
    expect(pair.map(({ status }) => status)).toEqual(['complete', 'complete']);
    const kept = before.filter(({ status }) => status === 'complete').map(({ id }) => id);
    expect(pair.filter((one) => before.some(({ id }) => id === one.id)).map(({ id }) => id)).toEqual(kept);
    expect(chat.path.some(({ id }) => pair.some((one) => one.id === id))).toBe(true);
  });

  test('leave the rest of the chat where it is until one is chosen', async () => {
    const { chat, ended } = await judgeable();
    const first = chat.last!;
    await chat.ask('And silver?');
    await ended();
    const leaf = chat.leaf;
    await chat.compare(first);
    await ended();
    expect(chat.leaf).toBe(leaf);
    expect(chat.path.map(({ content }) => content)).toContain('And silver?');
    await chat.choose(chat.pair![1], first);
    expect(chat.path).toHaveLength(2);
  });

  test('are over when another window chose between them, and open over a reload until then', async () => {
    const { chat, ended } = setUp();
    await chat.ask('What is tin?', true);
    await ended();
    await chat.reload();
    const [left, right] = chat.pair!;
    await client().choose(right.id, [left.id]);
    await chat.reload();
    expect(chat.pair).toBeNull();
    expect(chat.choices).toMatchObject([{ chosen: right.id, rejected: [left.id] }]);
    // Looked at again, they stay until the reader leaves them.
    chat.lookAtBoth(left, right);
    await chat.reload();
    expect(chat.pair).not.toBeNull();
  });

  test('are left by another question', async () => {
    const { chat, ended } = setUp();
    await chat.ask('What is tin?', true);
    await ended();
    const [left] = chat.pair!;
    await chat.ask('And lead?');
    expect(chat.pair).toBeNull();
    expect(chat.path[1]?.id).toBe(left.id);
  });
});

describe('improvements', () => {
  test('run, pass, are promoted and rolled back', async () => {
    const improving = new Improving(client());
    await improving.refresh();
    expect(improving.known?.promotions).toEqual([]);
    await improving.start({ method: 'dpo' });
    // The program is starting: the server's list has nothing of it yet.
    expect(improving.known?.running).toBeNull();
    expect(improving.running?.phase).toBe('collecting');
    await vi.waitFor(async () => {
      await improving.refresh();
      expect(improving.known?.running).not.toBeNull();
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const watching = new AbortController();
    const failed = vi.fn();
    const watched = improving.watch(watching.signal, failed);
    while (improving.running) await vi.advanceTimersByTimeAsync(2000);
    watching.abort();
    await watched;
    vi.useRealTimers();
    expect(failed).not.toHaveBeenCalled();
    const made = improving.known!.improvements[0]!;
    expect(made.state).toBe('passed');
    await improving.promote(made.id);
    expect(improving.known?.promotions).toMatchObject([{ model: 'smollm2:135m', improvement: made.id }]);
    expect(improving.known?.improvements[0]?.promoted).toBe(true);
    expect((await improving.rollBack('smollm2:135m')).improvement).toBeNull();
    expect(improving.known?.improvements[0]?.promoted).toBe(false);
  });

  test.each([true, false])(
    'one that fails before its first record: it leaves one afterwards: %s',
    async (leaves) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const failedOne = { id: 'i', state: 'failed', error: 'zhenjin: too few' };
      let looks = 0;
      const { client: fake } = fakeServer({
        'POST /api/improvements': () => ({ id: 'i' }),
        'GET /api/improvements': () => ({
          running: null,
          promotions: [],
          improvements: leaves && ++looks > 3 ? [failedOne] : [],
        }),
        'GET /api/feedback/statistics': () => ({}),
      });
      const improving = new Improving(fake);
      await improving.start({});
      const watching = new AbortController();
      const failed = vi.fn();
      const watched = improving.watch(watching.signal, failed);
      while (improving.running) await vi.advanceTimersByTimeAsync(2000);
      watching.abort();
      await watched;
      vi.useRealTimers();
      expect(improving.known?.improvements).toEqual(leaves ? [failedOne] : []);
      // Nothing at all is told as well, after a minute.
      expect(failed).toHaveBeenCalledTimes(leaves ? 0 : 1);
    },
  );

  // Regression: what had been rolled back in another window was offered here again and again.
  test('whatever is refused, the lists are read again', async () => {
    let reads = 0;
    const refusal = () => {
      const error = { message: 'no', type: 'invalid_request_error', param: null, code: 'nothing_earlier' };
      return Response.json({ error }, { status: 409 });
    };
    const { client: fake } = fakeServer({
      'GET /api/improvements': () => ({ running: null, promotions: [], improvements: [{ id: ++reads }] }),
      'POST /api/': refusal,
      'DELETE /api/': refusal,
    });
    const improving = new Improving(fake);
    const changes = [
      () => improving.start({}),
      () => improving.cancel('i'),
      () => improving.promote('i'),
      () => improving.rollBack('m'),
    ];
    for (const [before, change] of changes.entries()) {
      await expect(change()).rejects.toMatchObject({ code: 'nothing_earlier' });
      expect(improving.known?.improvements).toEqual([{ id: before + 1 }]);
    }
  });

  // Regression: "That was not done" was said of what was done, where only the list could not be read after it.
  test('what is done is done, also when the lists cannot be read after it', async () => {
    const { client: fake } = fakeServer({
      'GET /api/improvements': () => Response.json(null, { status: 500 }),
      'POST /api/improvements': () => ({ id: 'i' }),
      'POST /api/improvements/i/discard': () => new Response(null, { status: 204 }),
      'DELETE /api/improvements/i': () => new Response(null, { status: 204 }),
    });
    const failed = vi.fn();
    const improving = new Improving(fake, failed);
    await improving.start({});
    expect(improving.running?.id).toBe('i');
    await improving.cancel('i');
    await improving.discard('i');
    expect(failed).toHaveBeenCalledTimes(3);
    expect(failed).toHaveBeenLastCalledWith(expect.any(ApiError));
  });

  // Regression: what others promoted and judged was not seen before the window was opened anew.
  test('what is promoted and judged elsewhere is seen while none runs', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let judgements = 0;
    const { client: fake, calls } = fakeServer({
      'GET /api/improvements': () => ({
        running: null,
        promotions: judgements === 0 ? [] : [{ model: 'm' }],
        improvements: [],
      }),
      'GET /api/feedback/statistics': () => ({ all: { judgements } }),
    });
    const improving = new Improving(fake);
    await improving.lookAround();
    const { known, statistics } = improving;
    const watching = new AbortController();
    const failed = vi.fn();
    const watched = improving.watch(watching.signal, failed);
    while (calls.length < 6) await vi.advanceTimersByTimeAsync(2000);
    // The same again is no news, for which the preview would be asked again.
    expect(improving.known).toBe(known);
    expect(improving.statistics).toBe(statistics);
    judgements = 1;
    while (improving.news === 0) await vi.advanceTimersByTimeAsync(2000);
    expect(improving.known?.promotions).toEqual([{ model: 'm' }]);
    watching.abort();
    await watched;
    vi.useRealTimers();
    expect(failed).not.toHaveBeenCalled();
  });

  test('a second one is refused while one runs, and the running one is cancelled', async () => {
    const improving = new Improving(client());
    await improving.start({});
    await expect(improving.start({})).rejects.toThrow(ApiError);
    await improving.cancel(improving.running!.id);
    expect(improving.running).toBeNull();
  });
});
