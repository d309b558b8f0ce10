// Whether the server can be reached. Once it cannot, asks again by itself, slower and slower, until it can or anything else has
// reached it.
import type { ApiClient } from '../api/client';
import { ApiError, NetworkError } from '../api/errors';
import { backoff } from '../util/time';

export class Connection {
  lost = $state(false);
  readonly #api: ApiClient;
  readonly #restored = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;

  constructor(api: ApiClient) {
    this.#api = api;
    window.addEventListener('online', () => this.lost && this.retryNow());
    // Without a network a server on this machine still answers: it is asked before anything is said.
    window.addEventListener(
      'offline',
      () => void this.#api.status().catch((error: unknown) => this.noticed(error)),
    );
  }

  onRestored(run: () => void): void {
    this.#restored.add(run);
  }

  /** To be told of every failure; only those of the network matter here. */
  noticed(error: unknown): void {
    if (!(error instanceof NetworkError) || this.lost) return;
    this.lost = true;
    this.#attempt = 0;
    this.#schedule();
  }

  /** To be told of whatever has reached the server: that ends the waiting at once. */
  reached(): void {
    if (!this.lost) return;
    clearTimeout(this.#timer);
    this.lost = false;
    for (const run of this.#restored) run();
  }

  retryNow(): void {
    clearTimeout(this.#timer);
    void this.#try();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#try(), backoff(this.#attempt++));
  }

  async #try(): Promise<void> {
    try {
      await this.#api.status();
    } catch (error) {
      // Any answer of the server, even a refusal, shows that it is there.
      if (!(error instanceof ApiError)) {
        if (this.lost) this.#schedule();
        return;
      }
    }
    this.reached();
  }
}
