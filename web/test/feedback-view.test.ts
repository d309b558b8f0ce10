// What the reader sees and presses to judge: thumbs, the panel, the question for consent, two answers, an improvement's gate.
import { flushSync } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError } from '$lib/api/errors';
import type { Criterion, Feedback, Improvement, Message, ModelInfo, Promotion } from '$lib/api/types';
import { api, chat, improving, judging, models } from '$lib/app.svelte';
import { reasons } from '$lib/feedback';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import ConsentQuestion from '../src/components/ConsentQuestion.svelte';
import ComparedAnswers from '../src/components/ComparedAnswers.svelte';
import ImprovementCard from '../src/components/ImprovementCard.svelte';
import ModelCard from '../src/components/ModelCard.svelte';
import LeftOut from '../src/components/LeftOut.svelte';
import JudgeButtons from '../src/components/JudgeButtons.svelte';
import Judgement from '../src/components/Judgement.svelte';
import { figure } from '$lib/improvements';
import { saveJudgement } from '$lib/state/judgement-drafts';
import { formatDate } from '$lib/util/format';
import { conversation, message } from './fakes';
import { hideAll, makeTarget, show, target } from './views';

const TEXT = 'Gold rusts quickly.';
/** Buttons, fields and groups by the name that a screen reader says. */
function named<T extends HTMLElement>(selector: string, name: string): T {
  const nameOf = (element: Element) =>
    element.getAttribute('aria-label') ??
    document.querySelector(`label[for="${element.id}"]`)?.textContent ??
    element.textContent;
  const found = [...target.querySelectorAll<T>(selector)].filter((one) => nameOf(one)?.trim() === name);
  if (found.length !== 1) throw new Error(`${found.length} of ${selector} are called ${name}`);
  return found[0]!;
}
const button = (name: string) => named<HTMLButtonElement>('button', name);

function type(field: HTMLTextAreaElement, text: string) {
  field.value = text;
  field.dispatchEvent(new InputEvent('input', { bubbles: true }));
  flushSync();
}

async function press(one: HTMLElement) {
  one.click();
  await vi.waitFor(() => flushSync());
}

function showAnswer(fields: Partial<Message> = {}) {
  chat.conversation = conversation();
  chat.messages = {
    q: message({ id: 'q' }),
    a: message({ id: 'a', parent_id: 'q', role: 'assistant', content: TEXT, created_at: 1, ...fields }),
    b: message({ id: 'b', parent_id: 'q', role: 'assistant', content: 'Not at all.', created_at: 2 }),
  };
  chat.leaf = 'a';
  const answer = chat.messages.a!;
  show(JudgeButtons, { message: answer });
  show(Judgement, { message: answer, text: TEXT });
  return answer;
}

const feedback = (fields: Partial<Feedback> = {}): Feedback => ({
  rating: 'down',
  reasons: [],
  comment: null,
  correction: null,
  created_at: 0,
  updated_at: 0,
  ...fields,
});

beforeEach(() => {
  makeTarget();
  judging.forget();
  judging.consent = { allowed: true, changed_at: 1 };
});
afterEach(async () => {
  await hideAll();
  chat.startNew();
  judging.asking = null;
  vi.restoreAllMocks();
  i18n.use('en', []);
  document.body.replaceChildren();
});

