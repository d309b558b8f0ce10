// Unsent words, kept per chat until they are sent: a lost connection or a closed tab costs nothing.
import type { Id } from '../api/types';
import { forget, read, write } from '../util/storage';

const key = (conversation: Id | null) => `draft.${conversation ?? 'new'}`;

export function readDraft(conversation: Id | null): string {
  const draft = read<unknown>(key(conversation), '');
  return typeof draft === 'string' ? draft : '';
}

export function saveDraft(conversation: Id | null, text: string): void {
  if (text === '') forget(key(conversation));
  else write(key(conversation), text);
}
