// The open chat: its tree of messages, the path that is shown, and the answers that are still growing.
// It calls the server through ApiClient and imports no component.
import type { ApiClient } from '../api/client';
import { followAnswer } from '../api/follow';
import type {
  Choice,
  Conversation,
  ConversationPatch,
  Id,
  Judgement,
  Message,
  NewConversation,
} from '../api/types';
import { ApiError } from '../api/errors';
import { isJudgeable } from '../feedback';
import { MODEL_DEFAULTS } from '../settings';
import { isHidden } from '../util/screen';
import { codePoints } from '../util/text';
import { keptPair, keepPair, type Pair } from './pair';
import { newestLeaf, openingLeaf, pathTo, Versions } from '../tree';

export interface ChatEvents {
  /** A conversation was created or changed on the server. */
  changed(conversation: Conversation): void;
  /** A question or another answer was taken. */
  asked(): void;
  finished(answer: Message): void;
  /** An answer was judged, or one chosen from two; null where nothing is known of its chat, which is not open any more. */
  judged(conversation: Id | null): void;
  failed(error: unknown): void;
}

/** How a conversation that does not exist yet will begin. */
export type Beginning = () => NewConversation;

/** Milliseconds between two drawings of a growing answer. */
const DRAWING_PAUSE = 100;

