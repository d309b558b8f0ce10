// The page's stores, made once. Components import them from here; stores do not import each other.
import { tick } from 'svelte';
import { ApiClient } from './api/client';
import { ApiError, isAbort, isModelGone, NetworkError } from './api/errors';
import { heardAtEnd } from './ended';
import { explain } from './problems';
import { given } from './settings';
import type { Conversation, ConversationPatch, Id, ModelInfo, SamplingSettings } from './api/types';
import { i18n } from './i18n/i18n.svelte';
import { Announcer } from './state/announcer.svelte';
import { Chat } from './state/chat.svelte';
import { Beginning } from './state/beginning.svelte';
import { Chats } from './state/chats.svelte';
import { Choosing } from './state/choosing.svelte';
import { Composer } from './state/composer.svelte';
import { Connection } from './state/connection.svelte';
import { readDraft } from './state/drafts';
import { ContextMeter } from './state/context.svelte';
import { Improving } from './state/improving.svelte';
import { Judging } from './state/judging.svelte';
import { Models } from './state/models.svelte';
import { Panels } from './state/panels.svelte';
import { Preferences } from './state/preferences.svelte';
import { Router, type Route } from './state/router.svelte';
import { Search } from './state/search.svelte';
import { rememberOwner, forgetOwner } from './state/owner';
import { Session } from './state/session.svelte';
import { SettingsEdits, type SettingsEdit } from './state/settings-edits.svelte';
import { Tabs } from './state/tabs';
import { focusFirst, focusMessage, isFocusLost } from './util/focus';
import { onWide } from './util/screen';
import { stopKeeping } from './util/storage';
import { Toasts } from './state/toasts.svelte';

export const api = new ApiClient();
export const preferences = new Preferences();
export const toasts = new Toasts();
export const announcer = new Announcer();
export const panels = new Panels();
export const router = new Router();
export const session = new Session(api, { locked: hidePerson, left: leave });
export const connection = new Connection(api);
// Whoever asks, also where what failed is said in its own place.
api.onUnreachable((error) => connection.noticed(error));
// Where nobody is logged in, what the page does next is for the status to say, for which the connection asks itself.
api.onReached(() => session.phase === 'open' && connection.reached());
export const chats = new Chats(api, report);
export const search = new Search(api, report);
export const context = new ContextMeter(api, (error) => {
  // Above the message box it says that the model is missing.
  if (isModelGone(error)) void refreshModels();
  else report(error);
});
/** How the chat on the start page will begin. */
export const beginning = new Beginning(preferences);
/** For operators. */
export const improving = new Improving(api, report);
const tabs = new Tabs();

export const models = new Models(api, (model, event) => {
  if (event.state === 'done') toasts.show('info', i18n.t.models.done(model.title));
  if (event.state === 'failed') toasts.show('error', pullFailure(model, event));
});

export const chat: Chat = new Chat(
  api,
  {
    changed(conversation) {
      if (chats.list.some((other) => other.id === conversation.id)) chats.replace(conversation);
      else chats.put(conversation);
      if (conversation.id === chat.id && router.route.conversation === null) {
        composer.becomes(conversation.id);
        router.replace(conversation.id);
      }
      tabs.tell('changed', conversation.id);
    },
    asked() {
      if (chat.id !== null) tabs.tell('changed', chat.id);
      announcer.say(i18n.t.message.started);
      void refreshChats();
    },
    finished(answer) {
      announcer.say(heardAtEnd(answer));
      tabs.tell('changed', answer.conversation_id);
      void refreshChats();
    },
    judged(conversation) {
      if (conversation !== null) tabs.tell('changed', conversation);
    },
    failed: report,
  },
  () => {
    const model = currentModel();
    return {
      ...(model && { model: model.name }),
      ...(beginning.systemPrompt !== '' && { system_prompt: beginning.systemPrompt }),
      ...(Object.keys(beginning.settings).length > 0 && { settings: beginning.settings }),
    };
  },
);

