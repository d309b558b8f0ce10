// While the server is away: what is opened, chosen, judged and pressed then is not lost in silence.
import { flushSync } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError, NetworkError } from '$lib/api/errors';
import type { Choice, ErasedFeedback, Feedback, Judgement as Said, Message, ModelInfo, ServerStatus } from '$lib/api/types'; // prettier-ignore
import { act, announcer, api, chat, choosing, composer, connection, context, followRoute, judging, panels, router, session, toasts } from '$lib/app.svelte'; // prettier-ignore
import { heardAtEnd } from '$lib/ended';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import { handleShortcut } from '$lib/shortcuts';
import ChatHeader from '../src/components/ChatHeader.svelte';
import ChatPage from '../src/components/ChatPage.svelte';
import ComparedAnswers from '../src/components/ComparedAnswers.svelte';
import FeedbackSettings from '../src/components/FeedbackSettings.svelte';
import ModelCard from '../src/components/ModelCard.svelte';
import { conversation, message } from './fakes';
import { hideAll, makeTarget, show, target } from './views';

const away = new NetworkError('offline');
const question = () => message({ id: 'q', content: 'What is gold?' });
const answer = (id: string, fields: Partial<Message> = {}) =>
  message({ id, parent_id: 'q', role: 'assistant', content: `Answer ${id}.`, ...fields });
const whole = (fields: Partial<Message> = {}, choices: Choice[] = []) => ({
  ...conversation({ current_leaf: 'a' }),
  messages: [question(), answer('a', { created_at: 1, ...fields }), answer('b', { created_at: 2 })],
  choices,
});
const feedback = (said: Said): Feedback => ({ created_at: 0, updated_at: 0, ...said });

const button = (name: string) =>
  [...target.querySelectorAll('button')].find((one) => one.textContent?.trim() === name);

async function comesBack() {
  connection.retryNow();
  await vi.waitFor(() => expect(connection.lost).toBe(false));
}

beforeEach(() => {
  localStorage.clear();
  Element.prototype.scrollTo = () => undefined;
  vi.stubGlobal('matchMedia', () => ({ matches: false, addEventListener: () => undefined }));
  vi.stubGlobal('ResizeObserver', class { observe() {} unobserve() {} disconnect() {} }); // prettier-ignore
  makeTarget();
  vi.spyOn(api, 'status').mockResolvedValue({ needs_key: false, default_model: null } as ServerStatus);
  vi.spyOn(api, 'conversations').mockResolvedValue([]);
  vi.spyOn(api, 'models').mockResolvedValue([]);
  vi.spyOn(api, 'contextUse').mockResolvedValue({ prompt_tokens: 1, context_length: 100 });
  vi.spyOn(api, 'updateConversation').mockResolvedValue(conversation());
  vi.spyOn(api, 'consent').mockResolvedValue({ allowed: true, changed_at: 1 });
  judging.consent = { allowed: true, changed_at: 1 };
  session.phase = 'open';
});
afterEach(async () => {
  await hideAll();
  judging.forget();
  router.go(null);
  chat.startNew();
  composer.open(null);
  composer.write('');
  context.forget();
  panels.close();
  session.phase = 'open';
  session.ended = false;
  if (connection.lost) await comesBack();
  // What is read then has been read.
  await new Promise((resolve) => setTimeout(resolve));
  toasts.clear();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  i18n.use('en', []);
  document.body.replaceChildren();
});

