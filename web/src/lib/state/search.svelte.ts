// Full-text search over all chats; the last question wins, whatever order the answers arrive in.
import type { ApiClient } from '../api/client';
import { ApiError, isAbort } from '../api/errors';
import type { SearchHit } from '../api/types';
import { debounce } from '../util/time';

/** As many as the server finds at once. */
const PAGE = 50;

export class Search {
  query = $state('');
  hits: SearchHit[] = $state.raw([]);
  busy = $state(false);
  hasMore = $state(false);
  /** Why the server does not search for this. */
  problem: ApiError | null = $state.raw(null);
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
    this.hasMore = false;
    this.problem = null;
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
      const hits = await this.#api.search(query, 0, running.signal);
      if (running.signal.aborted) return;
      this.hits = hits;
      this.hasMore = hits.length === PAGE;
      this.problem = null;
      this.busy = false;
    } catch (error) {
      if (isAbort(error)) return;
      this.busy = false;
      this.hits = [];
      this.hasMore = false;
      // A query that is too long, most of all: said where the hits would be.
      if (error instanceof ApiError && error.status === 400) this.problem = error;
      else this.#onError(error);
    }
  }

  async more(): Promise<void> {
    const running = this.#running;
    const query = this.query.trim();
    const hits = await this.#api.search(query, this.hits.length, running?.signal);
    if (running?.signal.aborted) return;
    const key = (hit: SearchHit) => `${hit.conversation_id} ${hit.message_id} ${hit.snippet}`;
    const known = new Set(this.hits.map(key));
    this.hits = [...this.hits, ...hits.filter((hit) => !known.has(key(hit)))];
    this.hasMore = hits.length === PAGE;
  }
}
