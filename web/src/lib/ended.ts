// How an answer has ended, in the page's language, for those who hear it.
import type { Message } from './api/types';
import { i18n } from './i18n/i18n.svelte';
import { endedWithContext } from './state/context.svelte';
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
function howItEnded(answer: Message): string | null {
  const { status, finish_reason, prompt_tokens, completion_tokens } = answer;
  const t = i18n.t.message;
  const number = (value: number | null) => formatNumber(value ?? 0, i18n.tag);
  if (status === 'failed') return t.failed;
  if (status === 'interrupted') return t.interrupted;
  if (status === 'stopped') return t.stopped;
  if (finish_reason === 'repetition') return t.repetition;
  if (endedWithContext(answer)) return t.contextEnded(number(prompt_tokens), number(completion_tokens));
  if (finish_reason === 'length') return t.lengthReached(number(completion_tokens));
  const isMeant = finish_reason === null || finish_reason === 'stop' || finish_reason === 'tool_calls';
  return isMeant ? null : t.endedEarly(finish_reason);
}