describe('a chat that is opened', () => {
  // Regression: it stayed empty when the server was back, and the next question began another chat.
  test('is read when the server is back, and no question goes into another one meanwhile', async () => {
    const read = vi.spyOn(api, 'conversation').mockRejectedValue(away);
    const begin = vi.spyOn(api, 'askFirst');
    const ask = vi.spyOn(api, 'ask');
    router.go('c');
    await followRoute();
    expect([chat.id, chat.wanted, chat.unread, connection.lost]).toEqual([null, 'c', true, true]);
    composer.write('And silver?');
    await composer.send();
    expect([begin.mock.calls, ask.mock.calls, composer.text]).toEqual([[], [], 'And silver?']);

    read.mockResolvedValue(whole());
    await comesBack();
    await vi.waitFor(() => expect(chat.id).toBe('c'));
    expect([chat.wanted, chat.unread, chat.path.length, composer.text]).toEqual([
      null,
      false,
      2,
      'And silver?',
    ]);
  });

  test.each(locales)('says in %s that it could not be loaded, and is asked for again', async (locale) => {
    i18n.use(locale, []);
    const t = catalogues[locale];
    const read = vi.spyOn(api, 'conversation').mockRejectedValue(new ApiError(503, 'busy', 'unavailable'));
    router.go('c');
    await followRoute();
    show(ChatPage, {});
    expect(target.querySelector('[role=alert]')?.textContent).toContain(t.chat.notLoaded);
    expect(target.textContent).not.toContain(t.welcome.title);
    // Nor is anything of it set.
    handleShortcut(new KeyboardEvent('keydown', { key: ',', ctrlKey: true }));
    expect(panels.open).toBeNull();
    read.mockResolvedValue(whole());
    button(t.message.retry)?.click();
    await vi.waitFor(() => {
      flushSync();
      expect(target.textContent).toContain('What is gold?');
    });
    expect(target.textContent).not.toContain(t.chat.notLoaded);
  });

  // Regression: the settings of the start page opened, and were taken for the chat's.
  test('is not set, and gets no model, while it is being read', async () => {
    let arrive: (read: ReturnType<typeof whole>) => void = () => undefined;
    const reading = new Promise<ReturnType<typeof whole>>((resolve) => (arrive = resolve));
    vi.spyOn(api, 'conversation').mockReturnValue(reading);
    const other = {
      name: 'n',
      title: 'n',
      installed: true,
      languages: [],
      size_bytes: 1,
      promoted: null,
      context_length: null,
      licence: null,
      good_for: null,
      least_memory_bytes: null,
    };
    router.go('c');
    const followed = followRoute();
    show(ChatHeader, {});
    show(ModelCard, { model: other as unknown as ModelInfo });
    const { chat: words, models: t } = catalogues.en;
    const settings = target.querySelector<HTMLButtonElement>(`button[aria-label="${words.settings}"]`);
    const mayPress = () => [settings, button(t.use)].map((one) => one?.disabled === false);
    expect(chat.unread).toBe(false);
    expect(mayPress()).toEqual([false, false]);
    handleShortcut(new KeyboardEvent('keydown', { key: ',', ctrlKey: true }));
    expect(panels.open).toBeNull();
    arrive(whole());
    await followed;
    flushSync();
    expect(mayPress()).toEqual([true, true]);
  });

  // Regression: that it was gone threw the reader out of the chat to which he had gone meanwhile.
  test('is not told to be gone to who has gone to another one', async () => {
    let refuse: (error: unknown) => void = () => undefined;
    const read = vi.spyOn(api, 'conversation');
    read.mockReturnValueOnce(new Promise((_, reject) => (refuse = reject)));
    read.mockResolvedValue(whole());
    router.go('gone');
    const late = followRoute();
    router.go('c');
    await followRoute();
    refuse(new ApiError(404, 'gone', 'not_found'));
    await late;
    expect([router.route.conversation, chat.id, toasts.list]).toEqual(['c', 'c', []]);
  });

  test('is left for a new one, which begins', async () => {
    vi.spyOn(api, 'conversation').mockRejectedValue(away);
    router.go('c');
    await followRoute();
    router.go(null);
    await followRoute();
    expect([chat.wanted, chat.unread]).toEqual([null, false]);
  });
});

