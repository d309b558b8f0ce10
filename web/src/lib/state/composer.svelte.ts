// The message being written: kept per chat until the server has acknowledged it.
import { ApiError } from '../api/errors';
import type { Id } from '../api/types';
import type { Chat } from './chat.svelte';
import { readDraft, saveDraft } from './drafts';

export class Composer {
  text = $state('');
  /** Why the server refused the last message. */
  refusal: ApiError | null = $state.raw(null);
  element: HTMLTextAreaElement | null = null;
  readonly #chat: Chat;
  readonly #report: (error: unknown) => void;
  #conversation: Id | null = null;

  constructor(chat: Chat, report: (error: unknown) => void) {
    this.#chat = chat;
    this.#report = report;
    this.text = readDraft(null);
  }

  /** The reader went to another chat: its own unsent words appear. */
  open(conversation: Id | null): void {
    if (conversation === this.#conversation) return;
    this.#conversation = conversation;
    this.text = readDraft(conversation);
    this.refusal = null;
  }

  write(text: string): void {
    this.text = text;
    this.refusal = null;
    saveDraft(this.#conversation, text);
  }

  focus(): void {
    // After the page has drawn what the same click changed.
    setTimeout(() => this.element?.focus());
  }

  async send(text: string = this.text): Promise<void> {
    const content = text.replace(/^\n+|\s+$/g, '');
    if (content === '' || this.#chat.sending || this.#chat.growing) return;
    const written = text === this.text;
    const from = this.#conversation;
    this.refusal = null;
    if (written) this.text = '';
    try {
      await this.#chat.ask(content);
      if (written) saveDraft(from, '');
    } catch (error) {
      if (written) {
        saveDraft(from, '');
        this.write(this.text === '' ? content : `${content}\n${this.text}`);
      }
      if (error instanceof ApiError && error.status < 500 && error.status !== 401) this.refusal = error;
      else this.#report(error);
    }
  }

  /** Takes the words along into a chat that does not exist yet. */
  moveToNewChat(): void {
    const { text } = this;
    this.write('');
    saveDraft(null, text);
  }
}
