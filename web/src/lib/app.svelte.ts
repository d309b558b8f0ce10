// The page's stores, made once. Components import them from here; stores do not import each other.
import { ApiClient } from './api/client';
import { ApiError, isAbort, NetworkError } from './api/errors';
import type { ModelInfo } from './api/types';
import { i18n } from './i18n/i18n.svelte';
import { Announcer } from './state/announcer.svelte';
import { Chat } from './state/chat.svelte';
import { Chats } from './state/chats.svelte';
import { Composer } from './state/composer.svelte';
import { Connection } from './state/connection.svelte';
import { ContextMeter } from './state/context.svelte';
import { Models } from './state/models.svelte';
import { Panels } from './state/panels.svelte';
import { Preferences } from './state/preferences.svelte';
import { Router } from './state/router.svelte';
import { Search } from './state/search.svelte';
import { Session } from './state/session.svelte';
import { Tabs } from './state/tabs';
import { splitThinking } from './thinking';
import { onWide } from './util/screen';
import { Toasts } from './state/toasts.svelte';

export const api = new ApiClient();
export const preferences = new Preferences();
export const toasts = new Toasts();
export const announcer = new Announcer();
export const panels = new Panels();
export const router = new Router();
export const session = new Session(api);
export const connection = new Connection(api);
export const chats = new Chats(api);
export const search = new Search(api, report);
export const context = new ContextMeter(api, report);
const tabs = new Tabs();

export const models = new Models(api, (model, event) => {
  if (event.state === 'done') toasts.show('info', i18n.t.models.done(model.title));
  if (event.state === 'failed')
    toasts.show('error', `${i18n.t.models.failed(model.title)}: ${event.error ?? ''}`);
});

export const chat: Chat = new Chat(
  api,
  {
    changed(conversation) {
      if (chats.list.some((other) => other.id === conversation.id)) chats.replace(conversation);
      else chats.put(conversation);
      if (conversation.id === chat.id && router.route.conversation === null) router.replace(conversation.id);
      tabs.tell(conversation.id);
    },
    asked() {
      if (chat.id !== null) tabs.tell(chat.id);
      announcer.say(i18n.t.message.started);
      void refreshChats();
    },
    finished(answer) {
      announcer.say(i18n.t.message.finished(splitThinking(answer.content).answer));
      tabs.tell(answer.conversation_id);
      void refreshChats();
    },
    failed: report,
  },
  () => {
    const model = currentModel();
    return {
      ...(model && { model: model.name }),
      ...(preferences.systemPrompt !== '' && { system_prompt: preferences.systemPrompt }),
      ...(Object.keys(preferences.settings).length > 0 && { settings: preferences.settings }),
    };
  },
);

export const composer = new Composer(chat, report);

/** The model that answers the next message; null when the wanted one is not on this machine. */
export function currentModel(): ModelInfo | null {
  if (chat.conversation?.model)
    return models.installed.find(({ name }) => name === chat.conversation?.model) ?? null;
  return models.choose(preferences.model, session.status?.default_model ?? null);
}

export async function switchModel(name: string): Promise<void> {
  preferences.update({ model: name });
  await chat.update({ model: name });
}

/** Shows a failure once, in the place for its kind. */
export function report(error: unknown): void {
  if (isAbort(error) || session.noticed(error)) return;
  connection.noticed(error);
  if (error instanceof NetworkError) return; // The banner says it.
  const detail = error instanceof ApiError || error instanceof Error ? error.message : String(error);
  toasts.show('error', `${i18n.t.errors.generic} ${detail}`);
}

/** Runs something that may fail; a failure is reported, never thrown. True when it went well. */
export async function attempt(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    report(error);
    return false;
  }
}

export async function start(): Promise<void> {
  await attempt(() => session.start());
  if (session.phase === 'open') await loadLists();
}

export async function loadLists(): Promise<void> {
  await Promise.all([refreshChats(), attempt(() => models.refresh())]);
}

/** The list, and the open chat's title, which the server makes from the first question. */
export async function refreshChats(): Promise<void> {
  await attempt(() => chats.refresh());
  const listed = chats.list.find((other) => other.id === chat.id);
  if (chat.conversation && listed) chat.conversation = { ...chat.conversation, title: listed.title };
}

export function newChat(): void {
  panels.drawer = false;
  panels.close();
  router.go(null);
  composer.focus();
}

/** Shows the chat that the address names. */
export async function followRoute(): Promise<void> {
  const { conversation, message } = router.route;
  chat.editing = null;
  if (conversation === null) chat.startNew();
  else if (conversation !== chat.id) {
    try {
      await chat.open(conversation);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) return report(error);
      toasts.show('error', i18n.t.chat.notFound);
      return router.go(null);
    }
  }
  if (message !== null) chat.reveal(message);
}

export async function deleteChat(id: string, title: string): Promise<void> {
  let undo: (() => Promise<void>) | undefined;
  if (!(await attempt(async () => (undo = await chats.delete(id))))) return;
  const wasOpen = router.route.conversation === id;
  if (wasOpen) router.go(null);
  const restore = async () => {
    if ((await attempt(async () => undo?.())) && wasOpen) router.go(id);
  };
  toasts.show('info', i18n.t.chat.deleted(title), { label: i18n.t.chat.undo, run: () => void restore() });
}

connection.onRestored(() => {
  toasts.show('info', i18n.t.connection.restored);
  void (session.phase === 'open' ? loadLists() : start());
  void attempt(() => chat.reload());
});

// A wide page has the list beside the chat: nothing lies over it any more.
onWide(() => (panels.drawer = false));

tabs.onChange(({ conversation }) => {
  void refreshChats();
  if (conversation === chat.id && !chat.sending) void attempt(() => chat.reload());
});