describe.each(locales)('in %s', (locale) => {
  const t = catalogues[locale].feedback;

  test('a thumb is pressed, the panel has its reasons in words, and saving it closes the panel', async () => {
    i18n.use(locale, []);
    const judge = vi
      .spyOn(api, 'judge')
      .mockImplementation((_, said) => Promise.resolve(feedback({ ...said })));
    showAnswer();
    expect(button(t.down).getAttribute('aria-pressed')).toBe('false');
    await press(button(t.down));
    await vi.waitFor(() => expect(button(t.down).getAttribute('aria-pressed')).toBe('true'));
    expect(button(t.up).getAttribute('aria-pressed')).toBe('false');
    for (const reason of reasons.down)
      expect(button(t.reasons[reason]).getAttribute('aria-pressed')).toBe('false');

    await press(button(t.reasons.wrong));
    expect(button(t.reasons.wrong).getAttribute('aria-pressed')).toBe('true');
    type(named('textarea', t.comment), 'It does not rust.');
    await press(button(t.correct));
    const correction = named<HTMLTextAreaElement>('textarea', t.correctionLabel);
    expect(correction.value).toBe(TEXT);
    expect(document.activeElement).toBe(correction);
    type(correction, ' ');
    expect(button(t.save).disabled).toBe(true);
    expect(target.querySelector('[role=alert]')?.textContent).toContain(t.correctionBlank);
    type(correction, 'Gold does not rust.');
    await press(button(t.save));
    await vi.waitFor(() => {
      flushSync();
      expect(target.querySelector('form')).toBeNull();
    });
    expect(judge).toHaveBeenLastCalledWith('a', {
      rating: 'down',
      reasons: ['wrong'],
      comment: 'It does not rust.',
      correction: 'Gold does not rust.',
    });
    expect(target.textContent).toContain(t.correctionShown);
    expect(target.textContent).toContain('Gold does not rust.');
  });

  test('a judgement that is not saved keeps every word and says why', async () => {
    i18n.use(locale, []);
    vi.spyOn(api, 'judge').mockRejectedValue(new ApiError(500, 'disk', 'store_failed'));
    showAnswer();
    await press(button(t.up));
    type(named('textarea', t.comment), 'Short and good');
    await press(button(t.save));
    await vi.waitFor(() => {
      flushSync();
      expect(target.querySelector('[role=alert]')?.textContent).toContain(
        catalogues[locale].problems.store_failed,
      );
    });
    expect(target.querySelector('[role=alert]')?.textContent).toContain(t.stillHere);
    expect(named<HTMLTextAreaElement>('textarea', t.comment).value).toBe('Short and good');
    await vi.waitFor(() => expect(button(t.save).disabled).toBe(false));
  });

  test('consent is asked in place, and said no to', async () => {
    i18n.use(locale, []);
    judging.consent = null;
    const asked = vi.spyOn(api, 'consent').mockResolvedValue({ allowed: false, changed_at: null });
    const set = vi.spyOn(api, 'setConsent').mockResolvedValue({ allowed: false, changed_at: 5 });
    showAnswer();
    await judging.wonder('a');
    flushSync();
    expect(target.textContent).toContain(t.consentQuestion);
    expect(target.textContent).toContain(t.consentDetail);
    await press(button(t.consentNo));
    await vi.waitFor(() => {
      flushSync();
      expect(target.textContent).not.toContain(t.consentQuestion);
    });
    expect(asked).toHaveBeenCalledOnce();
    expect(set).toHaveBeenCalledWith(false);
  });
});

test('what is being written is there when the page is opened again, unless the server has it', async () => {
  const t = catalogues.en.feedback;
  vi.spyOn(api, 'judge').mockImplementation((_, said) => Promise.resolve(feedback({ ...said })));
  const reopen = async () => {
    await hideAll();
    const said = chat.messages.a?.feedback ?? null;
    judging.drafts = {};
    showAnswer({ feedback: said });
  };
  showAnswer();
  await press(button(t.up));
  await vi.waitFor(() => expect(chat.messages.a?.feedback?.rating).toBe('up'));
  flushSync();
  // A thumb that is saved opens nothing.
  await reopen();
  expect(target.querySelector('form')).toBeNull();
  await press(button(t.sayWhy));
  type(named('textarea', t.comment), 'Not yet sent');
  await reopen();
  expect(named<HTMLTextAreaElement>('textarea', t.comment).value).toBe('Not yet sent');
  await press(button(t.cancel));
  await reopen();
  expect(target.querySelector('form')).toBeNull();
});

test('a comment that is too long is said to be before it is sent, and nothing of it is cut', async () => {
  const t = catalogues.en.feedback;
  vi.spyOn(api, 'judge').mockImplementation((_, said) => Promise.resolve(feedback({ ...said })));
  showAnswer();
  await press(button(t.up));
  const comment = named<HTMLTextAreaElement>('textarea', t.comment);
  type(comment, '金'.repeat(2001));
  expect(target.textContent).toContain(t.commentTooLong('2,001', '2,000'));
  expect(button(t.save).disabled).toBe(true);
  expect(comment.value).toHaveLength(2001);
  // Counted as the server does: a character beyond the first plane is one.
  type(comment, '😀'.repeat(2000));
  expect(button(t.save).disabled).toBe(false);
});

