// What the operator is told before an improvement is begun, and what is not offered then.
import { readFileSync } from 'node:fs';
import { flushSync, mount, unmount } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError } from '$lib/api/errors';
import type { FeedbackStatistics, Improvement, ImprovementPreview, ModelInfo, Promotion, ServerStatus } from '$lib/api/types'; // prettier-ignore
import { api, improving, models, panels, session, toasts } from '$lib/app.svelte';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import ImprovementsDialog from '../src/components/ImprovementsDialog.svelte';
import { fakeDialogs } from './fakes';

const none = {
  judgements: 0, up: 0, down: 0, corrections: 0, choices: 0, comments: 0, trained: 0, new: 0,
}; // prettier-ignore
const statistics: FeedbackStatistics = {
  all: none, reasons: {}, models: {}, owners: [], with_consent: 0, without_consent: 0, in_trash: 0,
  limits: { comment_characters: 1, correction_characters: 1, rejected_answers: 1 },
}; // prettier-ignore
const preview = (nothing_new_since: string | null = null): ImprovementPreview => ({
  model: 'm', method: 'dpo', enough: true, least_train: 20, held_out_questions: 12, least_held_out: 5, nothing_new_since,
  data: { pairs: 9, ratings: 0, corrections: 0, train: 61, held_out: 23, conversations: 9, owners: 1, left_out: [] },
}); // prettier-ignore
const promotion: Promotion = {
  model: 'm', improvement: 'i7', method: 'dpo', since: 0, earlier: ['base'], unloaded_adapters: [], loaded_adapters: [],
  promoted: { id: '9f', kind: 'adapter', since: 0, method: 'dpo', improvement: 'i7', source: null, data: null, gate: null },
}; // prettier-ignore
const itself: Promotion = {
  ...promotion, improvement: null, method: null, since: null, promoted: null, earlier: [],
}; // prettier-ignore
const answering = (...promotions: Promotion[]) => ({ running: null, improvements: [], promotions });

let target: HTMLElement;
let view: Record<string, unknown> | null = null;

function open() {
  view = mount(ImprovementsDialog, { target }) as Record<string, unknown>;
  flushSync();
}

function button(name: string): HTMLButtonElement {
  const found = [...target.querySelectorAll('button')].filter((one) => one.textContent?.trim() === name);
  if (found.length !== 1) throw new Error(`${found.length} buttons are called ${name}`);
  return found[0]!;
}

/** Waits until the place of the preview says it; all that it says then. */
async function said(words: string): Promise<string> {
  const place = () => {
    flushSync();
    return target.querySelector('.preview')?.textContent ?? '';
  };
  await vi.waitFor(() => expect(place()).toContain(words));
  return place();
}

beforeEach(() => {
  fakeDialogs();
  target = document.createElement('div');
  document.body.append(target);
  vi.spyOn(api, 'improvements').mockResolvedValue({ running: null, improvements: [], promotions: [] });
  vi.spyOn(api, 'feedbackStatistics').mockResolvedValue(statistics);
  vi.spyOn(api, 'models').mockResolvedValue([]);
  vi.spyOn(api, 'adapters').mockResolvedValue({ served: [], folders: [] });
});
afterEach(async () => {
  if (view) await unmount(view);
  view = null;
  improving.known = improving.statistics = null;
  models.list = [];
  toasts.clear();
  vi.restoreAllMocks();
  i18n.use('en', []);
  document.body.replaceChildren();
});