describe('a choice', () => {
  const saved: Choice = { question_id: 'q', chosen: 'b', rejected: ['a'], created_at: 1 };
  /** What the server has. */
  let kept: Choice[];
  const take = () => {
    kept = [saved];
    return Promise.resolve(saved);
  };

  async function open() {
    kept = [];
    vi.spyOn(api, 'conversation').mockImplementation(() => Promise.resolve(whole({}, kept)));
    await chat.open('c');
    chat.lookAtBoth(chat.messages.a!, chat.messages.b!);
    show(ComparedAnswers, { pair: chat.pair! });
  }

  // Regression: it was lost, and nothing was said.
  test.each(locales)('is said in %s not to be saved, and is sent again', async (locale) => {
    i18n.use(locale, []);
    const t = catalogues[locale];
    await open();
    const choose = vi.spyOn(api, 'choose').mockRejectedValue(new ApiError(500, 'disk', 'store_failed'));
    const second = t.feedback.chooseNumber(t.feedback.answerNumber(2));
    target.querySelector<HTMLButtonElement>(`button[aria-label="${second}"]`)?.click();
    await vi.waitFor(() => {
      flushSync();
      const words = target.querySelector('[role=alert]')?.textContent;
      expect(words).toContain(t.feedback.choiceNotSaved);
      expect(words).toContain(t.problems.store_failed);
    });
    expect(toasts.list).toEqual([]);
    choose.mockImplementation(take);
    button(t.message.retry)?.click();
    await vi.waitFor(() => expect(chat.choices).toEqual([saved]));
    expect(choose).toHaveBeenLastCalledWith('b', ['a']);
    expect([chat.pair, chat.leaf]).toEqual([null, 'b']);
    await vi.waitFor(() => expect(announcer.text).toBe(t.feedback.choiceSaved));
  });

  test('that was made while the server was away is saved when it is back', async () => {
    await open();
    const choose = vi.spyOn(api, 'choose').mockRejectedValue(away);
    const [left, right] = chat.pair!;
    expect(await choosing.choose(right, left)).toBe(false);
    expect(choosing.unsaved([left, right])?.chosen.id).toBe('b');
    choose.mockImplementation(take);
    await comesBack();
    await vi.waitFor(() => expect(chat.choices).toEqual([saved]));
    expect(choosing.unsaved([left, right])).toBeNull();
  });

  test('that is given up is not sent later, and one that is made anew is sent as it is', async () => {
    await open();
    const choose = vi.spyOn(api, 'choose').mockRejectedValue(away);
    const [left, right] = chat.pair!;
    await choosing.choose(right, left);
    choosing.giveUp([left, right]);
    await choosing.saveAll();
    expect(choose).toHaveBeenCalledOnce();
    await choosing.choose(right, left);
    await choosing.choose(left, right);
    choose.mockClear();
    await choosing.saveAll();
    expect(choose.mock.calls).toEqual([['a', ['b']]]);
    choosing.giveUp([left, right]);
  });

  // Regression: pressed while the choice was on its way, "Do not choose" withdrew nothing, and it was sent again later.
  test('that is given up on its way is not sent again', async () => {
    await open();
    let fail: (error: unknown) => void = () => undefined;
    const choose = vi.spyOn(api, 'choose');
    choose.mockReturnValueOnce(new Promise((_, reject) => (fail = reject)));
    const [left, right] = chat.pair!;
    const onItsWay = choosing.choose(right, left);
    await vi.waitFor(() => expect(choose).toHaveBeenCalledOnce());
    // Another one waits for its turn, and is given up before that.
    const waiting = choosing.choose(left, right);
    choosing.giveUp([left, right]);
    fail(away);
    expect(await Promise.all([onItsWay, waiting])).toEqual([false, false]);
    expect(choosing.unsaved([left, right])).toBeNull();
    await choosing.saveAll();
    expect(choose).toHaveBeenCalledOnce();

    // The same of one that was on its way when all feedback was erased.
    choose.mockReturnValueOnce(new Promise((_, reject) => (fail = reject)));
    const late = choosing.choose(right, left);
    await vi.waitFor(() => expect(choose).toHaveBeenCalledTimes(2));
    choosing.forget();
    fail(away);
    expect(await late).toBe(false);
    expect(choosing.unsaved([left, right])).toBeNull();
  });

  // Regression: what the server took all the same stayed there, and the page did not show it.
  test.each([
    ['its answer was lost', () => Promise.reject(new ApiError(502, 'bad gateway', 'bad_gateway'))],
    ['it came back late', () => Promise.resolve(saved)],
  ])(
    'that is given up on its way is shown as the server has it: %s',
    async (_, end: () => Promise<Choice>) => {
      await open();
      let go: () => void = () => undefined;
      const choose = vi.spyOn(api, 'choose');
      choose.mockReturnValueOnce(new Promise<void>((resolve) => (go = resolve)).then(end));
      const [left, right] = chat.pair!;
      const onItsWay = choosing.choose(right, left);
      await vi.waitFor(() => expect(choose).toHaveBeenCalledOnce());
      button(catalogues.en.feedback.closeComparison)?.click();
      expect(chat.pair).toBeNull();
      kept = [saved];
      const read = vi.mocked(api.conversation);
      read.mockClear();
      go();
      await onItsWay;
      expect(read).toHaveBeenCalledOnce();
      expect(chat.choices).toEqual([saved]);
      expect(choosing.unsaved([left, right])).toBeNull();
      // It was the reader who went away from the two: nothing is turned to the chosen one.
      expect(chat.leaf).toBe('a');
    },
  );

  // Regression: after all feedback had been erased, a choice that was not saved yet was sent.
  test.each([false, true])(
    'that is not saved goes with all feedback when that is erased; the chat cannot be read then: %s',
    async (isBroken) => {
      await open();
      const choose = vi.spyOn(api, 'choose').mockRejectedValue(new ApiError(500, 'disk', 'store_failed'));
      const [left, right] = chat.pair!;
      await choosing.choose(right, left);
      const none: ErasedFeedback = { erased: 1, trained: [] };
      vi.spyOn(api, 'erasure').mockResolvedValue(none);
      vi.spyOn(api, 'eraseFeedback').mockResolvedValue(none);
      const t = catalogues.en.feedback;
      show(FeedbackSettings, {});
      await vi.waitFor(() => {
        flushSync();
        expect(button(t.eraseOwn)?.disabled).toBe(false);
      });
      button(t.eraseOwn)?.click();
      await vi.waitFor(() => {
        flushSync();
        expect(button(t.eraseConfirm)).toBeDefined();
      });
      if (isBroken) vi.spyOn(api, 'conversation').mockRejectedValue(away);
      button(t.eraseConfirm)?.click();
      await vi.waitFor(() => expect(choosing.unsaved([left, right])).toBeNull());
      await new Promise((resolve) => setTimeout(resolve));
      // Regression: "That was not done", where only the chat could not be read after it.
      expect(toasts.list).toEqual([]);
      choose.mockClear();
      await choosing.saveAll();
      expect(choose).not.toHaveBeenCalled();
    },
  );

  // Regression: who compared the chosen answer with a third by then saw the two go.
  test('that is saved late leaves a comparison with a third answer open', async () => {
    await open();
    const [left, right] = chat.pair!;
    chat.messages.d = answer('d', { created_at: 3 });
    chat.lookAtBoth(right, chat.messages.d);
    vi.spyOn(api, 'choose').mockResolvedValue(saved);
    await chat.choose(right, left);
    expect(chat.choices).toEqual([saved]);
    expect(chat.leaf).toBe('a');
    chat.leaf = 'd';
    expect(chat.pair?.map(({ id }) => id)).toEqual(['b', 'd']);
    chat.endComparison();
  });

  // Regression: one that belonged to another chat made this one's choices, which were being read, unknown.
  test('between the answers of another chat does not hide those that are being read', async () => {
    await open();
    const [left, right] = chat.pair!;
    chat.endComparison();
    chat.startNew();
    vi.spyOn(api, 'choose').mockResolvedValue(saved);
    const other: Choice = { question_id: 'q', chosen: 'a', rejected: ['b'], created_at: 1 };
    vi.spyOn(api, 'judge').mockImplementation((_, said) => Promise.resolve(feedback(said)));
    const said = feedback({ rating: 'up', reasons: [], comment: null, correction: null });
    let arrive: () => void = () => undefined;
    vi.spyOn(api, 'conversation').mockReturnValue(
      new Promise((resolve) => (arrive = () => resolve(whole({ feedback: said }, [other])))),
    );
    const opening = chat.open('c');
    await chat.choose(right, left);
    await chat.judge('a', said);
    arrive();
    await opening;
    expect([chat.choices, chat.messages.a?.feedback]).toEqual([[other], said]);
  });

  test('that is saved late leaves who looks at something else alone', async () => {
    await open();
    const [left, right] = chat.pair!;
    chat.endComparison();
    vi.spyOn(api, 'choose').mockResolvedValue(saved);
    await chat.choose(right, left);
    expect([chat.choices, chat.leaf]).toEqual([[saved], 'a']);
  });
});

