// Full-text search over all chats; the last question wins, whatever order the answers arrive in.
import type { ApiClient } from '../api/client';
import { isAbort } from '../api/errors';
import type { SearchHit } from '../api/types';
import { debounce } from '../util/time';

export class Search {
  query = $state('');
  hits: SearchHit[] = $state.raw([]);
  busy = $state(false);
  hasMore = $state(false);
  readonly #api: ApiClient;
  readonly #onError: (error: unknown) => void;
  readonly #later = debounce(150, (query: string) => void (this.#latest = this.#run(query)));
  #latest: Promise<void> = Promise.resolve();
  #running: AbortController | null = null;

  constructor(api: ApiClient, onError: (error: unknown) => void = () => undefined) {
    this.#api = api;
    this.#onError = onError;
  }

  get active(): boolean {
    return this.query.trim() !== '';
  }

  ask(query: string): void {
    this.query = query;
    this.#running?.abort();
    if (!this.active) return this.clear();
    this.busy = true;
    this.#later(query.trim());
  }

  clear(): void {
    this.#later.cancel();
    this.#running?.abort();
    this.query = '';
    this.hits = [];
    this.busy = false;
  }

  /** At once, for a reader who pressed Enter; resolves when the hits are those of the query. */
  async now(): Promise<void> {
    if (!this.#later.cancel()) return this.#latest;
    await (this.#latest = this.#run(this.query.trim()));
  }

  async #run(query: string): Promise<void> {
    const running = (this.#running = new AbortController());
    try {
      const hits = await this.#api.search(query, running.signal);
      if (running.signal.aborted) return;
      this.hits = hits;
      this.busy = false;
    } catch (error) {
      if (isAbort(error)) return;
      this.busy = false;
      this.#onError(error);
    }
  }
}