describe.each(locales)('in %s', (locale) => {
  const { improvements: t, problems } = catalogues[locale];

  // Regression: a notice said at every opening that something else was under way, and there was no preview any more.
  test('that whole weights answer is said in the place of the preview, which can be looked at again', async () => {
    i18n.use(locale, []);
    const refusal = new ApiError(409, 'whole weights answer', 'whole_weights_promoted');
    const look = vi.spyOn(api, 'previewImprovement').mockRejectedValue(refusal);
    open();
    await said(problems.whole_weights_promoted);
    expect(toasts.list).toEqual([]);
    expect(button(t.improve).disabled).toBe(true);

    look.mockResolvedValue(preview());
    button(t.lookAgain).click();
    await said(t.split('61', '23'));
    expect(button(t.improve).disabled).toBe(false);
    expect(target.querySelector('.preview button')).toBeNull();
  });

  // Regression: it said what would be learned, and "Improve now" failed, as the last improvement had learned from the same.
  test('that nothing was judged since the last improvement is said, and another one not offered', async () => {
    i18n.use(locale, []);
    vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview('i7'));
    open();
    const words = await said(t.nothingNewSince('i7'));
    expect(words).not.toContain(t.split('61', '23'));
    expect(button(t.improve).disabled).toBe(true);
    const reason = button(t.improve).getAttribute('aria-describedby') ?? '';
    expect(document.getElementById(reason)?.textContent).toContain(t.nothingNewSince('i7'));
  });
});

describe.each(locales)('in %s, what changed elsewhere', (locale) => {
  const { improvements: t, problems } = catalogues[locale];

  // Regression: it said that something else was under way, offered the same again, and the focus was nowhere.
  test('a model that was rolled back in another window is not rolled back here', async () => {
    i18n.use(locale, []);
    vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
    const lists = vi.spyOn(api, 'improvements').mockResolvedValue(answering(promotion));
    vi.spyOn(api, 'rollBack').mockRejectedValue(new ApiError(409, 'nothing', 'nothing_earlier'));
    open();
    await said(t.split('61', '23'));
    lists.mockResolvedValue(answering(itself));
    button(t.rollBack).focus();
    button(t.rollBack).click();
    await vi.waitFor(() => {
      flushSync();
      expect(() => button(t.rollBack)).toThrow();
    });
    expect(target.textContent).toContain(t.itself);
    await vi.waitFor(() => expect(document.activeElement?.textContent).toBe(t.title));
    await vi.waitFor(() => expect(toasts.list.map(({ text }) => text)).toEqual([problems.nothing_earlier]));
  });

  test('promotions and judgements are seen when the window is looked at', async () => {
    i18n.use(locale, []);
    vi.spyOn(document, 'hidden', 'get').mockReturnValue(false);
    const look = vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
    open();
    await said(t.split('61', '23'));
    await vi.waitFor(() => expect(improving.statistics).not.toBeNull());
    const asked = look.mock.calls.length;
    vi.spyOn(api, 'improvements').mockResolvedValue(answering(promotion));
    vi.spyOn(api, 'feedbackStatistics').mockResolvedValue({
      ...statistics,
      all: { ...none, judgements: 7 },
    });
    look.mockResolvedValue(preview('i7'));
    window.dispatchEvent(new Event('focus'));
    await said(t.nothingNewSince('i7'));
    expect(look.mock.calls.length).toBeGreaterThan(asked);
    expect(button(t.rollBack)).toBeTruthy();
  });
});

// Regression: after "Improve now" the focus was nowhere: the form was gone.
test('the title of the window takes the focus of what goes', async () => {
  const { improvements: t } = catalogues.en;
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  vi.spyOn(api, 'improve').mockResolvedValue({ id: 'i8' });
  open();
  await said(t.split('61', '23'));
  const running = { id: 'i8', model: 'm', phase: 'training', step: 0, steps: 9, started_at: 0 };
  vi.spyOn(api, 'improvements').mockResolvedValue({ ...answering(), running });
  button(t.improve).focus();
  button(t.improve).click();
  await vi.waitFor(() => {
    flushSync();
    expect(target.textContent).toContain(t.phaseProgress(t.phases.training, t.progress('0', '9')));
  });
  await vi.waitFor(() => expect(document.activeElement?.textContent).toBe(t.title));
});

