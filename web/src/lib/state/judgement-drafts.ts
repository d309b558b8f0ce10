// Judgements that are being written, kept per answer until they are saved or given up: a closed tab costs nothing.
import type { Id } from '../api/types';
import { forget, read, write } from '../util/storage';
import type { Draft } from './judging.svelte';

const key = (answer: Id) => `judgement.${answer}`;
const isTextOrNull = (value: unknown) => value === null || typeof value === 'string';

export function readJudgement(answer: Id): Draft | null {
  const draft = read<Partial<Draft> | null>(key(answer), null);
  if (draft === null || typeof draft !== 'object') return null;
  const { rating, reasons, comment, correction } = draft;
  const isWhole =
    [null, 'up', 'down'].includes(rating ?? null) &&
    Array.isArray(reasons) &&
    typeof comment === 'string' &&
    isTextOrNull(correction);
  return isWhole ? { rating: rating ?? null, reasons, comment, correction: correction ?? null } : null;
}

export function saveJudgement(answer: Id, draft: Draft | null): void {
  if (draft === null) forget(key(answer));
  else write(key(answer), draft);
}