describe('a thumb', () => {
  const open = async (fields: Partial<Message> = {}) => {
    vi.spyOn(api, 'conversation').mockImplementation(() => Promise.resolve(whole(fields)));
    await chat.open('c');
    return chat.messages.a!;
  };
  const up: Said = { rating: 'up', reasons: [], comment: null, correction: null };

  // Regression: it was shown as given, and never sent.
  test('that was pressed while the server was away is sent when it is back', async () => {
    const one = await open();
    const judge = vi.spyOn(api, 'judge').mockRejectedValue(away);
    expect(await judging.press(one, 'up')).toBe(false);
    expect(connection.lost).toBe(true);
    judge.mockImplementation((_, said) => Promise.resolve(feedback(said)));
    await comesBack();
    await vi.waitFor(() => expect(judge).toHaveBeenLastCalledWith('a', up));
    await vi.waitFor(() => expect(judging.errors.a).toBeUndefined());
    await judging.saveAll();
    expect(judge).toHaveBeenCalledTimes(2);
  });

  test('is sent as it was pressed last, and not at all where it was given up', async () => {
    const one = await open();
    const judge = vi.spyOn(api, 'judge').mockRejectedValue(away);
    await judging.press(one, 'up');
    judge.mockImplementation((_, said) => Promise.resolve(feedback(said)));
    const pressed = judging.press(one, 'down');
    await Promise.all([pressed, judging.saveAll()]);
    expect(judge).toHaveBeenLastCalledWith('a', { ...up, rating: 'down' });
    expect(judging.rating(one)).toBe('down');

    judge.mockRejectedValue(away);
    await judging.press(one, 'up');
    judging.cancel(one);
    judge.mockClear();
    await judging.saveAll();
    expect(judge).not.toHaveBeenCalled();
  });

  test('with all that was written closes its panel when it is saved, unless more was written', async () => {
    const one = await open();
    const judge = vi.spyOn(api, 'judge').mockRejectedValue(away);
    await judging.press(one, 'down');
    judging.drafts.a!.comment = 'Not so.';
    await judging.save(one, one.content);
    judge.mockImplementation((_, said) => Promise.resolve(feedback(said)));
    await judging.saveAll();
    expect(judge).toHaveBeenLastCalledWith('a', { ...up, rating: 'down', comment: 'Not so.' });
    expect(judging.drafts.a).toBeUndefined();

    judge.mockRejectedValue(away);
    judging.write(chat.messages.a!);
    await judging.save(chat.messages.a!, one.content);
    judging.drafts.a!.comment = 'Not so at all.';
    judge.mockImplementation((_, said) => Promise.resolve(feedback(said)));
    await judging.saveAll();
    expect(judging.drafts.a?.comment).toBe('Not so at all.');
  });

  // Regression: with a key that had been revoked meanwhile, the error stood there for ever.
  test('that the key is not good for any more leads to the page that asks for one, and is sent after that', async () => {
    const one = await open();
    const judge = vi.spyOn(api, 'judge').mockRejectedValue(new ApiError(401, 'revoked', 'invalid_api_key'));
    await judging.press(one, 'up');
    expect([session.phase, session.ended]).toEqual(['locked', true]);
    judge.mockImplementation((_, said) => Promise.resolve(feedback(said)));
    session.phase = 'open';
    await judging.saveAll();
    expect(judge).toHaveBeenLastCalledWith('a', up);
  });
});

