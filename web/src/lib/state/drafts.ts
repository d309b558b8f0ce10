// Unsent words, kept per chat, or per question that is edited, until they are sent: a lost connection or a closed tab costs nothing.
import type { Id } from '../api/types';
import { forget, read, write } from '../util/storage';

const key = (conversation: Id | null) => `draft.${conversation ?? 'new'}`;

export function readDraft(conversation: Id | null): string {
  const draft = read<unknown>(key(conversation), '');
  return typeof draft === 'string' ? draft : '';
}

/** What a question is being changed to; null where it is not. */
export function readEdit(question: Id): string | null {
  return readDraft(`edit.${question}`) || null;
}

export function saveEdit(question: Id, text: string | null): void {
  saveDraft(`edit.${question}`, text ?? '');
}

/** False when the browser cannot keep it. */
export function saveDraft(conversation: Id | null, text: string): boolean {
  if (text !== '') return write(key(conversation), text);
  forget(key(conversation));
  return true;
}
