// Judging answers: what is being said of each of them, and whether it may be used for training. What is being written stays here
// until the server has it, also while another chat is shown, and in this browser when the page is closed.
import type { ApiClient } from '../api/client';
import type { Consent, Id, Judgement, Message, Rating, Reason } from '../api/types';
import { rated, saidIn, saysNothing, unrated } from '../feedback';
import { readJudgement, saveJudgement } from './judgement-drafts';

/** A judgement that is being written. */
export interface Draft {
  rating: Rating | null;
  reasons: Reason[];
  comment: string;
  /** The answer as it should have been; null while nobody is correcting it. */
  correction: string | null;
}

export class Judging {
  drafts: Record<Id, Draft> = $state({});
  /** Why the server did not take the last judgement of an answer. */
  errors: Record<Id, unknown> = $state({});
  consent: Consent | null = $state.raw(null);
  /** The answer, beside which the reader is asked for consent. */
  asking: Id | null = $state(null);
  /** Ratings that are on their way. */
  #sent: Record<Id, Rating | null> = $state({});
  #presses = 0;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #api: ApiClient;
  readonly #judge: (answer: Id, judgement: Judgement | null) => Promise<void>;
  readonly #report: (error: unknown) => void;

  constructor(
    api: ApiClient,
    judge: (answer: Id, judgement: Judgement | null) => Promise<void>,
    report: (error: unknown) => void,
  ) {
    this.#api = api;
    this.#judge = judge;
    this.#report = report;
  }

  /** The thumb that is shown as pressed. */
  rating(answer: Message): Rating | null {
    const sent = this.#sent[answer.id];
    if (sent !== undefined) return sent;
    return (this.drafts[answer.id] ?? answer.feedback)?.rating ?? null;
  }

  /** A thumb: pressed again, it is taken back. The first press saves it and opens the panel for more. */
  async press(answer: Message, rating: Rating): Promise<boolean> {
    const { id } = answer;
    const before = saidIn(answer.feedback);
    const takenBack = this.rating(answer) === rating;
    const wanted = takenBack ? unrated(before) : rated(before, rating);
    if (takenBack) this.#close(id);
    else {
      const draft = this.drafts[id];
      const said = rated({ ...before, reasons: draft?.reasons ?? before.reasons }, rating);
      this.drafts[id] = {
        rating,
        reasons: said.reasons,
        comment: draft?.comment ?? before.comment ?? '',
        correction: draft ? draft.correction : before.correction,
      };
    }
    this.#sent[id] = wanted.rating;
    const press = ++this.#presses;
    const done = await this.#send(id, wanted);
    if (press === this.#presses && (done || this.drafts[id] === undefined)) delete this.#sent[id];
    return done;
  }

  /** Opens the panel with what was said. */
  write(answer: Message): void {
    const { rating, reasons, comment, correction } = saidIn(answer.feedback);
    this.drafts[answer.id] = { rating, reasons: [...reasons], comment: comment ?? '', correction };
  }

  async save(answer: Message, text: string): Promise<boolean> {
    const { id } = answer;
    const draft = this.drafts[id];
    if (!draft) return false;
    const corrected = draft.correction?.trim() ?? '';
    const wanted: Judgement = {
      rating: draft.rating,
      reasons: [...draft.reasons],
      comment: draft.comment.trim() || null,
      // What equals the answer corrects nothing.
      correction: corrected === '' || corrected === text.trim() ? null : (draft.correction ?? null),
    };
    const done = await this.#send(id, wanted);
    if (done) this.cancel(answer);
    return done;
  }

  /** What was being written when the page was closed. */
  restore(answer: Message): void {
    const kept = this.drafts[answer.id] === undefined ? readJudgement(answer.id) : null;
    if (kept) this.drafts[answer.id] = kept;
  }

  /** Keeps what is being written, as far as the server does not have it. */
  keep(answer: Message): void {
    const draft = $state.snapshot(this.drafts[answer.id]);
    const { rating, reasons, comment, correction } = saidIn(answer.feedback);
    const saved: Draft = { rating, reasons, comment: comment ?? '', correction };
    const isNew = draft !== undefined && JSON.stringify(ordered(draft)) !== JSON.stringify(ordered(saved));
    saveJudgement(answer.id, isNew ? draft : null);
  }

  #close(id: Id): void {
    delete this.drafts[id];
    saveJudgement(id, null);
  }

  cancel(answer: Message): void {
    this.#close(answer.id);
    delete this.errors[answer.id];
    delete this.#sent[answer.id];
  }

  removeCorrection(answer: Message): Promise<boolean> {
    return this.#send(answer.id, { ...saidIn(answer.feedback), correction: null });
  }

  /** Something was judged here: who was never asked for consent is asked now. */
  async wonder(answer: Id): Promise<void> {
    try {
      this.consent ??= await this.#api.consent();
      if (!this.consent.allowed && this.consent.changed_at === null) this.asking = answer;
    } catch (error) {
      this.#report(error);
    }
  }

  /** Everything that was said has been erased. */
  forget(): void {
    for (const id of Object.keys(this.drafts)) this.#close(id);
    this.errors = {};
    this.#sent = {};
  }

  async refreshConsent(): Promise<void> {
    this.consent = await this.#api.consent();
  }

  async allow(allowed: boolean): Promise<void> {
    this.consent = await this.#api.setConsent(allowed);
    this.asking = null;
  }

  /** One after the other, so that what is said last is what stays. */
  #send(id: Id, wanted: Judgement): Promise<boolean> {
    const sending = this.#queue.then(async () => {
      try {
        await this.#judge(id, saysNothing(wanted) ? null : wanted);
        delete this.errors[id];
      } catch (error) {
        this.errors[id] = error;
        return false;
      }
      if (!saysNothing(wanted)) await this.wonder(id);
      return true;
    });
    this.#queue = sending;
    return sending;
  }
}

const ordered = ({ rating, reasons, comment, correction }: Draft) => [rating, reasons, comment, correction];