test('a model says which improvement answers for it, and an adapter where it is from', () => {
  const t = catalogues.en.improvements;
  const known = { installed: true, languages: [], pull: null, size_bytes: null, context_length: null };
  const named = (name: string) =>
    ({
      ...known,
      name,
      title: name,
      licence: null,
      // The server says it of downloaded models alone.
      removable: name === 'm',
      least_memory_bytes: null,
      fits: null,
    }) as unknown as ModelInfo;
  models.list = [named('m'), named('m+poet'), named('m+i7'), named('m+start')];
  models.adapters = [
    { name: 'm+poet', model: 'm', folder: 'poet', users: 0, method: null, data: null },
    { name: 'm+i7', model: 'm', folder: 'i7', users: 0, method: 'kto', data: null },
    { name: 'm+start', model: 'm', folder: null, users: 0, method: 'dpo', data: '4 pairs' },
  ];
  const learned = { id: 'i7', model: 'm', method: 'kto', created_at: 0, gate: [] } as unknown as Improvement;
  models.list[0]!.promoted = {
    id: '9f', kind: 'adapter', since: 0, method: 'kto', improvement: 'i7', source: null,
    data: '4 examples, 2 held out, of 5 conversations of 1 people', gate: 'win_rate 0.61 (0.5 to 0.7), speed 41.0',
  }; // prettier-ignore
  improving.known = { running: null, improvements: [learned], promotions: [] };
  const date = formatDate(0, 'en');
  const origins = models.list.map((model) => {
    show(ModelCard, { model });
    return [...target.querySelectorAll('.origin')].at(-1)?.textContent?.trim();
  });
  expect(origins).toEqual([
    t.modelOrigin(t.answeringSince('i7', 'KTO', date)),
    `${t.adapterOf('m')} · ${t.adapterFolder('poet')}`,
    `${t.adapterOf('m')} · ${t.learned('i7', 'KTO', date)}`,
    `${t.adapterOf('m')} · ${t.adapterStart} · ${t.trainedBy('DPO')}`,
  ]);
  expect(target.textContent).toContain('4 pairs');
  // What it learned from, and how it did at the gate.
  expect(target.textContent).toContain('4 examples, 2 held out');
  // Regression: the list of models said 0.61 where the gate says 61%.
  expect(target.textContent).toContain(`${t.criteria.win_rate} 61% (50% to 70%), ${t.criteria.speed} 41.00`);
  i18n.use('zh', []);
  flushSync();
  const zh = catalogues.zh.improvements;
  expect(target.textContent).toContain(
    `${zh.criteria.win_rate} 61%（50% 至 70%），${zh.criteria.speed} 41.00`,
  );
  i18n.use('en', []);
  // Weights that no improvement made say how they were trained and where they were copied from; once they said neither.
  models.list[0]!.promoted = {
    id: '9f', kind: 'adapter', since: 0, method: 'dpo', improvement: null, source: 'runs/dpo', data: null, gate: null,
  }; // prettier-ignore
  flushSync();
  expect(target.textContent).toContain(`${t.elsewhere(date)} · ${t.trainedBy('DPO')}`);
  expect(target.textContent).toContain(t.copiedFrom('runs/dpo'));
  // An adapter is unloaded, not deleted like a downloaded model.
  expect(target.querySelectorAll(`[aria-label^="${catalogues.en.models.remove}"]`)).toHaveLength(1);
  improving.known = null;
  models.list = [];
});

