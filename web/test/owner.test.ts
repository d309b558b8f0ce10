// Two people at one browser: what the one leaves there is not the other's.
import { flushSync, mount, unmount } from 'svelte';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError, NetworkError } from '$lib/api/errors';
import type { Conversation, ServerStatus } from '$lib/api/types';
import { announcer, api, beginning, cameOrWent, chat, chats, composer, enterIfLetIn, followRoute, refreshChats, report, router, session, toasts } from '$lib/app.svelte'; // prettier-ignore
import { catalogues } from '$lib/i18n/i18n.svelte';
import { saveDraft } from '$lib/state/drafts';
import { forgetOwner, isOwnerDoubted, rememberOwner } from '$lib/state/owner';
import { keepPair } from '$lib/state/pair';
import { Preferences } from '$lib/state/preferences.svelte';
import { Session } from '$lib/state/session.svelte';
import { names, stopKeeping } from '$lib/util/storage';
import { conversation, fakeServer, message } from './fakes';
import { FOR_NEW_CHATS } from '$lib/settings';
import LoginPage from '../src/components/LoginPage.svelte';

const mine = [conversation({ id: 'anna1' }), conversation({ id: 'anna2' })];
const others = [conversation({ id: 'ben1' })];
const gone = () => Response.json({ error: { message: 'a key is needed' } }, { status: 401 });

beforeEach(() => {
  localStorage.clear();
  return () => {
    stopKeeping(false);
    localStorage.clear();
    vi.restoreAllMocks();
  };
});

describe('a session', () => {
  /** A server with keys, and whose chats it lists; null: nobody is logged in. */
  function setUp(start: Conversation[] | null) {
    let list = start;
    let next: Conversation[] = [];
    const { client } = fakeServer({
      'GET /api/status': () => ({ needs_key: true }),
      'GET /api/conversations': () => list ?? gone(),
      'POST /api/login': () => ((list = next), new Response(null, { status: 204 })),
      'POST /api/logout': () => ((list = null), new Response(null, { status: 204 })),
    });
    const events = { locked: vi.fn(), left: vi.fn() };
    const made = new Session(client, events);
    const ends = () => ((list = null), made.noticed(new ApiError(401, 'the session has expired')));
    const login = (chatsOf: Conversation[], key = 'a key') => ((next = chatsOf), made.login(key));
    return { session: made, events, ends, login };
  }

  test('ends with all that was written when the person logs out', async () => {
    const { session, events } = setUp(mine);
    await session.start();
    await session.logout();
    expect(events.left).toHaveBeenCalledOnce();
    expect(session.phase).toBe('leaving');
    // What is refused meanwhile does not show the login page before the page is loaded anew.
    session.noticed(new ApiError(401, 'a key is needed'));
    await session.start();
    expect(session.phase).toBe('leaving');
  });

  test('that ends by itself is taken up by the same person, who finds all words', async () => {
    const { session, events, ends, login } = setUp(mine);
    await session.start();
    rememberOwner(mine);
    saveDraft(null, 'half a thought');
    ends();
    expect(events.locked).toHaveBeenCalledOnce();
    expect(await login([conversation({ id: 'from another device' }), ...mine])).toBe(true);
    expect(session.phase).toBe('open');
    expect(events.left).not.toHaveBeenCalled();
    expect(names()).toContain('draft.new');
    expect(isOwnerDoubted()).toBe(false);
  });

  test('that ends by itself is not taken up by somebody else', async () => {
    const { session, events, ends, login } = setUp(mine);
    await session.start();
    rememberOwner(mine);
    saveDraft(null, 'half a thought');
    ends();
    expect(await login(others)).toBe(true);
    expect(session.phase).toBe('leaving');
    expect(events.left).toHaveBeenCalledOnce();
    expect(names()).toEqual([]);
  });

  test('of somebody without chats is known again by the key, and by no other', async () => {
    const { session, events, ends, login } = setUp(null);
    await session.start();
    await login([]);
    saveDraft(null, 'half a thought');
    expect(JSON.stringify(localStorage)).not.toContain('a key');
    ends();
    await login([]);
    expect([session.phase, events.left.mock.calls]).toEqual(['open', []]);
    expect(names()).toContain('draft.new');
    ends();
    await login([], 'another key');
    expect([session.phase, names()]).toEqual(['leaving', []]);
  });

  test('of somebody else begins anew also where the page was loaded in between', async () => {
    rememberOwner(mine);
    saveDraft('anna1', 'half a thought');
    const first = setUp(null);
    await first.session.start();
    expect(first.session.phase).toBe('locked');
    await first.login(others);
    expect([first.session.phase, names()]).toEqual(['leaving', []]);
  });

  test('is settled at the next start when the page was closed during the login', async () => {
    rememberOwner(mine);
    saveDraft(null, 'half a thought');
    localStorage.setItem('zhenjin.owner.doubted', 'true');
    const { session, events } = setUp(others);
    await session.start();
    expect(events.left).toHaveBeenCalledOnce();
    expect(names()).toEqual([]);
  });

  test('goes on over a reload without asking who it is', async () => {
    saveDraft(null, 'half a thought');
    const { session, events } = setUp([]);
    await session.start();
    expect([session.phase, events.left.mock.calls, names()]).toEqual(['open', [], ['draft.new']]);
  });

  test('begins at once where nobody was before', async () => {
    const { session, events, login } = setUp(null);
    await session.start();
    expect(await login(others)).toBe(true);
    expect([session.phase, events.left.mock.calls]).toEqual(['open', []]);
  });
});

