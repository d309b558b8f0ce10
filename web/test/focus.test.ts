// Where the keyboard's focus is after what had it is gone: never on the page as a whole.
import { flushSync, mount, unmount, type Component } from 'svelte';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { DeletedConversation } from '$lib/api/types';
import { api, chat, judging, panels, toasts } from '$lib/app.svelte';
import { catalogues, i18n } from '$lib/i18n/i18n.svelte';
import { holdFocus } from '$lib/util/focus';
import BranchSwitcher from '../src/components/BranchSwitcher.svelte';
import FeedbackSettings from '../src/components/FeedbackSettings.svelte';
import ShortcutsDialog from '../src/components/ShortcutsDialog.svelte';
import TrashDialog from '../src/components/TrashDialog.svelte';
import { conversation, fakeDialogs, message } from './fakes';

const views: Record<string, unknown>[] = [];
let target: HTMLElement;

function show<P extends Record<string, unknown>>(component: Component<P>, props: P) {
  const view = mount(component, { target, props }) as Record<string, unknown>;
  views.push(view);
  flushSync();
  return view;
}

function add(html: string): HTMLElement {
  const place = document.createElement('div');
  place.innerHTML = html;
  document.body.append(place);
  return place;
}

function button(name: string): HTMLButtonElement {
  const nameOf = (one: Element) => one.getAttribute('aria-label') ?? one.textContent?.trim();
  const found = [...target.querySelectorAll('button')].find((one) => nameOf(one) === name);
  if (!found) throw new Error(`no button is called ${name}`);
  return found;
}

function press(name: string) {
  const one = button(name);
  one.focus();
  one.click();
}

/** Waits until `wanted` has the focus. */
async function focused(wanted: () => Element | null) {
  await vi.waitFor(() => {
    flushSync();
    expect(wanted()).not.toBeNull();
    expect(document.activeElement).toBe(wanted());
  });
}

beforeEach(() => {
  i18n.use('en', []);
  fakeDialogs();
  target = document.createElement('div');
  document.body.append(target);
  vi.spyOn(api, 'conversations').mockResolvedValue([]);
});
afterEach(async () => {
  for (const view of views.splice(0)) await unmount(view);
  chat.startNew();
  panels.close();
  toasts.clear();
  vi.restoreAllMocks();
  document.body.replaceChildren();
});

// Regression: the window was out of the page before it was closed, and the browser then gives the focus to nothing.
test('a window that closes gives the focus back, or to the message box where its opener is gone', async () => {
  const place = add('<button id="opener">Open</button><textarea id="composer"></textarea>');
  for (const gone of [false, true]) {
    const opener = place.querySelector('button')!;
    opener.focus();
    const view = show(ShortcutsDialog, {});
    expect(document.activeElement?.tagName).toBe('H2');
    if (gone) opener.remove();
    await unmount(view);
    views.length = 0;
    expect(document.activeElement?.id).toBe(gone ? 'composer' : 'opener');
  }
});

test('in a window the focus stays in the row of what is removed, else goes to the title', async () => {
  const place = add(
    '<h2 tabindex="-1">Title</h2><ul><li><span><button>A</button></span><button class="danger">B</button><button>C</button></li></ul>',
  );
  const release = holdFocus(place, () => place.querySelector('h2'));
  const [first, , last] = place.querySelectorAll('button');
  first?.focus();
  first?.parentElement?.remove();
  await focused(() => last ?? null);
  place.querySelector('li')?.remove();
  await focused(() => place.querySelector('h2'));
  release();
});

test('in the trash the focus goes on to the next row, and back from a question that is not confirmed', async () => {
  const t = catalogues.en.trash;
  const deleted = (id: string) => ({ ...conversation({ id, title: id }), erased_at: Date.now() + 1e9 });
  vi.spyOn(api, 'trash').mockResolvedValue(['a', 'b', 'c'].map(deleted) as unknown as DeletedConversation[]);
  vi.spyOn(api, 'restoreConversation').mockResolvedValue();
  vi.spyOn(api, 'erase').mockResolvedValue();
  vi.spyOn(api, 'trainedBy').mockResolvedValue([]);
  show(TrashDialog, {});
  await vi.waitFor(() => {
    flushSync();
    expect(target.querySelectorAll('li')).toHaveLength(3);
  });
  press(t.restoreTitle('a'));
  await focused(() => button(t.restoreTitle('b')));

  press(t.eraseTitle('b'));
  await focused(() => button(t.keep));
  press(t.keep);
  await focused(() => button(t.eraseTitle('b')));
  press(t.eraseTitle('b'));
  await focused(() => button(t.keep));
  press(t.emptyConfirm);
  await focused(() => button(t.restoreTitle('c')));

  press(t.emptyAll);
  await focused(() => button(t.keep));
  press(t.keep);
  await focused(() => button(t.emptyAll));
  press(t.restoreTitle('c'));
  await focused(() => target.querySelector('h2'));
});

test('erasing all feedback asks, goes back, and ends at what it did, which is said once', async () => {
  const t = catalogues.en.feedback;
  judging.consent = { allowed: true, changed_at: null };
  vi.spyOn(api, 'consent').mockResolvedValue({ allowed: true, changed_at: null });
  vi.spyOn(api, 'erasure').mockResolvedValue({ erased: 3, trained: [] });
  vi.spyOn(api, 'eraseFeedback').mockResolvedValue({ erased: 3, trained: [] });
  show(FeedbackSettings, {});
  await vi.waitFor(() => {
    flushSync();
    expect(button(t.eraseOwn).disabled).toBe(false);
  });
  press(t.eraseOwn);
  await focused(() => button(t.keep));
  press(t.keep);
  await focused(() => button(t.eraseOwn));
  press(t.eraseOwn);
  await focused(() => button(t.keep));
  // Regression: in Chinese, what it did ended below the edge of the drawer.
  const shown: string[] = [];
  Element.prototype.scrollIntoView = function (this: Element) {
    shown.push(this.className);
  };
  press(t.eraseConfirm);
  await focused(() => target.querySelector('.erased'));
  delete (Element.prototype as Partial<Element>).scrollIntoView;
  expect(shown.some((name) => name.includes('erased'))).toBe(true);
  expect(target.textContent).toContain(t.erased(3));
  // Regression: on a phone a notice with the same words lay over it.
  expect(toasts.list).toEqual([]);
});

test('from the first version the focus goes to the button for the next one', async () => {
  const t = catalogues.en.message;
  vi.spyOn(api, 'updateConversation').mockResolvedValue(conversation());
  chat.conversation = conversation();
  chat.messages = {
    q: message({ id: 'q' }),
    a: message({ id: 'a', parent_id: 'q', role: 'assistant', content: 'One.', created_at: 1 }),
    b: message({ id: 'b', parent_id: 'q', role: 'assistant', content: 'Two.', created_at: 2 }),
  };
  chat.leaf = 'b';
  // As the list of messages has them, of which it shows one at a time.
  for (const id of ['a', 'b']) {
    target = add(`<div id="message-${id}" tabindex="-1"></div>`).querySelector('div')!;
    show(BranchSwitcher, { message: chat.messages[id]! });
  }
  press(t.previousVersion);
  target = document.getElementById('message-a')!;
  await focused(() => button(t.nextVersion));
});