describe('two answers', () => {
  const t = catalogues.en.feedback;
  const pair = (left: Partial<Message>, right: Partial<Message>) => {
    const common = { parent_id: 'q', role: 'assistant' as const };
    show(ComparedAnswers, {
      pair: [
        message({ id: 'a', ...common, content: 'One.', ...left }),
        message({ id: 'b', ...common, content: 'Two.', ...right }),
      ],
    });
    return [t.answerNumber(1), t.answerNumber(2)].map((answer) => button(t.chooseNumber(answer)).disabled);
  };

  test('can be chosen from when both are finished and differ', () => {
    expect(pair({}, { model: 'other' })).toEqual([false, false]);
    expect(target.textContent).toContain(t.chooseHint);
    expect(target.textContent).toContain('other');
  });
  test('wait for each other', () => {
    expect(pair({}, { status: 'generating' })).toEqual([true, true]);
    expect(target.textContent).toContain(t.waitForBoth);
  });
  test('that are the same say so', () => {
    expect(pair({ content: 'Same.' }, { content: 'Same. ' })).toEqual([true, true]);
    expect(target.textContent).toContain(t.equalAnswers);
  });
  // They were compared with their thoughts, which nobody chooses by.
  test('that differ in thoughts alone are the same', () => {
    const answers = [{ content: '<think>Hm.</think>\n\nSame.' }, { content: 'Same.' }] as const;
    expect(pair(...answers)).toEqual([true, true]);
    expect(target.textContent).toContain(t.equalAnswers);
  });
  test('of which one failed are no choice', () => {
    expect(pair({}, { status: 'failed', error: 'no memory' })).toEqual([true, true]);
    expect(target.textContent).toContain(t.brokenAnswer);
  });
  // Regression: "one of the answers broke off" stood below two that had, or "both are the same" where neither had begun.
  test('that both failed say so, and are asked for again', async () => {
    const failed = { status: 'failed', content: '', error: 'no memory' } as const;
    expect(pair(failed, { ...failed, status: 'interrupted' })).toEqual([true, true]);
    expect(target.textContent).toContain(t.brokenAnswers);
    const replace = vi.spyOn(chat, 'replaceBroken').mockResolvedValue();
    await press(button(catalogues.en.message.retry));
    expect(replace).toHaveBeenCalledOnce();
  });
  // Regression: the choice of an answer that was cut off was thanked for, and nothing is learned from it.
  test('of which one is cut off say that nothing is learned from choosing it', () => {
    expect(pair({}, { finish_reason: 'length' })).toEqual([false, false]);
    const [whole, cut] = [...target.querySelectorAll('article')].map((one) => one.textContent);
    expect(whole).not.toContain(t.teachesNothing);
    expect(cut).toContain(t.teachesNothing);
  });
  // Regression: where something was chosen already, the button that closes the two said "Do not choose".
  test('that were chosen between before are closed', () => {
    pair({}, {});
    expect(() => button(t.closeComparison)).not.toThrow();
    chat.choices = [{ question_id: 'q', chosen: 'a', rejected: ['b'], created_at: 1 }];
    flushSync();
    expect(() => button(t.closeComparison)).toThrow();
    expect(() => button(t.endComparison)).not.toThrow();
  });
});

test('what was chosen is shown at both answers, and taken back', async () => {
  const t = catalogues.en.feedback;
  const forget = vi.spyOn(api, 'forgetChoice').mockResolvedValue();
  showAnswer();
  chat.choices = [{ question_id: 'q', chosen: 'a', rejected: ['b'], created_at: 1 }];
  flushSync();
  expect(target.textContent).toContain(t.better(t.versionNumber(2)));
  await press(button(t.forgetChoice));
  await vi.waitFor(() => {
    flushSync();
    expect(target.textContent).not.toContain(t.better(t.versionNumber(2)));
  });
  expect(forget).toHaveBeenCalledWith('a');
  chat.choices = [{ question_id: 'q', chosen: 'b', rejected: ['a'], created_at: 1 }];
  flushSync();
  expect(target.textContent).toContain(t.worse(t.versionNumber(2)));
});

// Regression: a thumb for an answer that was cut off was accepted without a word.
test('that nothing is learned from liking an answer that breaks off is said', () => {
  const t = catalogues.en.feedback;
  showAnswer({ finish_reason: 'length', feedback: feedback({ rating: 'up' }) });
  expect(target.textContent).toContain(t.teachesNothing);
  chat.messages.a!.finish_reason = 'stop';
  flushSync();
  expect(target.textContent).not.toContain(t.teachesNothing);
});

