// The server's status, and whether this browser is logged in.
import type { ApiClient } from '../api/client';
import { ApiError } from '../api/errors';
import type { Conversation, ServerStatus } from '../api/types';
import { doubtOwner, forgetOwner, isOwnerDoubted, isOwnerOf, isOwnersKey, markOf, rememberKey, trustOwner, type KeyMark } from './owner'; // prettier-ignore

/** As many chats as the server lists at once: among them, those of whoever was here before are looked for. */
const MOST_CHATS = 200;

export interface SessionEvents {
  /** The session has ended by itself; the same person may come back. */
  locked(): void;
  /** The person has left, or somebody else has come: nothing of the one before may stay. */
  left(): void;
}

export class Session {
  status: ServerStatus | null = $state.raw(null);
  phase: 'starting' | 'locked' | 'open' | 'leaving' = $state('starting');
  /** Nobody is logged in any more, though the reader has not left. */
  ended = $state(false);
  /** A key is being tried. */
  #entering = false;
  /** Since the page was loaded: somebody's chats may be in its memory. */
  #wasOpen = false;
  readonly #api: ApiClient;
  readonly #events: SessionEvents;

  constructor(api: ApiClient, events: SessionEvents = { locked: () => undefined, left: () => undefined }) {
    this.#api = api;
    this.#events = events;
  }

  /** Downloading and removing models is for operators; who only has a user's key is not shown what would be refused. */
  get administers(): boolean {
    return this.status?.role !== 'user';
  }

  /** Throws when the server cannot be reached. */
  async start(): Promise<void> {
    await this.#start(null);
  }

  /** `mark`: of the key by which somebody has just logged in. */
  async #start(mark: KeyMark | null): Promise<void> {
    try {
      this.status = await this.#api.status();
      const isStranger = this.status.needs_key && (await this.#isStranger(mark));
      if (this.phase === 'leaving') return;
      // Where nothing was kept or shown of anybody, there is nothing to begin anew for.
      if (isStranger && (forgetOwner() || this.#wasOpen)) return this.#leave();
      trustOwner();
      if (mark !== null) rememberKey(mark);
      this.phase = 'open';
      this.ended = false;
      this.#wasOpen = true;
    } catch (error) {
      if (!this.noticed(error)) throw error;
    }
  }

  /** False when the server does not know the key. */
  async login(key: string): Promise<boolean> {
    // Before the server lets in whoever it is: the page may be closed before that is settled.
    doubtOwner();
    this.#entering = true;
    try {
      const mark = await markOf(key);
      await this.#api.login(key);
      await this.#start(mark);
    } catch (error) {
      // A 403 is not about the key: the server refuses pages of this address, and says so.
      if (error instanceof ApiError && error.status === 401) return false;
      throw error;
    } finally {
      this.#entering = false;
    }
    return this.phase !== 'locked';
  }

  /** Whether somebody was let in meanwhile, in another window: all windows of a browser share one session. */
  async isLetIn(): Promise<boolean> {
    if (!this.#mayLook()) return false;
    try {
      await this.#api.conversations(1);
    } catch {
      return false;
    }
    return this.#mayLook();
  }

  /** While a key is being tried, here or in another window, whoever tries it goes on. */
  #mayLook(): boolean {
    return this.phase === 'locked' && !this.#entering && !isOwnerDoubted();
  }

  /**
   * Goes on where it is the same person who was let in in another window: what is kept in memory here is theirs. False where it is
   * not, or nothing is kept; null where that cannot be told now, or is settled already.
   */
  async goOn(isOwn: (chats: readonly Conversation[]) => boolean): Promise<boolean | null> {
    if (!this.#mayLook()) return null;
    // In a window in which nobody was logged in, nothing is kept of anybody.
    if (!this.ended) return false;
    try {
      const [status, chats] = await Promise.all([this.#api.status(), this.#api.conversations(MOST_CHATS)]);
      if (!this.#mayLook()) return null;
      if (!isOwn(chats)) return false;
      this.status = status;
    } catch {
      return null;
    }
    this.phase = 'open';
    this.ended = false;
    return true;
  }

  async logout(): Promise<void> {
    await this.#api.logout();
    this.#leave();
  }

  /** True when `error` means that a key is needed. */
  noticed(error: unknown): boolean {
    const locked = error instanceof ApiError && error.status === 401;
    if (locked && this.phase !== 'leaving' && this.phase !== 'locked') {
      this.ended = this.phase === 'open';
      this.phase = 'locked';
      this.#events.locked();
    }
    return locked;
  }

  /** Whether it may be somebody else than before. */
  async #isStranger(mark: KeyMark | null): Promise<boolean> {
    const doubted = this.phase === 'locked' || isOwnerDoubted();
    // The status is public; a call that needs the key tells whether this browser has one.
    const chats = await this.#api.conversations(doubted ? MOST_CHATS : 1);
    return doubted && !isOwnersKey(mark) && !isOwnerOf(chats);
  }

  #leave(): void {
    this.phase = 'leaving';
    this.#events.left();
  }
}
