// What the operator is told before an improvement is begun, and what is not offered then.
import { flushSync, mount, unmount } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError } from '$lib/api/errors';
import type { FeedbackStatistics, ImprovementPreview, Promotion } from '$lib/api/types';
import { api, improving, models, toasts } from '$lib/app.svelte';
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

test('a preview that failed for another reason keeps nobody from trying', async () => {
  const { improvements: t, problems } = catalogues.en;
  vi.spyOn(api, 'previewImprovement').mockRejectedValue(new ApiError(500, 'broken', 'internal_error'));
  open();
  await said(problems.internal_error);
  expect(button(t.improve).disabled).toBe(false);
  expect(button(t.lookAgain).disabled).toBe(false);
  expect(toasts.list).toEqual([]);
});
