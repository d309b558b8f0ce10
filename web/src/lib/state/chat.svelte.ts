// The open chat: its tree of messages, the path that is shown, and the answers that are still growing.
// It calls the server through ApiClient and imports no component.
import type { ApiClient } from '../api/client';
import { followAnswer } from '../api/follow';
import type { Conversation, ConversationPatch, Id, Message, NewConversation } from '../api/types';
import { MODEL_DEFAULTS } from '../settings';
import { codePoints } from '../util/text';
import { newestLeaf, openingLeaf, pathTo, Versions } from '../tree';

export interface ChatEvents {
  /** A conversation was created or changed on the server. */
  changed(conversation: Conversation): void;
  /** A question or another answer was taken. */
  asked(): void;
  finished(answer: Message): void;
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
  sending = $state(false);
  /** The question that is being edited. */
  editing: Id | null = $state(null);
  readonly path: Message[] = $derived(pathTo(this.messages, this.leaf));
  readonly #versions = $derived(new Versions(this.messages));
  readonly last: Message | null = $derived(this.path.at(-1) ?? null);
  readonly growing: Message | null = $derived(this.last?.status === 'generating' ? this.last : null);

  readonly #api: ApiClient;
  readonly #events: ChatEvents;
  readonly #beginning: Beginning;
  /** One per answer being followed. */
  readonly #following = new Map<Id, AbortController>();
  /** Grows when the reader goes to another chat. */
  #opening = 0;
  /** Grows with every reading of the chat from the server: only the latest counts. */
  #reading = 0;

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
    this.#unfollowAll();
    this.conversation = null;
    this.messages = {};
    this.leaf = null;
    this.loading = false;
  }

  async open(id: Id): Promise<void> {
    if (this.id !== id) {
      this.#opening++;
      this.#unfollowAll();
      this.conversation = null;
      this.messages = {};
      this.leaf = null;
    }
    const opening = this.#opening;
    const reading = ++this.#reading;
    const isCurrent = () => opening === this.#opening && reading === this.#reading;
    this.loading = true;
    try {
      const { messages, ...conversation } = await this.#api.conversation(id);
      if (isCurrent()) this.#take(conversation, messages);
    } finally {
      if (isCurrent()) this.loading = false;
    }
  }

  /** The same chat as the server has it now: another tab or the server changed it. */
  async reload(): Promise<void> {
    if (this.id !== null) await this.open(this.id);
  }

  async ask(content: string): Promise<void> {
    await this.#ask(this.leaf, content);
  }

  /** A new branch beside `question`; the old one stays. */
  async edit(question: Message, content: string): Promise<void> {
    await this.#ask(question.parent_id, content);
  }

  async regenerate(answer: Message): Promise<void> {
    await this.#begin(async () => {
      const { answer: fresh } = await this.#api.regenerate(answer.id);
      return [fresh];
    });
  }

  async stop(): Promise<void> {
    const answer = this.growing;
    if (!answer) return;
    const stopped = await this.#api.stop(answer.id);
    if (stopped.status !== 'generating') this.#finish(stopped);
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

  async #ask(parent: Id | null, content: string): Promise<void> {
    const opening = this.#opening;
    await this.#begin(async () => {
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
  }

  /** `send` returns the new messages, the answer last. */
  async #begin(send: () => Promise<Message[]>): Promise<void> {
    if (this.sending) return;
    this.sending = true;
    const opening = this.#opening;
    try {
      const messages = await send();
      // The reader may have gone to another chat meanwhile; the answer goes on without us.
      if (opening !== this.#opening) return;
      for (const message of messages) this.#put(message);
      const answer = messages.at(-1);
      if (!answer) return;
      this.leaf = answer.id;
      if (answer.status === 'generating') this.#follow(answer.id);
      this.#events.asked();
    } finally {
      this.sending = false;
    }
  }

  #take(conversation: Conversation, messages: Message[]): void {
    this.conversation = conversation;
    // Messages are never removed: one that is not in the list was added while the list was on its way.
    const kept: Record<Id, Message> = { ...this.messages };
    for (const message of messages) {
      // An answer that we follow is ahead of what the server had when it wrote this list.
      const ours = this.#following.has(message.id) ? this.messages[message.id] : undefined;
      kept[message.id] = ours && message.status === 'generating' ? ours : message;
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

  #follow(id: Id): void {
    if (this.#following.has(id)) return;
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

  #unfollowAll(): void {
    for (const id of [...this.#following.keys()]) this.#unfollow(id);
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
  if (typeof document === 'undefined' || document.hidden) setTimeout(run, 50);
  else requestAnimationFrame(run);
}
