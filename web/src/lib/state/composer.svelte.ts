// The message being written: kept per chat until the server has acknowledged it.
import { ApiError, NetworkError } from '../api/errors';
import type { Id } from '../api/types';
import type { Chat } from './chat.svelte';
import { readDraft, saveDraft } from './drafts';

export class Composer {
  text = $state('');
  /** Why the server refused the last message. */
  refusal: ApiError | null = $state.raw(null);
  /** This browser does not keep what is written here: it has no room left, or keeps nothing at all. */
  unkept = $state(false);
  element: HTMLTextAreaElement | null = null;
  readonly #chat: Chat;
  readonly #report: (error: unknown) => void;
  readonly #twice: () => boolean;
  #conversation: Id | null;
  /** Sent, and not acknowledged yet. */
  #sent = '';

  /** `twice`: whether the reader wants two answers to every question. */
  constructor(
    chat: Chat,
    report: (error: unknown) => void,
    conversation: Id | null = null,
    twice: () => boolean = () => false,
  ) {
    this.#chat = chat;
    this.#report = report;
    this.#twice = twice;
    this.#conversation = conversation;
    this.text = readDraft(conversation);
  }

  /** The reader went to another chat: its own unsent words appear. */
  open(conversation: Id | null): void {
    if (conversation === this.#conversation) return;
    this.#conversation = conversation;
    this.text = readDraft(conversation);
    this.refusal = null;
    this.unkept = false;
  }

  /** The new chat has become this one: what is being written goes on in it. */
  becomes(conversation: Id): void {
    if (this.#conversation !== null) return;
    saveDraft(null, '');
    this.#conversation = conversation;
    this.#save();
  }

  write(text: string): void {
    this.text = text;
    this.refusal = null;
    this.#save();
  }

  focus(): void {
    // After the page has drawn what the same click changed.
    setTimeout(() => this.element?.focus());
  }

  async send(text: string = this.text): Promise<void> {
    const content = text.replace(/^\n+|\s+$/g, '');
    if (content === '' || this.#chat.sending || this.#chat.growing) return;
    // The chat of this address is not there: a question would go into another one.
    if (this.#chat.wanted !== null) return;
    const written = text === this.text;
    const from = this.#conversation;
    this.refusal = null;
    if (written) {
      this.#sent = content;
      this.text = '';
    }
    try {
      await this.#chat.ask(content, this.#twice());
      this.#sent = '';
      // In another chat by now, the draft of this one is that message alone. Here, the reader may have written on.
      if (written && this.#isAt(from)) this.#save();
      else if (written && readDraft(from).trim() === content.trim()) saveDraft(from, '');
    } catch (error) {
      this.#sent = '';
      if (written) this.#takeBack(from, content);
      // What a button was to ask waits in the box, where there is room.
      else if (error instanceof NetworkError && this.#isAt(from) && this.text === '') this.write(content);
      const refused = error instanceof ApiError && error.status < 500 && ![401, 404].includes(error.status);
      if (refused && this.#isAt(from)) this.refusal = error;
      else this.#report(error);
    }
  }

  /** Takes the words along into another chat, or into one that does not exist yet. */
  moveTo(conversation: Id | null): void {
    const { text } = this;
    if (text === '') return;
    this.write('');
    saveDraft(conversation, text);
  }

  /** The new chat in which a message was sent has its id by now. */
  #isAt(from: Id | null): boolean {
    return this.#conversation === from || (from === null && this.#conversation === this.#chat.id);
  }

  #takeBack(from: Id | null, content: string): void {
    const joined = (later: string) => (later === '' || later === content ? content : `${content}\n${later}`);
    if (this.#isAt(from)) this.write(joined(this.text));
    else saveDraft(from, joined(readDraft(from)));
  }

  #save(): void {
    this.unkept = !saveDraft(this.#conversation, this.text === '' ? this.#sent : this.text);
  }
}