describe.each(locales)('in %s', (locale) => {
  const t = catalogues[locale];
  beforeEach(() => i18n.use(locale, []));

  // Regression: "Answer again" did nothing, and nobody said so.
  test('what was pressed for nothing is said', async () => {
    expect(await act(() => Promise.reject(away))).toBe(false);
    expect(toasts.list.map(({ text }) => text)).toEqual([t.connection.notDone]);
  });

  // Regression: "Answer finished" was read out of an answer that broke off.
  test('how an answer has ended is heard', () => {
    const heard = (fields: Partial<Message>) => heardAtEnd(answer('a', { content: 'Gold', ...fields }));
    for (const finish_reason of ['stop', 'tool_calls', null])
      expect(heard({ finish_reason })).toBe(t.message.finished('Gold'));
    const others: [Partial<Message>, string][] = [
      [{ status: 'failed' }, t.message.failed],
      [{ status: 'interrupted' }, t.message.interrupted],
      [{ status: 'stopped' }, t.message.stopped],
      [{ finish_reason: 'length', completion_tokens: 40 }, t.message.lengthReached('40')],
      // Regression: a limit was heard that could be raised, where the context was full, and nothing of what else had ended it.
      [
        { finish_reason: 'length', prompt_tokens: 60, completion_tokens: 40, context_length: 100 },
        t.message.contextEnded('60', '40'),
      ],
      [{ finish_reason: 'content_filter' }, t.message.endedEarly('content_filter')],
    ];
    for (const [fields, words] of others) expect(heard(fields)).toBe(`${words}${t.app.sentenceSpace}Gold`);
    expect(heard({ status: 'failed', content: '' })).toBe(t.message.failed);
  });
});

test('what a button was to ask waits in the box, where there is room', async () => {
  vi.spyOn(api, 'askFirst').mockRejectedValue(away);
  await composer.send('Name a metal.');
  expect(composer.text).toBe('Name a metal.');
  composer.write('Mine.');
  await composer.send('Name a metal.');
  expect(composer.text).toBe('Mine.');
});