export const composer = new Composer(chat, report, router.route.conversation, () => preferences.twoAnswers);
export const settingsEdits = new SettingsEdits({
  save: saveSettings,
  failed: report,
  refused(conversation, error) {
    // Where the settings are open, the field says it.
    if (panels.open !== 'settings' || conversation !== chat.id) report(error);
  },
});
export const judging = new Judging(
  api,
  (answer, judgement) => chat.judge(answer, judgement),
  report,
  noticed,
);
export const choosing = new Choosing({
  save: (chosen, rejected) => chat.choose(chosen, rejected),
  async saved(chosen) {
    announcer.say(i18n.t.feedback.choiceSaved);
    await focusMessage(chosen.id);
    await judging.wonder(chosen.id);
  },
  failed(error, chosen) {
    // Where the two are shown, it stands below them.
    const isShown = chat.pair?.some(({ id }) => id === chosen.id) ?? false;
    const isGone = error instanceof ApiError && error.status === 404;
    if (isShown && !isGone) noticed(error);
    else report(error);
  },
  async lookAgain(chosen) {
    // Another chat is read when it is opened.
    if (chat.id === chosen.conversation_id) await attempt(() => chat.reload());
  },
});

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

async function saveSettings(id: Id, { systemPrompt, settings }: SettingsEdit): Promise<void> {
  // Settings are replaced whole; what another window or device has changed meanwhile stays.
  const patch = (kept: Partial<SamplingSettings>): ConversationPatch => ({
    ...(systemPrompt !== null && { system_prompt: systemPrompt }),
    ...(Object.keys(settings).length > 0 && { settings: given({ ...kept, ...settings }) }),
  });
  // Read now: what the page has may be from before an outage.
  const kept = Object.keys(settings).length > 0 ? (await api.conversation(id)).settings : {};
  if (chat.id === id) return chat.update(patch(kept));
  chats.replace(await api.updateConversation(id, patch(kept)));
  tabs.tell('changed', id);
}

/** The session has ended by itself: nothing of the person is shown or read out any more, and what is written is kept. */
function hidePerson(): void {
  chat.unfollowAll();
  toasts.clear();
  announcer.say('');
}

/** The person has left: what is in memory goes with the page, also that which is still on its way. */
function leave(): void {
  forgetOwner();
  tabs.tellLeft();
  startOver();
}

function startOver(): void {
  stopKeeping();
  chat.startNew();
  router.restart();
}

/** What a failure means for the whole page. False where whatever failed has to say it. */
export function noticed(error: unknown): boolean {
  if (isAbort(error) || session.noticed(error)) return true;
  connection.noticed(error);
  if (isModelGone(error)) void refreshModels();
  return error instanceof NetworkError; // The banner says it.
}

/** Shows a failure once, in the place for its kind. */
export function report(error: unknown): void {
  if (noticed(error)) return;
  if (error instanceof ApiError && error.status === 404 && error.code === 'not_found' && chat.id !== null)
    void leaveIfGone(chat.id, error);
  else toasts.show('error', explain(error));
}

let asking: Id | null = null;

/** Something of the open chat was not found. If the chat itself is gone, that is all there is to say, and it is said once. */
async function leaveIfGone(id: Id, error: ApiError): Promise<void> {
  if (asking === id) return;
  asking = id;
  try {
    await api.conversation(id);
    toasts.show('error', explain(error));
  } catch (now) {
    if (now instanceof ApiError && now.status === 404) leaveGone(id, i18n.t.chat.notFound);
  } finally {
    asking = null;
  }
}

/** The open chat is gone; what was being written in it is not. */
function leaveGone(id: Id, notice: string, action?: { label: string; run: () => unknown }): void {
  void refreshChats();
  if (router.route.conversation !== id) return;
  if (composer.text !== '' && readDraft(null) === '') composer.moveTo(null);
  router.go(null);
  toasts.show(action ? 'info' : 'error', notice, action, id);
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

/** Of what somebody has pressed: that nothing came of it is said as well where the server is away. */
export function reportUndone(error: unknown): void {
  report(error);
  if (error instanceof NetworkError) toasts.show('error', i18n.t.connection.notDone);
}

/** Runs what somebody has pressed. True when it went well. */
export async function act(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    reportUndone(error);
    return false;
  }
}