describe.each(locales)('in %s, words', (locale) => {
  const { improvements: t } = catalogues[locale];
  beforeEach(() => i18n.use(locale, []));

  // Regression: "Improve now" could be pressed below "That is too little", and failed.
  test('what is too little is not begun', async () => {
    vi.spyOn(api, 'previewImprovement').mockResolvedValue({ ...preview(), enough: false });
    open();
    await said(t.tooFew('20', '5', '12'));
    expect(button(t.improve).disabled).toBe(true);
    const reason = button(t.improve).getAttribute('aria-describedby') ?? '';
    expect(document.getElementById(reason)?.textContent).toContain(t.tooFew('20', '5', '12'));
  });

  // Regression: "The server's model" and the model that it is stood there as two.
  test('the model that is improved where none is named is named, and stands there once', async () => {
    const before = session.status;
    session.status = { default_model: 'm' } as ServerStatus;
    const made = (name: string) => ({ name, title: `${name} title`, installed: true, promoted: null });
    vi.spyOn(api, 'models').mockResolvedValue([made('m'), made('n')] as unknown as ModelInfo[]);
    const look = vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
    const improve = vi.spyOn(api, 'improve').mockRejectedValue(new ApiError(409, 'busy', 'busy'));
    open();
    await vi.waitFor(() => {
      flushSync();
      const options = [...(target.querySelector('select')?.options ?? [])].map(({ text }) => text.trim());
      expect(options).toEqual([t.modelDefault('m title'), 'n title']);
    });
    // Regression: another one was improved than the one that was named, where the server's model had changed.
    await vi.waitFor(() => expect(look.mock.lastCall?.[0]).toEqual({ model: 'm' }));
    await vi.waitFor(() => {
      flushSync();
      expect(button(t.improve).disabled).toBe(false);
    });
    button(t.improve).click();
    await vi.waitFor(() => expect(improve).toHaveBeenCalledWith({ model: 'm' }));
    session.status = before;
  });

  // Regression: the notice said "cancelled", and the card "interrupted: it goes on …".
  test('of one that was cancelled the notice says what its card says', () => {
    const [, goesOn = ''] = t.states.interrupted.split(t.colon);
    expect(goesOn).not.toBe('');
    expect(t.cancelled).toContain(goesOn);
  });
});

// Regression: what became of an improvement was out of sight below the window's edge.
test.each(['failed', 'interrupted'])('one that ran comes in sight when it is %s', async (state) => {
  const shown: string[] = [];
  Element.prototype.scrollIntoView = function (this: Element) {
    shown.push(this.getAttribute('data-improvement') ?? '');
  };
  const data = preview().data;
  const made = (id: string): Improvement => ({
    id, model: 'm', method: 'dpo', created_at: 0, finished_at: 1, state, error: null, promoted: false, compared_with: null,
    compared_with_other: false, data, gate: [],
  }); // prettier-ignore
  const running = { id: 'i8', model: 'm', phase: 'training', step: 0, steps: 9, started_at: 0 };
  const lists = vi.spyOn(api, 'improvements').mockResolvedValue({
    running,
    improvements: [made('i7')],
    promotions: [],
  });
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  open();
  await vi.waitFor(() => expect(improving.running).not.toBeNull());
  flushSync();
  expect(shown).toEqual([]);
  lists.mockResolvedValue({ running: null, improvements: [made('i8'), made('i7')], promotions: [] });
  await improving.refresh();
  flushSync();
  delete (Element.prototype as Partial<Element>).scrollIntoView;
  expect(shown).toEqual(['i8']);
});

// Regression: what was interrupted kept its copies of what people wrote until the same was asked for again.
test('an interrupted improvement can be discarded', async () => {
  const { improvements: t } = catalogues.en;
  const made = (state: string): Improvement => ({
    id: 'i7', model: 'm', method: 'dpo', created_at: 0, finished_at: 1, state, error: null, promoted: false, compared_with: null,
    compared_with_other: false, data: preview().data, gate: [],
  }); // prettier-ignore
  const answer = (state: string) => ({ running: null, improvements: [made(state)], promotions: [] });
  const lists = vi.spyOn(api, 'improvements').mockResolvedValue(answer('interrupted'));
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  const discard = vi.spyOn(api, 'discardImprovement').mockResolvedValue();
  open();
  await vi.waitFor(() => {
    flushSync();
    button(t.discard);
  });
  lists.mockResolvedValue(answer('failed'));
  button(t.discard).click();
  await vi.waitFor(() => {
    flushSync();
    expect(target.querySelector('[data-improvement] .state')?.textContent).toContain(t.states.failed);
  });
  expect(discard).toHaveBeenCalledWith('i7');
  expect(() => button(t.discard)).toThrow();
});