export class Chat {
  conversation: Conversation | null = $state.raw(null);
  messages: Record<Id, Message> = $state({});
  leaf: Id | null = $state(null);
  loading = $state(false);
  /** The chat that is to be open and is not: it is being read, or could not be. No question goes anywhere meanwhile. */
  wanted: Id | null = $state(null);
  /** It could not be read, and may be asked for again. */
  unread = $state(false);
  sending = $state(false);
  /** The question that is being edited. */
  editing: Id | null = $state(null);
  /** What was chosen between the answers of this chat. */
  choices: Choice[] = $state.raw([]);
  #pair: Pair | null = $state.raw(null);
  readonly path: Message[] = $derived(pathTo(this.messages, this.leaf));
  readonly #versions = $derived(new Versions(this.messages));
  readonly last: Message | null = $derived(this.path.at(-1) ?? null);
  /** The two answers that are shown side by side, the earlier first, where the path comes to one of them. */
  readonly pair: readonly [Message, Message] | null = $derived.by(() => {
    const [left, right] = (this.#pair ?? []).map((id) => this.messages[id]);
    if (!left || !right || !this.path.some(({ id }) => id === left.id || id === right.id)) return null;
    return [left, right];
  });
  readonly #allGrowing: Message[] = $derived(
    [...(this.pair ?? []), ...(this.last && !this.#pair?.includes(this.last.id) ? [this.last] : [])].filter(
      ({ status }) => status === 'generating',
    ),
  );
  /** An answer in sight that is being written. */
  readonly growing: Message | null = $derived(this.#allGrowing[0] ?? null);

  readonly #api: ApiClient;
  readonly #events: ChatEvents;
  readonly #beginning: Beginning;
  /** One per answer being followed. */
  readonly #following = new Map<Id, AbortController>();
  /** Grows when the reader goes to another chat. */
  #opening = 0;
  /** Grows with every reading of the chat from the server: only the latest counts. */
  #reading = 0;
  /** In which reading each answer was judged, and something chosen: a list that was on its way by then does not know. */
  readonly #judged = new Map<Id, number>();
  #chose = 0;

  constructor(api: ApiClient, events: ChatEvents, beginning: Beginning) {
    this.#api = api;
    this.#events = events;
    this.#beginning = beginning;
  }

  get id(): Id | null {
    return this.conversation?.id ?? null;
  }

  siblings(message: Message): readonly Message[] {
    return this.#versions.of(message);
  }

  /** An empty chat that becomes real with its first message. */
  startNew(): void {
    this.#opening++;
    this.unfollowAll();
    this.#clear();
    this.loading = this.unread = false;
    this.wanted = null;
  }

  #clear(): void {
    this.conversation = null;
    this.messages = {};
    this.leaf = null;
    this.choices = [];
    this.#pair = null;
    this.#judged.clear();
    this.#chose = 0;
  }

  async open(id: Id): Promise<void> {
    if (this.id !== id) {
      this.#opening++;
      this.unfollowAll();
      this.#clear();
      // Asked for again, it stays unread until it is there.
      if (this.wanted !== id) this.unread = false;
      this.wanted = id;
    }
    const opening = this.#opening;
    const reading = ++this.#reading;
    const isCurrent = () => opening === this.#opening && reading === this.#reading;
    this.loading = true;
    try {
      const { messages, choices, ...conversation } = await this.#api.conversation(id);
      if (!isCurrent()) return;
      this.#take(conversation, messages, reading);
      this.#takeChoices(choices, reading);
      this.wanted = null;
      this.unread = false;
    } catch (error) {
      const isGone = error instanceof ApiError && error.status === 404;
      if (isCurrent() && this.wanted !== null && !isGone) this.unread = true;
      throw error;
    } finally {
      if (isCurrent()) this.loading = false;
    }
  }

  /** The same chat as the server has it now: another tab or the server changed it. */
  async reload(): Promise<void> {
    if (this.id !== null) await this.open(this.id);
  }

  /** `twice`: a second answer beside the first. */
  async ask(content: string, twice = false): Promise<void> {
    await this.#ask(this.leaf, content, twice);
  }

  /** A new branch beside `question`; the old one stays. False when nothing was sent: another message is on its way. */
  async edit(question: Message, content: string, twice = false): Promise<boolean> {
    if (this.sending) return false;
    await this.#ask(question.parent_id, content, twice);
    return true;
  }

  async regenerate(answer: Message): Promise<void> {
    await this.#begin(async () => {
      const { answer: fresh } = await this.#api.regenerate(answer.id);
      return [fresh];
    });
  }

  /** Another answer to the same question, shown beside this one; the chat stays on this one until the reader chooses. */
  async compare(answer: Message, model?: string): Promise<void> {
    const fresh = await this.#begin(
      async () => [(await this.#api.regenerate(answer.id, model)).answer],
      false,
    );
    if (!fresh) return;
    this.#show([answer.id, fresh.id]);
    // The server takes the newest answer for the one that is shown.
    const { leaf } = this;
    if (leaf === null) return;
    // The answer has begun, whatever becomes of where the chat opens the next time.
    await this.update({ current_leaf: leaf }).catch((error: unknown) => this.#events.failed(error));
  }

  /** Another answer in the place of one of two that broke off, or two in the place of both. */
  async replaceBroken(pair: readonly [Message, Message]): Promise<void> {
    const [broken, other] = pair.filter((answer) => !isJudgeable(answer));
    const whole = pair.find(isJudgeable);
    if (!broken) return;
    if (whole) {
      // The new one stands beside it: the chat is on a path that comes to one of the two.
      if (!this.path.some(({ id }) => id === whole.id)) this.leaf = newestLeaf(this.messages, whole.id);
      return this.compare(whole, broken.model ?? undefined);
    }
    const model = broken.model ?? undefined;
    const fresh = await this.#begin(async () => [(await this.#api.regenerate(broken.id, model)).answer]);
    if (fresh && other) await this.compare(fresh, other.model ?? undefined);
  }

  /** Shows two answers that are there already side by side. */
  lookAtBoth(one: Message, other: Message): void {
    const ids = this.siblings(one).map(({ id }) => id);
    const inOrder = ids.indexOf(one.id) < ids.indexOf(other.id);
    this.#show(inOrder ? [one.id, other.id] : [other.id, one.id]);
  }

  /** One of two again: that which the chat goes on with. */
  endComparison(): void {
    this.#show(null);
  }

  /** The chat goes on with the answer that is better. */
  async choose(chosen: Message, rejected: Message): Promise<void> {
    const choice = await this.#api.choose(chosen.id, [rejected.id]);
    const isOpen = this.messages[chosen.id] !== undefined;
    // Of another chat, the list that is on its way is not older than that.
    if (isOpen) this.#chose = this.#reading;
    // What comes back names all that the answer was ever chosen over.
    const others = this.#without([chosen.id, rejected.id]).filter((one) => one.chosen !== chosen.id);
    if (isOpen) this.choices = [...others, choice];
    this.#events.judged(chosen.conversation_id);
    // Saved late, it leaves a reader alone who looks at something else by then, or at one of the two beside a third.
    if (!isOpen || ![chosen, rejected].every(({ id }) => this.#pair?.includes(id))) return;
    this.endComparison();
    // The choice is saved, whatever becomes of where the chat opens the next time.
    await this.show(chosen).catch((error: unknown) => this.#events.failed(error));
  }

  async forgetChoice(chosen: Message): Promise<void> {
    await this.#api.forgetChoice(chosen.id);
    if (this.messages[chosen.id]) this.#chose = this.#reading;
    this.choices = this.choices.filter((choice) => choice.chosen !== chosen.id);
    this.#events.judged(chosen.conversation_id);
  }

  /** What the reader says of an answer, in place of what was said before; null takes all of it back. */
  async judge(answer: Id, judgement: Judgement | null): Promise<void> {
    const known = this.messages[answer];
    const feedback = judgement && (await this.#api.judge(answer, judgement));
    if (judgement === null) await this.#api.forgetJudgement(answer);
    const message = this.messages[answer];
    if (message) {
      this.#judged.set(answer, this.#reading);
      message.feedback = feedback;
    }
    this.#events.judged((message ?? known)?.conversation_id ?? null);
  }

  async stop(): Promise<void> {
    const stopping = this.#allGrowing.map(async ({ id }) => {
      const stopped = await this.#api.stop(id);
      if (stopped.status !== 'generating') this.#finish(stopped);
    });
    await Promise.all(stopping);
  }

  /** Shows the branch of `message`, at its newest leaf, and lets the server remember it. */
  async show(message: Message): Promise<void> {
    this.leaf = newestLeaf(this.messages, message.id);
    if (this.id !== null) await this.update({ current_leaf: this.leaf });
  }

  /** For a search hit: the branch that holds `message`, if it is not shown already. */
  reveal(id: Id): void {
    if (this.messages[id] && !this.path.some((message) => message.id === id)) {
      this.leaf = newestLeaf(this.messages, id);
    }
  }

  async update(patch: ConversationPatch): Promise<void> {
    const { conversation } = this;
    if (!conversation) return;
    this.conversation = patched(conversation, patch);
    try {
      const changed = await this.#api.updateConversation(conversation.id, patch);
      if (this.id === conversation.id) this.conversation = { ...this.conversation, ...changed };
      this.#events.changed(changed);
    } catch (error) {
      if (this.id === conversation.id) this.conversation = conversation;
      throw error;
    }
  }

  async #ask(parent: Id | null, content: string, twice: boolean): Promise<void> {
    const opening = this.#opening;
    const answer = await this.#begin(async () => {
      if (this.id !== null) {
        const { user, answer } = await this.#api.ask(this.id, { parent_id: parent, content });
        return [user, answer];
      }
      // Conversation and question in one: what is refused leaves nothing behind.
      const { conversation, user, answer } = await this.#api.askFirst({ ...this.#beginning(), content });
      if (opening === this.#opening) this.conversation = conversation;
      this.#events.changed(conversation);
      return [user, answer];
    });
    // The question was taken: what becomes of the second answer does not change that.
    if (twice && answer) await this.compare(answer).catch((error: unknown) => this.#events.failed(error));
  }

  /** `send` returns the new messages, the answer last; so does this, unless the reader has gone to another chat. */
  async #begin(send: () => Promise<Message[]>, showIt = true): Promise<Message | undefined> {
    if (this.sending) return undefined;
    this.sending = true;
    const opening = this.#opening;
    try {
      const messages = await send();
      // The reader may have gone to another chat meanwhile; the answer goes on without us.
      if (opening !== this.#opening) return undefined;
      for (const message of messages) this.#put(message);
      const answer = messages.at(-1);
      if (!answer) return undefined;
      if (showIt) {
        this.endComparison();
        this.leaf = answer.id;
      }
      if (answer.status === 'generating') this.#follow(answer.id);
      this.#events.asked();
      return answer;
    } finally {
      this.sending = false;
    }
  }

  #show(pair: Pair | null): void {
    this.#pair = pair;
    if (this.id !== null) keepPair(this.id, pair);
  }

  #isChosen(pair: Pair): boolean {
    return this.choices.some(
      ({ chosen, rejected }) => pair.includes(chosen) && rejected.some((id) => pair.includes(id)),
    );
  }

  /** The choices but those between these two. */
  #without(pair: Pair): Choice[] {
    const isOther = (chosen: Id, rejected: Id) => !pair.includes(chosen) || !pair.includes(rejected);
    return this.choices
      .map((one) => ({ ...one, rejected: one.rejected.filter((id) => isOther(one.chosen, id)) }))
      .filter(({ rejected }) => rejected.length > 0);
  }

  #takeChoices(choices: Choice[], reading: number): void {
    const open = this.#pair !== null && !this.#isChosen(this.#pair);
    if (this.#chose < reading) this.choices = choices;
    // Chosen in another window.
    if (open && this.#pair && this.#isChosen(this.#pair)) this.#show(null);
    const kept = this.id === null || this.#pair !== null ? null : keptPair(this.id);
    if (kept?.every((id) => this.messages[id]) && !this.#isChosen(kept)) this.#pair = kept;
  }

  #take(conversation: Conversation, messages: Message[], reading: number): void {
    this.conversation = conversation;
    // Messages are never removed: one that is not in the list was added while the list was on its way.
    const kept: Record<Id, Message> = { ...this.messages };
    for (const message of messages) {
      // An answer that we follow is ahead of what the server had when it wrote this list.
      const ours = this.#following.has(message.id) ? this.messages[message.id] : undefined;
      kept[message.id] = ours && message.status === 'generating' ? ours : message;
      const judged = this.messages[message.id]?.feedback ?? null;
      if ((this.#judged.get(message.id) ?? 0) >= reading) kept[message.id] = { ...message, feedback: judged };
    }
    this.messages = kept;
    // A chat that is open stays on the branch that its reader looks at, and shows how that goes on; which branch another tab
    // has turned to is that tab's matter.
    const shown = this.leaf !== null && kept[this.leaf] ? this.leaf : conversation.current_leaf;
    this.leaf = openingLeaf(kept, shown);
    for (const message of messages) {
      if (message.status === 'generating') this.#follow(message.id);
      else this.#unfollow(message.id);
    }
  }

  #put(message: Message): void {
    this.messages[message.id] = message;
  }

  /** A window that nobody sees takes none of the browser's few connections to the server: `followAll` makes up for it. */
  #follow(id: Id): void {
    if (isHidden() || this.#following.has(id)) return;
    const controller = new AbortController();
    this.#following.set(id, controller);
    // The first text is drawn at once, and then what came in a while, however many pieces it was: every drawing costs the same.
    let waiting = '';
    let scheduled = false;
    let drawn = -Infinity;
    const flush = () => {
      scheduled = false;
      drawn = performance.now();
      const message = this.messages[id];
      if (message && waiting !== '' && !controller.signal.aborted) message.content += waiting;
      waiting = '';
    };
    const observer = {
      text: (text: string) => {
        waiting += text;
        if (scheduled) return;
        scheduled = true;
        const rest = drawn + DRAWING_PAUSE - performance.now();
        if (rest > 0) setTimeout(() => nextFrame(flush), rest);
        else nextFrame(flush);
      },
      done: (message: Message) => {
        flush();
        this.#finish(message);
      },
      lost: (error: unknown) => this.#events.failed(error),
    };
    const shown = codePoints(this.messages[id]?.content ?? '');
    followAnswer(this.#api, id, shown, observer, controller.signal)
      .catch((error: unknown) => this.#events.failed(error))
      .finally(() => this.#following.get(id) === controller && this.#following.delete(id));
  }

  #finish(message: Message): void {
    if (!this.messages[message.id]) return;
    const wasGrowing = this.messages[message.id]?.status === 'generating';
    this.#unfollow(message.id);
    this.#put(message);
    if (wasGrowing) this.#events.finished(message);
  }

  #unfollow(id: Id): void {
    this.#following.get(id)?.abort();
    this.#following.delete(id);
  }

  /** The answers go on without us, until `followAll`. */
  unfollowAll(): void {
    for (const id of [...this.#following.keys()]) this.#unfollow(id);
  }

  /** Follows every answer that is being written from where it stands here, whether or not the chat can be read again now. */
  followAll(): void {
    for (const { id, status } of Object.values(this.messages)) if (status === 'generating') this.#follow(id);
  }
}

/** The conversation as the server will have it: null keeps a title, a model and a leaf, and settings are replaced whole. */
function patched(conversation: Conversation, patch: ConversationPatch): Conversation {
  return {
    ...conversation,
    title: patch.title ?? conversation.title,
    model: patch.model ?? conversation.model,
    current_leaf: patch.current_leaf ?? conversation.current_leaf,
    system_prompt: patch.system_prompt === undefined ? conversation.system_prompt : patch.system_prompt,
    settings: patch.settings === undefined ? conversation.settings : { ...MODEL_DEFAULTS, ...patch.settings },
  };
}

/** Hidden tabs get no frames; their text must not wait for ever. */
function nextFrame(run: () => void): void {
  if (typeof document === 'undefined' || isHidden()) setTimeout(run, 50);
  else requestAnimationFrame(run);
}