// Regression: a thumb that was never sent was shown as given when the page was loaded again.
test('what was kept from before and is not saved says so, until the server has it', async () => {
  const t = catalogues.en.feedback;
  vi.spyOn(api, 'judge').mockImplementation((_, said) => Promise.resolve(feedback({ ...said })));
  saveJudgement('a', { rating: 'up', reasons: [], comment: '', correction: null });
  showAnswer();
  expect(button(t.up).getAttribute('aria-pressed')).toBe('true');
  expect(target.textContent).toContain(t.notYetSaved);
  await press(button(t.save));
  await vi.waitFor(() => {
    flushSync();
    expect(target.querySelector('form')).toBeNull();
  });
  expect(chat.messages.a?.feedback?.rating).toBe('up');
  expect(target.textContent).not.toContain(t.notYetSaved);
});

test('the gate shows each criterion with its figures, and what was not measured', () => {
  const t = catalogues.en.improvements;
  const nothing = { base: null, lower: null, upper: null, limit: 21, examples: 0 };
  const improvement: Improvement = {
    id: 'i7',
    model: 'm',
    method: 'dpo',
    created_at: 0,
    finished_at: 1,
    state: 'refused',
    error: null,
    promoted: false,
    compared_with: 'base',
    compared_with_other: false,
    data: {
      pairs: 3, ratings: 2, corrections: 1, train: 4, held_out: 2, conversations: 5, owners: 1,
      left_out: [{ reason: 'no consent', count: 9 }],
    },
    gate: [
      { name: 'win_rate', value: 0.412, base: null, lower: 0.3, upper: 0.52, limit: 0.5, examples: 40, passed: false, note: 'there are no held-out questions' },
      { name: 'perplexity_en', value: 21.123, base: 20.9, lower: null, upper: null, limit: 21.5, examples: 64, passed: true, note: null },
      { name: 'perplexity_zh', value: null, ...nothing, passed: null, note: null },
    ],
  }; // prettier-ignore
  show(ImprovementCard, { improvement });
  const rows = [...target.querySelectorAll('tbody tr')].map((row) =>
    [...row.children].map((cell) => cell.textContent?.trim()),
  );
  expect(rows).toEqual([
    [t.criteria.win_rate, '41.2%', '–', '30% – 52%', '> 50%', '40', t.failed],
    // Regression: 20.9 stood beside 21.12.
    [t.criteria.perplexity_en, '21.12', '20.90', '–', '< 21.50', '64', t.passed],
    [t.criteria.perplexity_zh, '–', '–', '–', '< 21.00', '0', t.notMeasured],
  ]);
  expect(target.textContent).toContain(t.states.refused);
  expect(target.textContent).toContain(t.leftOutCount('9', 'no consent'));
  expect(target.querySelector('.notes')?.textContent).toContain('there are no held-out questions');
  // What did not pass cannot be promoted.
  expect([...target.querySelectorAll('button')]).toEqual([]);
  expect(target.textContent).toContain(t.split('4', '2'));
});

// Regression: it appeared behind the message box.
test('the question for consent comes in sight', () => {
  const shown: string[] = [];
  Element.prototype.scrollIntoView = function (this: Element) {
    shown.push(this.className);
  };
  show(ConsentQuestion, { returnTo: 'composer' });
  delete (Element.prototype as Partial<Element>).scrollIntoView;
  expect(shown.filter((name) => name.includes('consent'))).toHaveLength(1);
});

// Regression: “0 to learn from, 0 held out” stood below an error that had other numbers.
test('one that failed before anything was counted shows no counts', () => {
  const t = catalogues.en.improvements;
  const error = 'there is no model `m`';
  const data = {
    pairs: 0,
    ratings: 0,
    corrections: 0,
    train: 0,
    held_out: 0,
    conversations: 0,
    owners: 0,
    left_out: [],
  };
  const improvement: Improvement = {
    id: 'i8', model: 'm', method: '', created_at: 0, finished_at: 1, state: 'failed', error, promoted: false, compared_with: null,
    compared_with_other: false, data, gate: [],
  }; // prettier-ignore
  show(ImprovementCard, { improvement });
  expect(target.textContent).toContain(t.error(error));
  expect(target.textContent).not.toContain(t.split('0', '0'));
});