test('who leaves takes along everything but looks and language', () => {
  const own = { model: 'm', systemPrompt: 'Be Anna.', settings: { seed: 1 }, twoAnswers: true };
  new Preferences().update({ theme: 'dark', locale: 'zh', ...own });
  saveDraft('c', 'half a thought');
  saveDraft(null, 'a whole one');
  keepPair('c', ['a', 'b']);
  localStorage.setItem('zhenjin.judgement.a', '{}');
  rememberOwner(mine);
  // Another server behind the same proxy.
  localStorage.setItem('zhenjin/apps/gold/draft.new', '"elsewhere"');
  expect(forgetOwner()).toBe(true);
  expect(names()).toEqual(['preferences']);
  const { theme, locale, model, systemPrompt, settings, twoAnswers } = new Preferences();
  expect({ theme, locale }).toEqual({ theme: 'dark', locale: 'zh' });
  expect([model, systemPrompt, settings, twoAnswers]).toEqual([null, '', FOR_NEW_CHATS, false]);
  expect(localStorage.getItem('zhenjin/apps/gold/draft.new')).toBe('"elsewhere"');
  expect(forgetOwner()).toBe(false);
  new Preferences().update({ theme: 'light', locale: 'auto' });
});

// Regression: after logging out and in again in one window, the others stayed on the page that asks for a key.
describe('a window in which nobody is logged in', () => {
  function setUp() {
    let isIn = false;
    const { client, calls } = fakeServer({
      'GET /api/status': () => ({ needs_key: true }),
      'GET /api/conversations': () => (isIn ? mine : gone()),
      'POST /api/login': () => new Response(null, { status: 204 }),
    });
    return { made: new Session(client), calls, letIn: () => (isIn = true) };
  }

  test('learns that somebody was let in in another one, and takes nobody for a stranger by that', async () => {
    const { made, letIn } = setUp();
    await made.start();
    expect([made.phase, made.ended, await made.isLetIn()]).toEqual(['locked', false, false]);
    saveDraft(null, 'half a thought');
    letIn();
    expect(await made.isLetIn()).toBe(true);
    expect(names()).toContain('draft.new');
    expect(made.phase).toBe('locked');
  });

  test('does not look while a key is being tried', async () => {
    const { made, calls, letIn } = setUp();
    await made.start();
    letIn();
    localStorage.setItem('zhenjin.owner.doubted', 'true');
    const before = calls.length;
    expect(await made.isLetIn()).toBe(false);
    expect(calls.length).toBe(before);
  });

  test('begins anew when it is seen, and says that the session has ended where it had one', async () => {
    vi.spyOn(api, 'status').mockResolvedValue({ needs_key: true } as ServerStatus);
    vi.spyOn(api, 'conversations').mockResolvedValue([]);
    vi.spyOn(document, 'hidden', 'get').mockReturnValue(false);
    const reload = vi.spyOn(router, 'reload').mockImplementation(() => undefined);
    session.phase = 'open';
    report(new ApiError(401, 'the key was revoked'));
    expect([session.phase, session.ended]).toEqual(['locked', true]);
    const target = document.createElement('div');
    const page = mount(LoginPage, { target });
    flushSync();
    expect(target.querySelector('[role=status]')?.textContent).toBe(catalogues.en.login.ended);
    await unmount(page);
    cameOrWent();
    await vi.waitFor(() => expect(reload).toHaveBeenCalledOnce());
    session.phase = 'open';
    session.ended = false;
    await enterIfLetIn();
    expect(reload).toHaveBeenCalledOnce();
  });

  // Regression: a window lost what it kept in memory when the same person logged in again in another one.
  test.each([true, false])('goes on where it is the same person: %s', async (isSame) => {
    const status = { needs_key: true, role: 'user', default_model: null } as ServerStatus;
    vi.spyOn(api, 'status').mockResolvedValue(status);
    vi.spyOn(api, 'models').mockResolvedValue([]);
    vi.spyOn(api, 'conversations').mockResolvedValue(mine);
    const reload = vi.spyOn(router, 'reload').mockImplementation(() => undefined);
    session.phase = 'open';
    await refreshChats();
    report(new ApiError(401, 'the key was revoked'));
    expect([session.phase, session.ended]).toEqual(['locked', true]);
    if (!isSame) vi.spyOn(api, 'conversations').mockResolvedValue([conversation({ id: 'of another' })]);
    // Nothing is lost where the server is away again just then.
    vi.spyOn(api, 'status').mockRejectedValueOnce(new NetworkError('offline'));
    await enterIfLetIn();
    expect([session.phase, reload.mock.calls]).toEqual(['locked', []]);
    // Its window is told, and is looked at: once is enough.
    await Promise.all([enterIfLetIn(), enterIfLetIn()]);
    expect(session.phase).toBe(isSame ? 'open' : 'locked');
    expect(reload.mock.calls.length > 0).toBe(!isSame);
    session.phase = 'open';
    session.ended = false;
  });
});

