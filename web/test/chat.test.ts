import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Chat } from '$lib/state/chat.svelte';
import { Composer } from '$lib/state/composer.svelte';
import { readDraft } from '$lib/state/drafts';
import type { Message } from '$lib/api/types';
import { brokenStream, conversation, fakeServer, message, type Call } from './fakes';

const events = { changed: vi.fn(), asked: vi.fn(), finished: vi.fn(), judged: vi.fn(), failed: vi.fn() };

/** A server that keeps one conversation, and whose answers are a fixed text. */
function setUp(
  options: { answerText?: string; pieces?: number; refuse?: () => Response | Promise<Response> | null } = {},
) {
  const messages = new Map<string, Message>();
  const text = options.answerText ?? 'true gold 真金';
  let next = 1;
  const add = (
    parent_id: string | null,
    role: Message['role'],
    content: string,
    status: Message['status'],
  ) => {
    const made = message({ id: `m${next}`, parent_id, role, content, status, created_at: next++ });
    messages.set(made.id, made);
    return made;
  };
  const grow = (parent: string) => add(parent, 'assistant', '', 'generating');
  const server = fakeServer({
    'POST /api/questions': ({ body }: Call) => {
      const refusal = options.refuse?.();
      if (refusal) return refusal;
      const user = add(null, 'user', (body as { content: string }).content, 'complete');
      return { conversation: conversation(), user, answer: grow(user.id) };
    },
    'POST /api/conversations/c/messages': ({ body }: Call) => {
      const refusal = options.refuse?.();
      if (refusal) return refusal;
      const { parent_id, content } = body as { parent_id: string | null; content: string };
      const user = add(parent_id, 'user', content, 'complete');
      return { user, answer: grow(user.id) };
    },
    'POST /api/messages/': ({ path }) => {
      const [, , , id = '', action] = path.split('/');
      const one = messages.get(id)!;
      if (action === 'regenerate') return { answer: grow(one.parent_id!) };
      const stopped = { ...one, status: 'stopped' as const, content: 'true' };
      messages.set(id, stopped);
      return stopped;
    },
    'GET /api/messages/': ({ path }) => {
      const id = path.split('/')[3]!;
      const finished = { ...messages.get(id)!, content: text, status: 'complete' as const };
      messages.set(id, finished);
      return brokenStream(finished, path, options.pieces ?? 3);
    },
    'GET /api/conversations/c': () => ({ ...conversation(), messages: [...messages.values()], choices: [] }),
    'PATCH /api/conversations/c': ({ body }) => ({ ...conversation(), ...(body as object) }),
  });
  const chat = new Chat(server.client, events, () => ({ model: 'm' }));
  const settle = () => vi.advanceTimersByTimeAsync(60_000);
  return { chat, messages, settle, text, add, ...server };
}

beforeEach(() => {
  localStorage.clear();
  vi.useFakeTimers();
  vi.clearAllMocks();
  return () => vi.useRealTimers();
});

