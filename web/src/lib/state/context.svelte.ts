// How full the model's context would be with the next message. Asked of the server, which counts real tokens.
import type { ApiClient } from '../api/client';
import { isAbort, isModelGone, NetworkError } from '../api/errors';
import type { ContextQuestion, ContextUse, Message } from '../api/types';
import { debounce } from '../util/time';

/** Whether the answer ended because question and answer had filled the context, whatever the settings say. */
export function endedWithContext(answer: Message): boolean {
  const { finish_reason, prompt_tokens, completion_tokens, context_length } = answer;
  const used = (prompt_tokens ?? 0) + (completion_tokens ?? 0);
  return finish_reason === 'length' && context_length !== null && used >= context_length;
}

export class ContextMeter {
  use: ContextUse | null = $state.raw(null);
  /** The message by itself, as in a new chat; known when it does not fit into this one. */
  alone: ContextUse | null = $state.raw(null);
  readonly #api: ApiClient;
  readonly #onError: (error: unknown) => void;
  readonly #later = debounce(400, (question: ContextQuestion) => void this.#ask(question));
  #running: AbortController | null = null;
  /** The model that was not there when it was last asked for. It is told once: who looks at the models again may measure again. */
  #gone: string | null | undefined;

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

  /** Whether a new chat could take the message. */
  get fitsAlone(): boolean {
    return this.alone !== null && this.alone.prompt_tokens < this.alone.context_length;
  }

  /** No chat could take the message. */
  get tooLongAlone(): boolean {
    return this.alone !== null && !this.fitsAlone;
  }

  measure(question: ContextQuestion): void {
    this.#running?.abort();
    this.#later(question);
  }

  forget(): void {
    this.#later.cancel();
    this.#running?.abort();
    this.use = this.alone = null;
  }

  async #ask(question: ContextQuestion): Promise<void> {
    const running = (this.#running = new AbortController());
    try {
      const use = await this.#api.contextUse(question, running.signal);
      if (running.signal.aborted) return;
      this.use = use;
      this.#gone = undefined;
      this.alone = this.full && !question.conversation_id ? use : null;
      if (!this.full || !question.conversation_id) return;
      const { model = null, system_prompt = null, content = null } = question;
      const alone = await this.#api.contextUse({ model, system_prompt, content }, running.signal);
      if (!running.signal.aborted) this.alone = alone;
    } catch (error) {
      // A meter that cannot measure shows nothing; sending will say what is wrong, unless it can be known before.
      if (isAbort(error)) return;
      this.use = this.alone = null;
      if (isModelGone(error)) {
        const { model = null } = question;
        if (this.#gone === model) return;
        this.#gone = model;
      } else if (!(error instanceof NetworkError)) return;
      this.#onError(error);
    }
  }
}
