// What can be said of an answer: the server's fixed words, and how a judgement is put together.
import type { Choice, Feedback, Id, Judgement, Message, Rating, Reason } from './api/types';

export const reasons = {
  up: ['accurate', 'helpful', 'clear', 'well_written', 'good_tone'],
  down: ['wrong', 'not_helpful', 'did_not_follow', 'too_long', 'too_short', 'bad_style', 'unsafe', 'other'],
} as const satisfies Record<Rating, readonly Reason[]>;

export const SILENT: Judgement = { rating: null, reasons: [], comment: null, correction: null };

/** Of a stored judgement, that which a new one says again. */
export function saidIn(feedback: Feedback | null): Judgement {
  if (!feedback) return SILENT;
  const { rating, reasons, comment, correction } = feedback;
  return { rating, reasons, comment, correction };
}

export function saysNothing({ rating, reasons, comment, correction }: Judgement): boolean {
  return rating === null && reasons.length === 0 && comment === null && correction === null;
}

/** With another rating: reasons of the old one do not fit the new one. */
export function rated(judgement: Judgement, rating: Rating): Judgement {
  const fitting: readonly Reason[] = reasons[rating];
  return {
    ...judgement,
    rating,
    reasons: judgement.reasons.filter((reason) => fitting.includes(reason)),
  };
}

/** Without its rating, its reasons and its comment; a correction is a statement of its own and stays. */
export function unrated(judgement: Judgement): Judgement {
  return { ...SILENT, correction: judgement.correction };
}

/** Only answers that have ended can be judged, and only those that say something. */
export function isJudgeable(message: Message): boolean {
  const ended = message.status === 'complete' || message.status === 'stopped';
  return message.role === 'assistant' && ended && message.content.trim() !== '';
}

/** Whether it does not end where its model meant it to end: models do not learn from such an answer's being liked or chosen. */
export function breaksOff({ status, finish_reason }: Message): boolean {
  return status !== 'complete' || (finish_reason !== null && finish_reason !== 'stop');
}

export function rejectedFor(choices: readonly Choice[], chosen: Id): Id[] {
  return choices.filter((choice) => choice.chosen === chosen).flatMap(({ rejected }) => rejected);
}

export function preferredTo(choices: readonly Choice[], rejected: Id): Id[] {
  return choices.filter((choice) => choice.rejected.includes(rejected)).map(({ chosen }) => chosen);
}