// Regression: a training run stood at step 0 for minutes, and nothing said how long it would take.
test.each([
  [null, null],
  [20, 'about 1 minute left'],
  [640, 'about 11 minutes left'],
])('of %s seconds that are left the window says %s', async (seconds_left, words) => {
  const running = { id: 'i8', model: 'm', phase: 'training', step: 1, steps: 9, started_at: 0, seconds_left };
  vi.spyOn(api, 'improvements').mockResolvedValue({ running, improvements: [], promotions: [] });
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  open();
  await vi.waitFor(() => {
    flushSync();
    expect(target.querySelector('.running')).not.toBeNull();
  });
  const text = target.querySelector('.running')?.textContent ?? '';
  if (words === null) expect(text).not.toContain('left');
  else expect(text).toContain(words);
});

// Regression: notices lay over what was to be pressed next in an open window, and could not be pressed themselves.
test('notices stand at the end of an open window, in room of their own', () => {
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  session.phase = 'open';
  panels.show('improvements');
  open();
  toasts.show('info', 'A notice');
  flushSync();
  const notices = [...target.querySelectorAll('.toast')];
  expect(notices.map((one) => one.querySelector('.text')?.textContent)).toEqual(['A notice']);
  const place = notices[0]?.closest('[aria-live]');
  expect(place?.closest('dialog')).not.toBeNull();
  expect(place?.previousElementSibling?.classList.contains('content')).toBe(true);
  expect(place?.hasAttribute('popover')).toBe(false);
  panels.close();
  flushSync();
  expect(target.querySelector('.toast')).toBeNull();
});

// Regression: it stayed for ever where it went with the window while somebody pointed at it.
test('a notice under the pointer goes, also when the place where it was shown is gone', async () => {
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  session.phase = 'open';
  panels.show('improvements');
  open();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  toasts.show('info', 'A notice');
  flushSync();
  target.querySelector('.toast')?.dispatchEvent(new Event('pointerenter'));
  await vi.advanceTimersByTimeAsync(20_000);
  expect(toasts.list).toHaveLength(1);
  panels.close();
  flushSync();
  await vi.advanceTimersByTimeAsync(20_000);
  vi.useRealTimers();
  expect(toasts.list).toEqual([]);
});

// Regression: counts of three digits were broken over two lines; the limits stood under "By person".
test('counts are in one line each, and limits below a title of their own', async () => {
  const { improvements: t } = catalogues.en;
  const source = readFileSync('src/components/FeedbackTotals.svelte', 'utf8');
  const [, style = ''] = /\n {2}dd \{([^}]*)\}/.exec(source) ?? [];
  expect(style).toContain('flex: none');
  expect(style).toContain('white-space: nowrap');
  vi.spyOn(api, 'feedbackStatistics').mockResolvedValue({ ...statistics, all: { ...none, judgements: 123 } });
  vi.spyOn(api, 'previewImprovement').mockResolvedValue(preview());
  open();
  await vi.waitFor(() => {
    flushSync();
    const limits = [...target.querySelectorAll('p')].find(
      (one) => one.textContent?.trim() === t.limits('1', '1', '1'),
    );
    expect(limits?.previousElementSibling?.textContent).toBe(t.limitsTitle);
  });
});

test('a preview that failed for another reason keeps nobody from trying', async () => {
  const { improvements: t, problems } = catalogues.en;
  vi.spyOn(api, 'previewImprovement').mockRejectedValue(new ApiError(500, 'broken', 'internal_error'));
  open();
  await said(problems.internal_error);
  expect(button(t.improve).disabled).toBe(false);
  expect(button(t.lookAgain).disabled).toBe(false);
  expect(toasts.list).toEqual([]);
});
