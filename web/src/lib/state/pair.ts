// The two answers that are shown side by side in a chat, kept until one of them is chosen, also over a reload.
import type { Id } from '../api/types';
import { forget, read, write } from '../util/storage';

export type Pair = readonly [Id, Id];

const KEY = 'pair';

export function keptPair(conversation: Id): Pair | null {
  const kept = read<{ conversation: Id; pair: Pair } | null>(KEY, null);
  return kept?.conversation === conversation ? kept.pair : null;
}

export function keepPair(conversation: Id, pair: Pair | null): void {
  if (pair !== null) write(KEY, { conversation, pair });
  else if (keptPair(conversation) !== null) forget(KEY);
}
