// Judging answers: what is being said of each of them, and whether it may be used for training. What is being written stays here
// until the server has it, also while another chat is shown, and in this browser when the page is closed.
import type { ApiClient } from '../api/client';
import { ApiError } from '../api/errors';
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
  /** What the server did not take, and is to be sent again when it can be reached. */
  readonly #unsaved = new Map<Id, Unsaved>();
  /** Drafts from before the page was loaded: nothing of them is on its way. */
  #restored: Record<Id, boolean> = $state({});
  #presses = 0;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #api: ApiClient;
  readonly #judge: (answer: Id, judgement: Judgement | null) => Promise<void>;
  readonly #report: (error: unknown) => void;
  readonly #noticed: (error: unknown) => unknown;

  /** `noticed` learns of every failure, also of those that are said beside the answer: one may mean that the session has ended. */
  constructor(
    api: ApiClient,
    judge: (answer: Id, judgement: Judgement | null) => Promise<void>,
    report: (error: unknown) => void,
    noticed: (error: unknown) => unknown = () => undefined,
  ) {
    this.#api = api;
    this.#judge = judge;
    this.#report = report;
    this.#noticed = noticed;
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
    const sent = JSON.stringify(ordered(draft));
    const done = await this.#send(id, wanted, sent);
    if (done) this.cancel(answer);
    return done;
  }

  /** What was being written when the page was closed. */
  restore(answer: Message): void {
    const kept = this.drafts[answer.id] === undefined ? readJudgement(answer.id) : null;
    if (!kept) return;
    this.drafts[answer.id] = kept;
    this.#restored[answer.id] = true;
  }

  /** What was being written when the page was closed, as far as the server does not have it. */
  isNotYetSaved(answer: Message): boolean {
    return this.#restored[answer.id] === true && this.#isNew(answer);
  }

  #isNew(answer: Message): boolean {
    const draft = this.drafts[answer.id];
    const { rating, reasons, comment, correction } = saidIn(answer.feedback);
    const saved: Draft = { rating, reasons, comment: comment ?? '', correction };
    return draft !== undefined && JSON.stringify(ordered(draft)) !== JSON.stringify(ordered(saved));
  }

  /** Keeps what is being written, as far as the server does not have it. */
  keep(answer: Message): void {
    const draft = $state.snapshot(this.drafts[answer.id]);
    saveJudgement(answer.id, draft !== undefined && this.#isNew(answer) ? draft : null);
  }

  #close(id: Id): void {
    delete this.drafts[id];
    delete this.#restored[id];
    saveJudgement(id, null);
  }

  cancel(answer: Message): void {
    this.#close(answer.id);
    this.#unsaved.delete(answer.id);
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
    this.#unsaved.clear();
  }

  /** What was said while the server was out of reach. */
  async saveAll(): Promise<void> {
    for (const [id, unsaved] of [...this.#unsaved]) {
      const { wanted, draft } = unsaved;
      const presses = this.#presses;
      // Said anew, or given up, while others were on their way.
      const isWanted = () => this.#unsaved.get(id) === unsaved;
      if (!(await this.#send(id, wanted, draft, isWanted))) continue;
      if (presses === this.#presses) delete this.#sent[id];
      // What was written on after that stays open.
      const now = this.drafts[id];
      if (draft !== null && now && JSON.stringify(ordered(now)) === draft) this.#close(id);
    }
  }

  async refreshConsent(): Promise<void> {
    this.consent = await this.#api.consent();
  }

  async allow(allowed: boolean): Promise<void> {
    this.consent = await this.#api.setConsent(allowed);
    this.asking = null;
  }

  /** One after the other, so that what is said last is what stays. `draft`: the panel that is saved. */
  #send(
    id: Id,
    wanted: Judgement,
    draft: string | null = null,
    isWanted: () => boolean = () => true,
  ): Promise<boolean> {
    const sending = this.#queue.then(async () => {
      if (!isWanted()) return false;
      try {
        await this.#judge(id, saysNothing(wanted) ? null : wanted);
        delete this.errors[id];
        this.#unsaved.delete(id);
      } catch (error) {
        this.errors[id] = error;
        // An answer that is gone is not judged any more.
        if (error instanceof ApiError && error.status === 404) this.#unsaved.delete(id);
        else this.#unsaved.set(id, { wanted, draft });
        this.#noticed(error);
        return false;
      }
      if (!saysNothing(wanted)) await this.wonder(id);
      return true;
    });
    this.#queue = sending;
    return sending;
  }
}

/** A judgement that the server did not take. */
interface Unsaved {
  wanted: Judgement;
  /** The panel as it was saved; null for what was said without it, by a thumb. */
  draft: string | null;
}

const ordered = ({ rating, reasons, comment, correction }: Draft) => [rating, reasons, comment, correction];
