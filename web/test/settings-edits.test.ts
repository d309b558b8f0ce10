// A chat's settings while the server is out of reach, refuses them, or is slow.
import { flushSync, mount, unmount } from 'svelte';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { ApiError, NetworkError } from '$lib/api/errors';
import type { SamplingSettings, ServerStatus } from '$lib/api/types';
import { api, chat, connection, panels, preferences, session, settingsEdits, toasts } from '$lib/app.svelte';
import { catalogues, i18n } from '$lib/i18n/i18n.svelte';
import { FOR_NEW_CHATS } from '$lib/settings';
import { SettingsEdits } from '$lib/state/settings-edits.svelte';
import SettingsDrawer from '../src/components/SettingsDrawer.svelte';
import { conversation, fakeDialogs } from './fakes';

const refusal = (param: string) => new ApiError(400, 'too long', 'invalid_value', param);

describe('edits', () => {
  function setUp() {
    const save = vi.fn((_id: string, _edit: unknown) => Promise.resolve());
    const events = { save, failed: vi.fn(), refused: vi.fn() };
    return { edits: new SettingsEdits(events), ...events };
  }

  beforeEach(() => {
    vi.useFakeTimers();
    return () => vi.useRealTimers();
  });

  test('are saved once things are quiet, together', async () => {
    const { edits, save } = setUp();
    edits.change('c', { systemPrompt: 'Be' });
    edits.change('c', { settings: { seed: 1 } });
    edits.change('c', { systemPrompt: 'Be brief.', settings: { top_k: 2 } });
    await vi.advanceTimersByTimeAsync(499);
    expect(save).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(save.mock.calls).toEqual([['c', { systemPrompt: 'Be brief.', settings: { seed: 1, top_k: 2 } }]]);
    expect([edits.of('c').systemPrompt, edits.isWaiting('c')]).toEqual([null, false]);
  });

  test('stay until the server has them, and what was changed meanwhile is saved as well', async () => {
    const { edits, save, failed } = setUp();
    save.mockRejectedValueOnce(new NetworkError('offline'));
    edits.change('c', { systemPrompt: 'one' });
    await edits.saveAll();
    expect(failed).toHaveBeenCalledOnce();
    expect(edits.of('c').systemPrompt).toBe('one');
    save.mockImplementationOnce(() => (edits.change('c', { systemPrompt: 'two' }), Promise.resolve()));
    await edits.saveAll();
    expect(edits.of('c').systemPrompt).toBe('two');
    await vi.advanceTimersByTimeAsync(500);
    expect(save).toHaveBeenLastCalledWith('c', { systemPrompt: 'two', settings: {} });
    expect(edits.isWaiting('c')).toBe(false);
  });

  test('that are refused are not sent again before they are changed, and those of a chat that is gone never', async () => {
    const { edits, save, refused, failed } = setUp();
    save.mockRejectedValueOnce(refusal('settings.seed'));
    edits.change('c', { settings: { seed: -1 } });
    await edits.saveAll();
    expect([edits.refused('c'), edits.isWaiting('c'), refused.mock.calls.length]).toEqual(['seed', false, 1]);
    await edits.saveAll();
    expect(save).toHaveBeenCalledOnce();
    edits.change('c', { settings: { seed: 1 } });
    expect(edits.refused('c')).toBeNull();
    await edits.saveAll();
    expect(save).toHaveBeenCalledTimes(2);

    save.mockRejectedValueOnce(new ApiError(404, 'no such chat', 'not_found'));
    edits.change('gone', { systemPrompt: 'x' });
    await edits.saveAll();
    await edits.saveAll();
    expect([save.mock.calls.length, failed.mock.calls.length]).toEqual([3, 1]);
  });
});

