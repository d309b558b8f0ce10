// Follows an answer to its end, through lost connections: asks again at the offset already shown, so that nothing is
// shown twice and nothing is lost.
import type { ApiClient } from './client';
import { ApiError, isAbort } from './errors';
import type { Id, Message } from './types';
import { codePoints, sliceCodePoints } from '../util/text';
import { backoff, sleep } from '../util/time';

export interface AnswerObserver {
  text(text: string): void;
  done(message: Message): void;
  /** The connection broke; another attempt follows. */
  lost?(error: unknown): void;
  /** Connected again. */
  found?(): void;
}

/** Whether asking again cannot help: the server refused, and not because there is too much to do now. */
export function isRefusal(error: unknown): boolean {
  return error instanceof ApiError && error.status < 500 && ![408, 429].includes(error.status);
}

/**
 * Resolves once the answer is complete, or when `signal` aborts.
 * Throws only what a retry cannot fix: an `ApiError` below 500, unless it says that there is too much to do now.
 */
export async function followAnswer(
  api: ApiClient,
  message: Id,
  shown: number,
  observer: AnswerObserver,
  signal: AbortSignal,
): Promise<void> {
  let offset = shown;
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      for await (const received of await api.answerEvents(message, offset, signal)) {
        if (attempt > 0) observer.found?.();
        attempt = 0;
        if (received.event === 'delta') {
          const delta = received.data;
          if (delta.offset > offset) break; // A gap: ask again from where we are.
          const fresh = sliceCodePoints(delta.text, offset - delta.offset);
          offset += codePoints(fresh);
          if (fresh !== '') observer.text(fresh);
        } else if (received.event === 'done') {
          observer.done(received.data);
          return;
        }
      }
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      if (isRefusal(error)) throw error;
      observer.lost?.(error);
    }
    await sleep(backoff(attempt), signal);
  }
}
