// Choices between two answers that the server does not have yet: kept until it does, or until they are given up, also while another
// chat is shown.
import { ApiError } from '../api/errors';
import type { Id, Message } from '../api/types';

export interface UnsavedChoice {
  chosen: Message;
  rejected: Message;
  /** Why the server does not have it. */
  error: unknown;
}

export interface ChoosingEvents {
  save(chosen: Message, rejected: Message): Promise<void>;
  saved(chosen: Message): Promise<void>;
  failed(error: unknown, chosen: Message): void;
  /** It was given up on its way: whether the server took it all the same is to be read there. */
  lookAgain(chosen: Message): Promise<void>;
}

export class Choosing {
  #unsaved: Record<string, UnsavedChoice> = $state.raw({});
  /** Chosen between, and not given up since: what is on its way is kept, where it fails, only of these. */
  readonly #wanted = new Set<string>();
  /** One after the other, so that what is chosen last is what stays. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #events: ChoosingEvents;

  constructor(events: ChoosingEvents) {
    this.#events = events;
  }

  /** The choice between these two that is not saved. */
  unsaved(pair: readonly [Message, Message]): UnsavedChoice | null {
    return this.#unsaved[keyOf(pair)] ?? null;
  }

  /** True when the server has it. */
  choose(chosen: Message, rejected: Message): Promise<boolean> {
    const key = keyOf([chosen, rejected]);
    this.#wanted.add(key);
    // Given up before its turn came, it is not sent at all.
    return this.#inTurn(async () => this.#wanted.has(key) && (await this.#send(chosen, rejected)));
  }

  /** What was chosen while the server was out of reach. */
  async saveAll(): Promise<void> {
    for (const [key, unsaved] of Object.entries(this.#unsaved)) {
      const { chosen, rejected } = unsaved;
      // Given up, or chosen anew, while others were on their way.
      const isWanted = () => this.#unsaved[key] === unsaved;
      await this.#inTurn(async () => isWanted() && (await this.#send(chosen, rejected)));
    }
  }

  /** The reader does not choose between these two. */
  giveUp(pair: readonly [Message, Message]): void {
    const key = keyOf(pair);
    this.#wanted.delete(key);
    this.#forget(key);
  }

  /** Everything that was said has been erased. */
  forget(): void {
    this.#wanted.clear();
    this.#unsaved = {};
  }

  #inTurn(run: () => Promise<boolean>): Promise<boolean> {
    const running = this.#queue.then(run);
    this.#queue = running.catch(() => false);
    return running;
  }

  async #send(chosen: Message, rejected: Message): Promise<boolean> {
    const key = keyOf([chosen, rejected]);
    try {
      await this.#events.save(chosen, rejected);
    } catch (error) {
      // Answers that are gone are not chosen between any more.
      const isGone = error instanceof ApiError && error.status === 404;
      if (isGone || !this.#wanted.has(key)) this.#forget(key);
      else this.#unsaved = { ...this.#unsaved, [key]: { chosen, rejected, error } };
      this.#events.failed(error, chosen);
      // A request whose answer was lost may have reached the server.
      if (!isGone && !this.#wanted.has(key)) await this.#events.lookAgain(chosen);
      return false;
    }
    this.#forget(key);
    await (this.#wanted.has(key) ? this.#events.saved(chosen) : this.#events.lookAgain(chosen));
    return true;
  }

  #forget(key: string): void {
    const { [key]: _, ...rest } = this.#unsaved;
    this.#unsaved = rest;
  }
}

/** The same whichever of the two is chosen. */
function keyOf(pair: readonly [Message, Message]): string {
  const ids: Id[] = pair.map(({ id }) => id);
  return ids.sort().join(' ');
}