describe('the drawer', () => {
  const t = catalogues.en.settings;
  let target: HTMLElement;
  let view: Record<string, unknown> | null = null;

  function open() {
    panels.show('settings');
    view = mount(SettingsDrawer, { target }) as Record<string, unknown>;
    flushSync();
  }
  async function shut() {
    if (view) await unmount(view);
    view = null;
  }
  const prompt = () => target.querySelector<HTMLTextAreaElement>('#system-prompt')!;
  function type(text: string) {
    prompt().value = text;
    prompt().dispatchEvent(new InputEvent('input', { bubbles: true }));
    flushSync();
  }
  async function pressClose() {
    target.querySelector<HTMLButtonElement>(`button[aria-label="${t.close}"]`)!.click();
    await new Promise((resolve) => setTimeout(resolve));
    flushSync();
  }

  beforeEach(() => {
    i18n.use('en', []);
    fakeDialogs();
    target = document.createElement('div');
    document.body.append(target);
    vi.spyOn(api, 'consent').mockResolvedValue({ allowed: false, changed_at: 1 });
    vi.spyOn(api, 'erasure').mockResolvedValue({ erased: 0, trained: [] });
    vi.spyOn(api, 'conversations').mockResolvedValue([]);
    vi.spyOn(api, 'models').mockResolvedValue([]);
    vi.spyOn(api, 'status').mockResolvedValue({ needs_key: false } as ServerStatus);
    const whole = { ...conversation(), messages: [], choices: [] };
    vi.spyOn(api, 'conversation').mockResolvedValue(whole);
    session.phase = 'open';
    chat.conversation = conversation();
    return async () => {
      await shut();
      // Nothing waits for the next test.
      vi.spyOn(api, 'updateConversation').mockResolvedValue(conversation());
      settingsEdits.change('c', { systemPrompt: '' });
      await settingsEdits.saveAll();
      vi.restoreAllMocks();
      chat.startNew();
      panels.close();
      toasts.clear();
      document.body.replaceChildren();
    };
  });

  // They lived in the drawer alone, and were gone when it closed.
  test('keeps what was typed while the server was out of reach, and it is saved when it is back', async () => {
    const update = vi.spyOn(api, 'updateConversation').mockRejectedValue(new NetworkError('offline'));
    open();
    type('Be brief.');
    await pressClose();
    expect(panels.open).toBeNull();
    expect(connection.lost).toBe(true);
    await shut();
    open();
    expect(prompt().value).toBe('Be brief.');
    await shut();

    update.mockReset();
    update.mockResolvedValue(conversation({ system_prompt: 'Be brief.' }));
    connection.retryNow();
    await vi.waitFor(() => expect(update).toHaveBeenCalledWith('c', { system_prompt: 'Be brief.' }));
    await vi.waitFor(() => expect(settingsEdits.isWaiting('c')).toBe(false));
  });

  test('saves it also when another chat is shown by then, with the settings that the chat has', async () => {
    const update = vi.spyOn(api, 'updateConversation').mockResolvedValue(conversation());
    const whole = conversation({ settings: { ...conversation().settings, top_k: 7 } });
    vi.spyOn(api, 'conversation').mockResolvedValue({ ...whole, messages: [], choices: [] });
    settingsEdits.change('c', { settings: { seed: 1 } });
    chat.startNew();
    await settingsEdits.saveAll();
    expect(update).toHaveBeenCalledWith('c', { settings: { top_k: 7, seed: 1 } });
  });

  test('leaves what another device has set meanwhile in the chat that is shown', async () => {
    const changed = conversation({ settings: { ...conversation().settings, top_k: 7 } });
    const update = vi.spyOn(api, 'updateConversation').mockResolvedValue(changed);
    vi.spyOn(api, 'conversation').mockResolvedValue({ ...changed, messages: [], choices: [] });
    settingsEdits.change('c', { settings: { seed: 1 } });
    await settingsEdits.saveAll();
    expect(update).toHaveBeenCalledWith('c', { settings: { top_k: 7, seed: 1 } });
  });

  // Regression: it was said as well where the reader had set another longest answer for new chats, or none.
  test('says with which longest answer new chats begin only where that is so', () => {
    preferences.update({ settings: FOR_NEW_CHATS });
    open();
    const hint = () => target.querySelector('[data-setting=max_tokens] p')?.textContent?.trim();
    const always = t.fields.max_tokens.hint;
    expect(hint()).toBe(`${always} ${t.newChatsBegin('4,096')}`);
    const others: Partial<SamplingSettings>[] = [{ max_tokens: 100 }, {}];
    for (const settings of others) {
      preferences.update({ settings });
      flushSync();
      expect(hint()).toBe(always);
    }
    preferences.update({ settings: FOR_NEW_CHATS });
  });

  // Within half a second of the last letter, nothing had been sent, and nobody was left to be told.
  test('says what the server refuses before it closes, and closes when it is pressed again', async () => {
    vi.spyOn(api, 'updateConversation').mockRejectedValue(refusal('system_prompt'));
    open();
    type('Much too long.');
    await pressClose();
    expect(panels.open).toBe('settings');
    expect(target.querySelector('#system-prompt-hint')?.textContent).toContain(
      catalogues.en.errors.field(t.systemPrompt),
    );
    expect(prompt().value).toBe('Much too long.');
    expect(toasts.list).toEqual([]);
    await pressClose();
    expect(panels.open).toBeNull();
  });

  test('does not hold anybody up while the server is slow', async () => {
    let refuse = (_: unknown): void => undefined;
    vi.spyOn(api, 'updateConversation').mockImplementation(
      () => new Promise((_, reject) => (refuse = reject)),
    );
    open();
    type('Much too long.');
    await pressClose();
    expect(panels.open).toBe('settings');
    await pressClose();
    expect(panels.open).toBeNull();
    await shut();
    // And what comes of it is said all the same.
    refuse(refusal('system_prompt'));
    await vi.waitFor(() => expect(toasts.list).toHaveLength(1));
  });
});