export async function start(): Promise<void> {
  await attempt(() => session.start());
  if (session.phase === 'open') await catchUp();
}

/** What happened while the server was out of reach, or nobody logged in; what was to be saved then is saved now. */
export async function catchUp(): Promise<void> {
  // Saved first: a chat that is read before that has its old settings.
  const allIsSaved = Promise.all([settingsEdits.saveAll(), judging.saveAll(), choosing.saveAll()]);
  await Promise.all([loadLists(), allIsSaved.then(readChat)]);
}

/** The open chat as the server has it now or, where the one that the address names could not be read yet, that one. */
async function readChat(): Promise<void> {
  if (chat.wanted === null) await attempt(() => chat.reload());
  else if (!chat.loading) await followRoute();
}

/** False when the server does not know the key. */
export async function logIn(key: string): Promise<boolean> {
  const isKnown = await session.login(key);
  // Where it is somebody else than before, the page is loaded anew.
  if (session.phase !== 'open') return isKnown;
  tabs.tellEntered();
  await catchUp();
  return isKnown;
}

/** Somebody was let in in another window: the same person goes on here, and for another this window begins as a new one would. */
export async function enterIfLetIn(): Promise<void> {
  if (!(await session.isLetIn())) return;
  const isOwn = (listed: readonly Conversation[]) =>
    listed.some(({ id }) => chats.list.some((own) => own.id === id));
  const goesOn = await session.goOn(isOwn);
  if (goesOn) return catchUp();
  if (goesOn === false) router.reload();
}

/**
 * The window was hidden, or is seen again. A browser opens six connections to one server for all of its windows: one that nobody
 * sees holds none. What happened meanwhile, on another device too, is read when it comes back.
 */
export function cameOrWent(): void {
  if (session.phase === 'locked' && !document.hidden) void enterIfLetIn();
  if (session.phase !== 'open') return;
  if (document.hidden) {
    chat.unfollowAll();
    models.unwatch();
    return;
  }
  // First from where it stands here: reading anew may be refused, or wait for a question that is on its way.
  chat.followAll();
  models.watch();
  void refreshChats();
  void refreshModels();
  if (!chat.sending) void readChat();
}

async function loadLists(): Promise<void> {
  await Promise.all([refreshChats(), refreshModels()]);
}

/** The models that there are now: one that was open to choice may have been removed elsewhere. */
export function refreshModels(): Promise<boolean> {
  return attempt(() => models.refresh());
}

/** The list, and the open chat's title, which the server makes from the first question. */
export async function refreshChats(): Promise<void> {
  if (await attempt(() => chats.refresh())) rememberOwner(chats.list);
  const listed = chats.list.find((other) => other.id === chat.id);
  if (chat.conversation && listed) chat.conversation = { ...chat.conversation, title: listed.title };
}

export function newChat(): void {
  panels.drawer = false;
  panels.close();
  router.go(null);
  composer.focus();
}

let followed: Route | null = null;

/** Shows the chat that the address names. */
export async function followRoute(): Promise<void> {
  const { conversation, message } = router.route;
  // Not so when the same person logs in again: what was begun or edited goes on.
  const isNew = router.route !== followed;
  followed = router.route;
  if (isNew) chat.editing = null;
  composer.open(conversation);
  if (conversation === null) {
    if (isNew) beginning.reset();
    chat.startNew();
  }
  if (conversation !== null && conversation !== chat.id) {
    try {
      await chat.open(conversation);
    } catch (error) {
      // The reader has gone on to another chat meanwhile, and stays there.
      if (router.route.conversation !== conversation) return void noticed(error);
      if (!(error instanceof ApiError && error.status === 404)) return report(error);
      toasts.show('error', i18n.t.chat.notFound);
      return router.go(null);
    }
  }
  if (message !== null) chat.reveal(message);
}

