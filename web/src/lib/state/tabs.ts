// Tells this browser's other tabs what happened to a chat, so that they show it too.
import type { Id } from '../api/types';
import { place } from '../util/storage';

export interface Change {
  kind: 'changed' | 'deleted' | 'restored';
  conversation: Id;
}

export class Tabs {
  #channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(`zhenjin ${place}`);

  onChange(run: (change: Change) => void): void {
    this.#channel?.addEventListener('message', (event: MessageEvent<Change>) => run(event.data));
  }

  tell(kind: Change['kind'], conversation: Id): void {
    this.#channel?.postMessage({ kind, conversation } satisfies Change);
  }
}
