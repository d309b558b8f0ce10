import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Chats, groupByPeriod, periodOf } from '$lib/state/chats.svelte';
import { Connection } from '$lib/state/connection.svelte';
import { ContextMeter } from '$lib/state/context.svelte';
import { converses, isSmolLm, maySpeak, Models, POEM_TITLES, smallestFor } from '$lib/state/models.svelte';
import { Preferences } from '$lib/state/preferences.svelte';
import { chatAddress, parseRoute } from '$lib/state/router.svelte';
import { Search } from '$lib/state/search.svelte';
import { Session } from '$lib/state/session.svelte';
import { Toasts } from '$lib/state/toasts.svelte';
import { isModelGone, NetworkError } from '$lib/api/errors';
import type { ModelInfo, SamplingSettings } from '$lib/api/types';
import { catalogues } from '$lib/i18n/i18n.svelte';
import { FOR_NEW_CHATS, isChanged, MODEL_DEFAULTS, parseSetting, settingFields } from '$lib/settings';
import { isComposing, sendsMessage } from '$lib/util/keyboard';
import { conversation, fakeServer, sse } from './fakes';

beforeEach(() => {
  localStorage.clear();
  vi.useFakeTimers();
  return () => vi.useRealTimers();
});

describe('the list of chats', () => {
  test('is grouped by calendar days of the reader', () => {
    const now = new Date(2026, 5, 15, 0, 30);
    const at = (day: number, hour: number) => new Date(2026, 5, day, hour);
    expect(periodOf(at(15, 0), now)).toBe('today');
    expect(periodOf(at(14, 23), now)).toBe('yesterday');
    expect(periodOf(at(8, 1), now)).toBe('lastWeek');
    expect(periodOf(new Date(2026, 4, 20), now)).toBe('lastMonth');
    expect(periodOf(new Date(2025, 5, 15), now)).toBe('older');
    const chats = [
      conversation({ id: 'a', updated_at: at(15, 0).getTime() }),
      conversation({ id: 'b', updated_at: 0 }),
    ];
    expect(groupByPeriod(chats, now).map(([period]) => period)).toEqual(['today', 'older']);
  });

  test('deletes and brings back', async () => {
    let list = [conversation({ id: 'a' }), conversation({ id: 'b' })];
    const { client } = fakeServer({
      'GET /api/conversations': () => list,
      'DELETE /api/conversations/a': () => {
        list = list.slice(1);
        return new Response(null, { status: 204 });
      },
      'POST /api/conversations/a/restore': () => {
        list = [conversation({ id: 'a' }), ...list];
        return new Response(null, { status: 204 });
      },
    });
    const chats = new Chats(client);
    await chats.refresh();
    await chats.delete('a');
    expect(chats.list.map(({ id }) => id)).toEqual(['b']);
    await chats.restore('a');
    expect(chats.list.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  // Regression: "That was not done" was said of a chat that was back.
  test('brings back, also when the list cannot be read after that', async () => {
    const { client } = fakeServer({
      'GET /api/conversations': () => Response.json(null, { status: 500 }),
      'POST /api/conversations/a/restore': () => new Response(null, { status: 204 }),
    });
    const failed = vi.fn();
    await new Chats(client, failed).restore('a');
    expect(failed).toHaveBeenCalledOnce();
  });

  test('asks for older chats after the last one', async () => {
    const page = (from: number) =>
      Array.from({ length: 40 }, (_, index) => conversation({ id: `${from + index}` }));
    const { client, calls } = fakeServer({
      'GET /api/conversations': ({ path }) => page(path.includes('before') ? 39 : 0),
    });
    const chats = new Chats(client);
    await chats.refresh();
    await chats.loadMore();
    expect(calls.at(-1)?.path).toContain('before=39');
    expect(new Set(chats.list.map(({ id }) => id)).size).toBe(79);
  });
});

test('preferences of two tabs do not undo each other', () => {
  const first = new Preferences();
  const second = new Preferences();
  first.update({ theme: 'dark' });
  second.update({ locale: 'zh', sidebarOpen: false });
  expect(new Preferences().theme).toBe('dark');
  window.dispatchEvent(new StorageEvent('storage', { key: 'zhenjin.preferences' }));
  expect([first.locale, first.sidebarOpen, second.theme]).toEqual(['zh', true, 'dark']);
});

function model(fields: Partial<ModelInfo> & { name: string }): ModelInfo {
  return {
    title: fields.name, source: 'catalogue', installed: false, removable: false, served: false, loaded: false, size_bytes: 1, least_memory_bytes: 1, planned_memory_bytes: null, promoted: null,
    fits: true, languages: ['en'], licence: null, good_for: null, context_length: null, pull: null, ...fields,
  }; // prettier-ignore
}

describe('models', () => {
  test('the carried poet is not suggested to whoever wants to talk in Chinese', () => {
    const poet = model({ name: 'poet', languages: ['zh'], size_bytes: 1, installed: true });
    const talker = model({ name: 'talker', languages: ['en', 'zh'], size_bytes: 9 });
    expect(smallestFor([poet, talker], 'zh')?.name).toBe('talker');
    expect(smallestFor([poet], 'zh')).toBeNull();
    // Nor are questions to it, whatever it answers with.
    const names = ['poet', 'poet+base', 'poet+mine', 'talker', 'talker+poet'];
    expect(names.filter((name) => !converses(model({ name })))).toEqual(['poet', 'poet+base', 'poet+mine']);
    for (const { welcome } of Object.values(catalogues))
      expect(welcome.poems).toHaveLength(POEM_TITLES.length);
  });

  test('the smallest that speaks a language and fits is suggested', () => {
    const list = [
      model({ name: 'big', languages: ['zh', 'en'], size_bytes: 9 }),
      model({ name: 'huge', languages: ['zh'], size_bytes: 1, fits: false }),
      model({ name: 'small', languages: ['zh-CN'], size_bytes: 3 }),
      model({ name: 'english', size_bytes: 1 }),
    ];
    expect(smallestFor(list, 'zh')?.name).toBe('small');
    expect(smallestFor([], 'zh')).toBeNull();
  });

  test('what a model speaks is known from the catalogue, or from its name', () => {
    const smol = model({ name: '/models/SmolLM2-135M.gguf', title: 'SmolLM2-135M.gguf', languages: [] });
    const unknown = model({ name: './other.gguf', title: 'other.gguf', languages: [] });
    expect([isSmolLm(smol), maySpeak(smol, 'zh')]).toEqual([true, false]);
    expect([isSmolLm(unknown), maySpeak(unknown, 'zh')]).toEqual([false, true]);
    expect(maySpeak(model({ name: 'a', languages: ['zh', 'en'] }), 'zh')).toBe(true);
  });

  test('a download is followed through a broken connection to its end, and told once', async () => {
    const installed = { value: false };
    const pull = (state: string, done_bytes: number) =>
      sse('pull', { name: 'a', state, source: 'hub', done_bytes, total_bytes: 10, error: null });
    let attempt = 0;
    const { client } = fakeServer({
      'GET /api/models': () => [
        model({
          name: 'a',
          installed: installed.value,
          pull: installed.value
            ? null
            : { state: 'running', source: null, done_bytes: 1, total_bytes: 10, error: null },
        }),
      ],
      'POST /api/models/a/pull': () => new Response(null, { status: 202 }),
      'GET /api/models/events': () => {
        if (attempt++ === 0) return new Response(pull('running', 4));
        // Regression: a server whose streams were all taken made the page give up.
        if (attempt === 2) return Response.json({ error: { message: 'later' } }, { status: 429 });
        installed.value = true;
        return new Response(pull('running', 8) + pull('done', 10));
      },
    });
    const finished = vi.fn();
    const models = new Models(client, finished);
    await models.refresh();
    await models.pull('a');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(finished).toHaveBeenCalledOnce();
    expect(models.find('a')?.installed).toBe(true);
  });

  test('a model that is not here is never chosen', () => {
    const models = new Models(fakeServer({}).client);
    models.list = [model({ name: 'away' }), model({ name: 'here', installed: true })];
    expect(models.choose('away', 'away')?.name).toBe('here');
  });
});

test('of two searches the last one counts, whatever order the answers arrive in', async () => {
  const answers: ((response: Response) => void)[] = [];
  const { client } = fakeServer({
    'GET /api/search': () => new Promise<Response>((answer) => answers.push(answer)),
  });
  const search = new Search(client);
  const hit = (title: string) => Response.json([{ conversation_id: 'c', message_id: null, title, snippet: '', ranges: [], created_at: 0 }]); // prettier-ignore
  search.ask('one');
  await vi.advanceTimersByTimeAsync(200);
  search.ask('two');
  await vi.advanceTimersByTimeAsync(200);
  answers[1]?.(hit('two'));
  await vi.advanceTimersByTimeAsync(1);
  answers[0]?.(hit('one'));
  await vi.advanceTimersByTimeAsync(1);
  expect(search.hits.map(({ title }) => title)).toEqual(['two']);
});

test('a lost connection is tried again until it is back', async () => {
  let up = false;
  const { client, calls } = fakeServer({
    'GET /api/status': () => (up ? {} : Promise.reject(new TypeError('offline'))),
  });
  const connection = new Connection(client);
  const restored = vi.fn();
  connection.onRestored(restored);
  connection.noticed(new NetworkError('x'));
  await vi.advanceTimersByTimeAsync(30_000);
  expect(connection.lost).toBe(true);
  expect(calls.length).toBeGreaterThan(3);
  expect(calls.length).toBeLessThan(12);
  up = true;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(connection.lost).toBe(false);
  expect(restored).toHaveBeenCalledOnce();
});

// Regression: only its own next attempt ended the wait, up to ten seconds after other requests went through.
test('a connection is there again as soon as anything has reached the server', async () => {
  const { client, calls } = fakeServer({ 'GET /api/status': () => Promise.reject(new TypeError('offline')) });
  const connection = new Connection(client);
  const restored = vi.fn();
  connection.onRestored(restored);
  connection.reached();
  expect(restored).not.toHaveBeenCalled();
  connection.noticed(new NetworkError('x'));
  await vi.advanceTimersByTimeAsync(5_000);
  const asked = calls.length;
  connection.reached();
  expect(connection.lost).toBe(false);
  expect(restored).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(calls).toHaveLength(asked);
});

test('a server that needs a key opens only with the right one', async () => {
  let open = false;
  const { client } = fakeServer({
    'GET /api/status': () => ({ needs_key: true }),
    'GET /api/conversations': () =>
      open ? [] : Response.json({ error: { message: 'key' } }, { status: 401 }),
    'POST /api/login': ({ body }) => {
      open = (body as { key: string }).key === 'right';
      return open
        ? new Response(null, { status: 204 })
        : Response.json({ error: { message: 'no' } }, { status: 401 });
    },
  });
  const session = new Session(client);
  await session.start();
  expect(session.phase).toBe('locked');
  expect(await session.login('wrong')).toBe(false);
  expect(await session.login('right')).toBe(true);
  expect(session.phase).toBe('open');
});

test('preferences survive a reload, and damaged ones are forgotten', () => {
  new Preferences().update({ theme: 'dark', locale: 'zh' });
  expect(document.documentElement.dataset.theme).toBe('dark');
  expect(new Preferences().theme).toBe('dark');
  expect(document.documentElement.lang).toBe('zh-CN');
  localStorage.setItem('zhenjin.preferences', '{"theme"');
  expect(new Preferences().theme).toBe('system');
});

// Regression: a browser that had saved anything before new chats had a longest answer never gave them one.
test('preferences of an earlier version are given the longest answer, once', () => {
  const keep = (settings: object) =>
    localStorage.setItem('zhenjin.preferences', JSON.stringify({ theme: 'dark', settings }));
  keep({});
  expect(new Preferences().settings).toEqual(FOR_NEW_CHATS);
  keep({ temperature: 0.5, max_tokens: 100 });
  expect(new Preferences().settings).toEqual({ temperature: 0.5, max_tokens: 100 });
  keep({ temperature: 0.5 });
  const preferences = new Preferences();
  preferences.update({ theme: 'system' });
  expect(new Preferences().settings).toEqual({ ...FOR_NEW_CHATS, temperature: 0.5 });
  // Taken away on purpose.
  preferences.update({ settings: {} });
  preferences.update({ sidebarOpen: true });
  expect(new Preferences().settings).toEqual({});
});

test('a chat is set otherwise where anything but the usual longest answer is set', () => {
  const usual: Partial<SamplingSettings>[] = [
    {},
    MODEL_DEFAULTS,
    FOR_NEW_CHATS,
    { ...MODEL_DEFAULTS, ...FOR_NEW_CHATS },
  ];
  expect(usual.map((settings) => isChanged(settings))).toEqual(usual.map(() => false));
  const others: Partial<SamplingSettings>[] = [
    { max_tokens: 100 },
    { ...FOR_NEW_CHATS, seed: 0 },
    { repetition_detection: false },
  ];
  expect(others.map((settings) => isChanged(settings))).toEqual(others.map(() => true));
});

test('notices go by themselves, unless somebody points at them', async () => {
  const toasts = new Toasts();
  toasts.show('info', 'a');
  toasts.show('info', 'b');
  toasts.pause(toasts.list[0]!.id);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(toasts.list.map(({ text }) => text)).toEqual(['a']);
});

// Regression: a timer that had been started twice could not be stopped any more.
test('notices that nobody points at any more go once, and stay while somebody points at them again', async () => {
  const toasts = new Toasts();
  toasts.show('info', 'a');
  const { id } = toasts.list[0]!;
  toasts.resume(id);
  toasts.pause(id);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(toasts.list).toHaveLength(1);
  toasts.resume(id);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(toasts.list).toEqual([]);
});

// Regression: "… is in the trash · Undo" stayed after the chat was back.
test('notices go when what they offer is done, and others stay', () => {
  const toasts = new Toasts();
  const action = { label: 'Undo', run: () => undefined };
  toasts.show('info', 'a was deleted', action, 'a');
  toasts.show('info', 'b was deleted', action, 'b');
  toasts.show('info', 'c');
  toasts.settle('a');
  expect(toasts.list.map(({ text }) => text)).toEqual(['b was deleted', 'c']);
  toasts.clear();
});

test('addresses name chats and messages', () => {
  for (const [conversation, message] of [
    ['a/b', null],
    ['01ABC', '金 x'],
    [null, null],
  ] as const) {
    expect(parseRoute(chatAddress(conversation, message))).toEqual({ conversation, message });
  }
  expect(parseRoute('#/c/%E0%A4%A')).toEqual({ conversation: null, message: null });
  expect(parseRoute('#anything')).toEqual({ conversation: null, message: null });
});

test('settings outside their range are refused, an empty one is the default', () => {
  const field = (name: string) => settingFields.find((one) => one.name === name)!;
  expect(parseSetting(field('temperature'), '0')).toBe(0);
  expect(parseSetting(field('temperature'), '2.1')).toBe('range');
  expect(parseSetting(field('temperature'), '0,5')).toBe(0.5);
  expect(parseSetting(field('temperature'), '０．５')).toBe(0.5);
  expect(parseSetting(field('temperature'), '1.')).toBe(1);
  expect(parseSetting(field('temperature'), '1e999')).toBe('number');
  expect(parseSetting(field('top_k'), '1.5')).toBe('whole');
  expect(parseSetting(field('max_tokens'), ' ')).toBeNull();
  expect(parseSetting(field('seed'), 'x')).toBe('number');
});

test('Enter during composition never sends', () => {
  const key = (options: KeyboardEventInit & { keyCode?: number }) =>
    new KeyboardEvent('keydown', { key: 'Enter', ...options });
  expect(sendsMessage(key({}))).toBe(true);
  expect(sendsMessage(key({ isComposing: true }))).toBe(false);
  // Safari ends the composition before it reports the Enter that ended it.
  expect(sendsMessage(key({ keyCode: 229 }))).toBe(false);
  expect(isComposing(key({ keyCode: 229 }))).toBe(true);
  expect(sendsMessage(key({ shiftKey: true }))).toBe(false);
});

// Regression: a message that no chat could take was said not to fit into "this chat", with an earlier question to edit.
test('a message that is too long by itself is told from a chat that is full', async () => {
  const { client } = fakeServer({
    'POST /api/context': ({ body }) => {
      const { conversation_id, content } = body as { conversation_id?: string; content: string };
      return { prompt_tokens: content.length + (conversation_id ? 60 : 0), context_length: 100 };
    },
  });
  const meter = new ContextMeter(client);
  const measured = async (length: number, conversation_id?: string) => {
    meter.measure({ content: 'x'.repeat(length), ...(conversation_id && { conversation_id }) });
    await vi.advanceTimersByTimeAsync(1000);
    return [meter.full, meter.fitsAlone, meter.tooLongAlone];
  };
  expect(await measured(10, 'c')).toEqual([false, false, false]);
  expect(await measured(50, 'c')).toEqual([true, true, false]);
  expect(await measured(200, 'c')).toEqual([true, false, true]);
  expect(await measured(200)).toEqual([true, false, true]);
  expect(await measured(10)).toEqual([false, false, false]);
});

// Regression: an adapter that was removed elsewhere was offered until a message to it was refused.
test('a model that is gone is told while the message is written', async () => {
  const gone = { error: { message: 'not served here', code: 'model_not_found' } };
  const { client } = fakeServer({ 'POST /api/context': () => Response.json(gone, { status: 404 }) });
  const failed = vi.fn();
  const meter = new ContextMeter(client, failed);
  meter.measure({ content: 'hi', model: 'm+a' });
  await vi.advanceTimersByTimeAsync(1000);
  // Once, as whoever is told measures again.
  meter.measure({ content: 'hi', model: 'm+a' });
  await vi.advanceTimersByTimeAsync(1000);
  expect(failed.mock.calls.map(([error]) => isModelGone(error))).toEqual([true]);
  expect(meter.use).toBeNull();
});
