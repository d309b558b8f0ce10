// Tells this browser's other tabs what happened to a chat, so that they show it too, and that a person has left or was let in.
import type { Id } from '../api/types';
import { place } from '../util/storage';

export interface ChatChange {
  kind: 'changed' | 'deleted' | 'restored';
  conversation: Id;
}

export type Change = ChatChange | { kind: 'left' } | { kind: 'entered' };

export class Tabs {
  #channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(`zhenjin ${place}`);

  onChange(run: (change: Change) => void): void {
    this.#channel?.addEventListener('message', (event: MessageEvent<Change>) => run(event.data));
  }

  tell(kind: ChatChange['kind'], conversation: Id): void {
    this.#channel?.postMessage({ kind, conversation } satisfies Change);
  }

  /** All tabs share one session: who leaves it in one has left it in all. */
  tellLeft(): void {
    this.#channel?.postMessage({ kind: 'left' } satisfies Change);
  }

  /** And who is let in in one is let in in all. */
  tellEntered(): void {
    this.#channel?.postMessage({ kind: 'entered' } satisfies Change);
  }
}
