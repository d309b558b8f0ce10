// How full the model's context would be with the next message. Asked of the server, which counts real tokens.
import type { ApiClient } from '../api/client';
import { isAbort, NetworkError } from '../api/errors';
import type { ContextUse, Id } from '../api/types';
import { debounce } from '../util/time';

export class ContextMeter {
  use: ContextUse | null = $state.raw(null);
  readonly #api: ApiClient;
  readonly #onError: (error: unknown) => void;
  readonly #later = debounce(400, (conversation: Id, parent: Id | null, content: string) => {
    void this.#ask(conversation, parent, content);
  });
  #running: AbortController | null = null;

  constructor(api: ApiClient, onError: (error: unknown) => void = () => undefined) {
    this.#api = api;
    this.#onError = onError;
  }

  get share(): number {
    return this.use ? Math.min(1, this.use.prompt_tokens / this.use.context_length) : 0;
  }

  /** At least one token must be left for the answer. */
  get full(): boolean {
    return this.use !== null && this.use.prompt_tokens >= this.use.context_length;
  }

  measure(conversation: Id | null, parent: Id | null, content: string): void {
    this.#running?.abort();
    if (conversation === null) return this.forget();
    this.#later(conversation, parent, content);
  }

  forget(): void {
    this.#later.cancel();
    this.#running?.abort();
    this.use = null;
  }

  async #ask(conversation: Id, parent: Id | null, content: string): Promise<void> {
    const running = (this.#running = new AbortController());
    try {
      const question = { conversation_id: conversation, parent_id: parent, content };
      const use = await this.#api.contextUse(question, running.signal);
      if (!running.signal.aborted) this.use = use;
    } catch (error) {
      // A meter that cannot measure shows nothing; sending will say what is wrong.
      if (isAbort(error)) return;
      this.use = null;
      if (error instanceof NetworkError) this.#onError(error);
    }
  }
}