// Regression: figures with all of their digits pushed the verdict out of the window.
test('figures of a gate have four digits at most', () => {
  const of = (value: number) => figure({ name: 'speed' } as Criterion, value);
  expect([0.0146, 21.123, 987.65, 1234.6].map(of)).toEqual(['0.015', '21.12', '987.7', '1,235']);
  expect(of(43_231_293.853)).toBe('43.23M');
  i18n.use('zh', []);
  expect(of(43_231_293.853)).toBe('4323万');
});

// Regression: “3: whoever judged …” stood beside “Without consent 2”: an answer that is rated and corrected is two of the one and one of the other.
test('what is left out says what it counts, and names methods as elsewhere', () => {
  const leftOut = [
    { reason: 'whoever judged does not allow that models learn from it', count: 3 },
    { reason: 'nothing that dpo learns from', count: 1 },
    { reason: 'the same judgement twice', count: 1 },
  ];
  show(LeftOut, { leftOut });
  const lines = () => [...target.querySelectorAll('li')].map((line) => line.textContent);
  expect(lines()).toEqual([
    '3 ratings, choices or corrections: whoever judged does not allow that models learn from it',
    '1 rating, choice or correction: nothing that DPO learns from',
    '1 example: the same judgement twice',
  ]);
  i18n.use('zh', []);
  flushSync();
  expect(lines()[1]).toBe('1 个好评差评、选择或更正：DPO 学不了这类评价');
});

// Regression: “from 60 chats of 1 people”.
test('one person is no people', () => {
  const t = catalogues.en.improvements;
  expect(t.data('60', '1', '0', '60', '1')).toBe(
    '60 pairs, 1 rating and 0 corrections from 60 chats of 1 person',
  );
  const data = (owners: number) => `21 examples, 1 held out, of 1 conversations of ${owners} people`;
  expect(t.recorded(data(1))).toBe('21 examples, 1 held out, of 1 conversation of 1 person');
  expect(t.recorded(data(21))).toBe('21 examples, 1 held out, of 1 conversation of 21 people');
});

// Regression: the page promoted what had been compared with something else than answered by then, and did not say it.
test('what was compared with something else than answers now is promoted with that said', async () => {
  const t = catalogues.en.improvements;
  const data = {
    pairs: 9, ratings: 0, corrections: 0, train: 6, held_out: 3, conversations: 9, owners: 1, left_out: [],
  }; // prettier-ignore
  const improvement: Improvement = {
    id: 'i9', model: 'm', method: 'dpo', created_at: 0, finished_at: 1, state: 'passed', error: null, promoted: false, compared_with: 'base',
    compared_with_other: true, data, gate: [],
  }; // prettier-ignore
  const promotion: Promotion = {
    model: 'm', improvement: 'i7', method: 'kto', since: 0, earlier: ['base'], unloaded_adapters: [], loaded_adapters: [],
    promoted: { id: '9f', kind: 'adapter', since: 0, method: 'kto', improvement: 'i7', source: null, data: null, gate: null },
  }; // prettier-ignore
  const known = { running: null, improvements: [improvement], promotions: [promotion] };
  improving.known = known;
  vi.spyOn(api, 'improvements').mockResolvedValue(known);
  vi.spyOn(models, 'refresh').mockResolvedValue(undefined);
  vi.spyOn(models, 'refreshAdapters').mockResolvedValue(undefined);
  const promote = vi.spyOn(api, 'promote').mockResolvedValue({ ...promotion, improvement: 'i9' });
  show(ImprovementCard, { improvement });
  const answering = t.answeringSince('i7', 'KTO', formatDate(0, 'en'));
  expect(target.textContent).toContain(t.comparedWithOther(t.itself, answering));
  await press(button(t.promoteAnywayOf('i9')));
  expect(promote).toHaveBeenCalledWith('i9', true);
  i18n.use('zh', []);
  flushSync();
  expect(target.textContent).toContain('没有与后者比较过');
  i18n.use('en', []);
  improving.known = null;
});