export async function renameChat(id: Id, title: string): Promise<void> {
  const renamed = await chats.rename(id, title);
  if (chat.id === id && chat.conversation) chat.conversation = { ...chat.conversation, title: renamed.title };
  tabs.tell('changed', id);
}

export async function deleteChat(id: Id, title: string): Promise<void> {
  const trained = await trainedBy(id);
  if (!(await act(() => chats.delete(id)))) return;
  const wasOpen = router.route.conversation === id;
  if (wasOpen) router.go(null);
  tabs.tell('deleted', id);
  const { chat: words, feedback } = i18n.t;
  const notices = [words.deleted(title), ...(trained.length > 0 ? [feedback.learned(trained)] : [])];
  const undo = { label: i18n.t.chat.undo, run: () => undoDeletion(id, wasOpen) };
  toasts.show('info', notices.join(i18n.t.feedback.noticeBreak), undo, id);
}

/** The improvements that learned from a chat's feedback; empty when the chat itself is gone, which whatever follows will say. */
export async function trainedBy(id: Id): Promise<string[]> {
  try {
    return await api.trainedBy(id);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) report(error);
    return [];
  }
}

export async function restoreChat(id: Id, show = false): Promise<boolean> {
  if (!(await act(() => chats.restore(id)))) return false;
  tabs.tell('restored', id);
  toasts.settle(id);
  if (show) router.go(id);
  return true;
}

/** The chat is back in the list, and has the focus that its notice had. */
async function undoDeletion(id: Id, show: boolean): Promise<void> {
  if (!(await restoreChat(id, show))) return;
  await tick();
  if (isFocusLost()) focusFirst(document.getElementById(`chat-${id}`));
}

/** A new chat with copies of the turns between two messages; what waits in the composer goes along. */
export async function continueWithTurns(id: Id, from: Id, to: Id): Promise<void> {
  const made = await api.continueConversation(id, { from_id: from, parent_id: to });
  chats.put(made);
  tabs.tell('changed', made.id);
  composer.moveTo(made.id);
  router.go(made.id);
}

/** A new chat that knows the old one by its summary; what waits in the composer goes along. */
export function continueWithSummary(old: Conversation, summary: string): void {
  const { heading } = i18n.t.continuation;
  const systemPrompt = [old.system_prompt ?? '', `${heading}\n${summary}`]
    .filter((text) => text !== '')
    .join('\n\n');
  beginning.prepare({ systemPrompt, settings: given(old.settings) });
  preferences.update({ model: old.model });
  composer.moveTo(null);
  newChat();
}

/** Why a download failed, in the page's language. */
export function pullFailure(model: ModelInfo, pull: { error: string | null }): string {
  return i18n.t.models.failed(model.title, i18n.t.errors.detail(pull.error ?? ''));
}

connection.onRestored(() => {
  toasts.show('info', i18n.t.connection.restored);
  void (session.phase === 'open' ? catchUp() : start());
});

// A wide page has the list beside the chat: nothing lies over it any more.
onWide(() => (panels.drawer = false));

tabs.onChange((change) => {
  if (change.kind === 'left') return startOver();
  if (change.kind === 'entered') return void enterIfLetIn();
  if (session.phase !== 'open') return;
  const { kind, conversation } = change;
  if (kind === 'deleted' && conversation === router.route.conversation) {
    const title = chat.conversation?.title || i18n.t.chat.untitled;
    return leaveGone(conversation, i18n.t.chat.deletedElsewhere(title), {
      label: i18n.t.chat.undo,
      run: () => undoDeletion(conversation, true),
    });
  }
  if (kind === 'restored') toasts.settle(conversation);
  void refreshChats();
  // A window that nobody sees reads the chat when it is looked at.
  if (kind === 'changed' && conversation === chat.id && !document.hidden) void attempt(() => chat.reload());
});
