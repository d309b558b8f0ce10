// The server's status, and whether this browser is logged in.
import type { ApiClient } from '../api/client';
import { ApiError } from '../api/errors';
import type { ServerStatus } from '../api/types';

export class Session {
  status: ServerStatus | null = $state.raw(null);
  phase: 'starting' | 'locked' | 'open' = $state('starting');
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  /** Downloading and removing models is for operators; who only has a user's key is not shown what would be refused. */
  get administers(): boolean {
    return this.status?.role !== 'user';
  }

  /** Throws when the server cannot be reached. */
  async start(): Promise<void> {
    try {
      this.status = await this.#api.status();
      // The status is public; a call that needs the key tells whether this browser has one.
      if (this.status.needs_key) await this.#api.conversations(1);
      this.phase = 'open';
    } catch (error) {
      if (!this.noticed(error)) throw error;
    }
  }

  /** False when the server does not know the key. */
  async login(key: string): Promise<boolean> {
    try {
      await this.#api.login(key);
    } catch (error) {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return false;
      throw error;
    }
    await this.start();
    return this.phase === 'open';
  }

  async logout(): Promise<void> {
    await this.#api.logout();
    this.phase = 'locked';
  }

  /** True when `error` means that a key is needed. */
  noticed(error: unknown): boolean {
    const locked = error instanceof ApiError && error.status === 401;
    if (locked) this.phase = 'locked';
    return locked;
  }
}
