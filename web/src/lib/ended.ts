// How an answer has ended, in the page's language, for those who hear it.
import type { Message } from './api/types';
import { i18n } from './i18n/i18n.svelte';
import { splitThinking } from './thinking';
import { formatNumber } from './util/format';

/** First what became of it, where it did not end by itself: of a long answer, the end is not read out. */
export function heardAtEnd(answer: Message): string {
  const { message: t, app } = i18n.t;
  const text = splitThinking(answer.content).answer;
  const ended = howItEnded(answer);
  return ended === null ? t.finished(text) : `${ended}${app.sentenceSpace}${text}`.trimEnd();
}

/** Null where it ended as its model meant it to end. */
function howItEnded({ status, finish_reason, completion_tokens }: Message): string | null {
  const t = i18n.t.message;
  if (status === 'failed') return t.failed;
  if (status === 'interrupted') return t.interrupted;
  if (status === 'stopped') return t.stopped;
  if (finish_reason === 'repetition') return t.repetition;
  if (finish_reason === 'length') return t.lengthReached(formatNumber(completion_tokens ?? 0, i18n.tag));
  return null;
}
