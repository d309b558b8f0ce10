// Tells this browser's other tabs that a chat changed, so that they show it too.
import type { Id } from '../api/types';

export interface Change {
  conversation: Id;
}

export class Tabs {
  #channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('zhenjin');

  onChange(run: (change: Change) => void): void {
    this.#channel?.addEventListener('message', (event: MessageEvent<Change>) => run(event.data));
  }

  tell(conversation: Id): void {
    this.#channel?.postMessage({ conversation } satisfies Change);
  }
}