describe('the page', () => {
  beforeEach(() => {
    const status = { needs_key: true, role: 'user', default_model: null } as ServerStatus;
    vi.spyOn(api, 'status').mockResolvedValue(status);
    vi.spyOn(api, 'models').mockResolvedValue([]);
    vi.spyOn(api, 'conversations').mockResolvedValue(mine);
    chat.conversation = mine[0]!;
    chat.messages = { q: message({ id: 'q', content: 'a secret of Anna' }) };
    chat.leaf = 'q';
    session.phase = 'open';
    return () => {
      chat.startNew();
      toasts.clear();
    };
  });

  // The chat, and what was being written, stayed for the next person in the tab.
  test('is loaded anew after "Log out", and keeps nothing that comes late', async () => {
    vi.spyOn(api, 'logout').mockResolvedValue();
    const restart = vi.spyOn(router, 'restart').mockImplementation(() => undefined);
    await refreshChats();
    composer.write('half a thought');
    expect(names()).toEqual(['owner.chats', 'draft.new']);
    await session.logout();
    expect(restart).toHaveBeenCalledOnce();
    expect(chat.path).toEqual([]);
    composer.write('what was on its way is refused');
    await refreshChats();
    expect(names()).toEqual([]);
  });

  test('shows and says nothing of the person when the session has ended by itself, and goes on when they are back', async () => {
    let streams = 0;
    vi.spyOn(api, 'answerEvents').mockImplementation((_, __, signal) => {
      streams++;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          streams--;
          reject(new DOMException('aborted', 'AbortError'));
        });
      });
    });
    const growing = message({ id: 'a', parent_id: 'q', role: 'assistant', status: 'generating' });
    const whole = { ...mine[0]!, messages: [message({ id: 'q' }), growing], choices: [], current_leaf: 'a' };
    vi.spyOn(api, 'conversation').mockResolvedValue(whole);
    vi.spyOn(api, 'login').mockResolvedValue();
    await refreshChats();
    await chat.reload();
    expect(streams).toBe(1);
    toasts.show('info', 'A secret of Anna was deleted');
    announcer.say('a secret of Anna');
    report(new ApiError(401, 'the session has expired'));
    expect([session.phase, streams, toasts.list, announcer.text]).toEqual(['locked', 0, [], '']);
    expect(await session.login('a key')).toBe(true);
    expect(session.phase).toBe('open');
    await chat.reload();
    expect(streams).toBe(1);
    expect(chats.list).toEqual(mine);
  });

  test('keeps how a chat was to begin when it is only shown again, and not for the next chat', async () => {
    router.go(null);
    await followRoute();
    beginning.systemPrompt = 'Be brief.';
    await followRoute();
    expect(beginning.systemPrompt).toBe('Be brief.');
    router.go(null);
    await followRoute();
    expect(beginning.systemPrompt).toBe('');
  });
});