describe('a chat', () => {
  test('begins with its first message and shows the whole answer', async () => {
    const { chat, settle, text, calls } = setUp();
    await chat.ask('Hello');
    expect(calls[0]).toMatchObject({
      method: 'POST',
      path: '/api/questions',
      body: { model: 'm', content: 'Hello' },
    });
    expect(chat.growing).not.toBeNull();
    await settle();
    expect(chat.path.map(({ content, status }) => [content, status])).toEqual([
      ['Hello', 'complete'],
      [text, 'complete'],
    ]);
    expect(events.finished).toHaveBeenCalledOnce();
  });

  test('keeps every version of an edited question and of its answers', async () => {
    const { chat, settle, text } = setUp();
    await chat.ask('first');
    await settle();
    const [question, answer] = chat.path as [Message, Message];
    await chat.regenerate(answer);
    await settle();
    expect(chat.siblings(chat.last!)).toHaveLength(2);
    await chat.edit(question, 'second');
    await settle();
    expect(chat.path.map(({ content }) => content)).toEqual(['second', text]);
    expect(chat.siblings(chat.path[0]!).map(({ content }) => content)).toEqual(['first', 'second']);
    await chat.show(question);
    expect(chat.path[0]?.content).toBe('first');
    expect(Object.keys(chat.messages)).toHaveLength(5);
  });

  test('goes on with an answer that was growing when the page opened', async () => {
    const { chat, settle, text, add } = setUp();
    const question = add(null, 'user', 'q', 'complete');
    add(question.id, 'assistant', 'true ', 'generating');
    await chat.open('c');
    expect(chat.growing?.content).toBe('true ');
    await settle();
    expect(chat.last).toMatchObject({ content: text, status: 'complete' });
  });

  // Regression: given up while the window was hidden, an answer was followed again only if the chat could be read again.
  test('goes on with an answer from where it stands when its answers are followed again', async () => {
    const { chat, settle, text } = setUp();
    await chat.ask('q');
    chat.unfollowAll();
    await settle();
    expect(chat.growing).not.toBeNull();
    chat.followAll();
    chat.followAll();
    await settle();
    expect(chat.last).toMatchObject({ content: text, status: 'complete' });
    expect(events.finished).toHaveBeenCalledOnce();
  });

  test('stops an answer and shows no more of it', async () => {
    const { chat, settle } = setUp({ pieces: 0 });
    await chat.ask('q');
    await chat.stop();
    await settle();
    expect(chat.last).toMatchObject({ content: 'true', status: 'stopped' });
  });

  test('stays on the branch that its reader looks at, and shows how that goes on, when another tab turns elsewhere', async () => {
    const { chat, settle, text, add, messages } = setUp();
    await chat.ask('first');
    await settle();
    const shown = chat.last!;
    const other = add(shown.parent_id, 'assistant', 'another', 'complete');
    await chat.reload();
    expect(chat.last?.id).toBe(shown.id);
    expect(chat.siblings(shown)).toHaveLength(2);
    const next = add(shown.id, 'user', 'asked elsewhere', 'complete');
    add(next.id, 'assistant', text, 'complete');
    add(other.id, 'user', 'on the other branch', 'complete');
    await chat.reload();
    expect(chat.path.map(({ content }) => content)).toEqual(['first', text, 'asked elsewhere', text]);
    expect(messages.size).toBe(6);
  });

  test('keeps what was added while the server was reading the list out', async () => {
    const { chat, settle } = setUp();
    await chat.ask('first');
    await settle();
    const reloading = chat.reload();
    const asking = chat.ask('second');
    await Promise.all([reloading, asking]);
    await settle();
    expect(chat.path.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
  });

  test('left for another chat does not come back when its answer arrives', async () => {
    const { chat, settle } = setUp();
    const asking = chat.ask('q');
    chat.startNew();
    await asking;
    await settle();
    expect(chat.path).toEqual([]);
    expect(chat.conversation).toBeNull();
  });
});

describe('the message being written', () => {
  test('is forgotten only when the server has it', async () => {
    const { chat, settle } = setUp();
    const composer = new Composer(chat, events.failed);
    composer.write('  Hello\n');
    const sending = composer.send();
    expect(readDraft(null)).toBe('  Hello\n');
    await sending;
    await settle();
    expect(composer.text).toBe('');
    expect(readDraft(null)).toBe('');
    expect(chat.path[0]?.content).toBe('  Hello');
  });

  test('comes back when the server refuses it, with the reason', async () => {
    const refusal = { error: { message: 'too long', code: 'context_length_exceeded' } };
    const { chat } = setUp({ refuse: () => Response.json(refusal, { status: 400 }) });
    const composer = new Composer(chat, events.failed);
    composer.write('Hello');
    await composer.send();
    expect(composer.text).toBe('Hello');
    expect(composer.refusal).toMatchObject({ code: 'context_length_exceeded', message: 'too long' });
    composer.write('Hi');
    expect(composer.refusal).toBeNull();
  });

  test('comes back when the network is lost', async () => {
    const { chat } = setUp({ refuse: () => Promise.reject(new TypeError('offline')) });
    const composer = new Composer(chat, events.failed);
    composer.write('Hello');
    await composer.send();
    expect(composer.text).toBe('Hello');
    expect(events.failed).toHaveBeenCalledOnce();
  });

  test('written while another one was on its way is the newest draft', async () => {
    let answer: () => void = () => undefined;
    const { chat, settle } = setUp({
      refuse: () =>
        new Promise<Response>(
          (resolve) =>
            (answer = () => resolve(Response.json({ error: { message: 'no', code: 'x' } }, { status: 400 }))),
        ),
    });
    await chat.open('c');
    const composer = new Composer(chat, events.failed, 'c');
    composer.write('first');
    const sending = composer.send();
    expect(readDraft('c')).toBe('first');
    composer.write('second');
    expect(readDraft('c')).toBe('second');
    await settle();
    answer();
    await sending;
    expect(composer.text).toBe('first\nsecond');
    expect(readDraft('c')).toBe('first\nsecond');
  });

  test('that the browser does not keep is said, and no older one comes back', () => {
    const composer = new Composer(setUp().chat, events.failed);
    composer.write('old');
    const full = vi.spyOn(Storage.prototype, 'setItem').mockImplementation(() => {
      throw new DOMException('full', 'QuotaExceededError');
    });
    composer.write('new');
    expect(composer.unkept).toBe(true);
    expect(readDraft(null)).toBe('');
    full.mockRestore();
    composer.write('newer');
    expect(composer.unkept).toBe(false);
    expect(readDraft(null)).toBe('newer');
  });

  test('is kept for each chat', () => {
    const composer = new Composer(setUp().chat, events.failed);
    composer.write('new');
    composer.open('a');
    composer.write('for a');
    composer.open(null);
    expect(composer.text).toBe('new');
    composer.open('a');
    expect(composer.text).toBe('for a');
  });
});
