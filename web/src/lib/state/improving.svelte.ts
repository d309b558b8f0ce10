// Improvements of the models from feedback, for operators: those there are, the one that runs, and what answers now.
import type { ApiClient } from '../api/client';
import { ApiError, isAbort } from '../api/errors';
import type {
  FeedbackStatistics,
  Improvements,
  ImprovementWish,
  Promotion,
  RunningImprovement,
} from '../api/types';
import { sleep } from '../util/time';

/** Milliseconds between two looks at an improvement that runs. */
const PAUSE = 2000;
/** Where none runs, so many pauses are between two looks: another window or program may promote, roll back or begin one. */
const IDLE_PAUSES = 5;
/** After so many looks, an improvement that was begun and is nowhere to be seen will not come any more. */
const MOST_LOOKS = 30;

export class Improving {
  known: Improvements | null = $state.raw(null);
  statistics: FeedbackStatistics | null = $state.raw(null);
  /** How often it was seen that somebody has judged meanwhile. */
  news = $state(0);
  /** Begun, and not in the server's list yet: its program is starting. */
  #begun: RunningImprovement | null = $state.raw(null);
  #looks = 0;
  /** Questions for the lists, and the latest of them whose answer is shown: answers may overtake each other. */
  #asked = 0;
  #answered = 0;
  #looking: Promise<void> | null = null;
  /** The one that is being made. */
  readonly running: RunningImprovement | null = $derived(this.known?.running ?? this.#begun);
  readonly #api: ApiClient;
  readonly #failed: (error: unknown) => void;

  /** `failed` learns that the lists could not be read after what was done. */
  constructor(api: ApiClient, failed: (error: unknown) => void = () => undefined) {
    this.#api = api;
    this.#failed = failed;
  }

  async refresh(): Promise<void> {
    const number = ++this.#asked;
    const known = await this.#api.improvements();
    if (number < this.#answered) return;
    this.#answered = number;
    // What is the same as before is left as it is: else all that depends on it would be asked and drawn again.
    if (!isSame(known, this.known)) this.known = known;
    const { running, improvements } = known;
    const id = this.#begun?.id;
    if (running !== null || improvements.some((one) => one.id === id)) this.#begun = null;
  }

  async refreshStatistics(): Promise<void> {
    const statistics = await this.#api.feedbackStatistics();
    if (isSame(statistics, this.statistics)) return;
    if (this.statistics !== null) this.news++;
    this.statistics = statistics;
  }

  /** What other windows and programs have changed meanwhile. */
  lookAround(): Promise<void> {
    this.#looking ??= Promise.all([this.refresh(), this.refreshStatistics()])
      .then(() => undefined)
      .finally(() => (this.#looking = null));
    return this.#looking;
  }

  /** Does what may be refused: then what the page has is not what the server has any more, and is read again. */
  async #change<T>(change: Promise<T>): Promise<T> {
    try {
      return await change;
    } catch (error) {
      // What was refused is told, and not that the lists could not be read after it.
      if (error instanceof ApiError) await this.refresh().catch(() => undefined);
      throw error;
    }
  }

  /** After what was done: it is, whether or not the lists can be read now. */
  #readAgain(): Promise<void> {
    return this.refresh().catch(this.#failed);
  }

  async start(wish: ImprovementWish): Promise<void> {
    const { id } = await this.#change(this.#api.improve(wish));
    const model = wish.model ?? '';
    this.#begun = { id, model, phase: 'collecting', step: null, steps: null, started_at: Date.now() };
    this.#looks = 0;
    await this.#readAgain();
  }

  async cancel(id: string): Promise<void> {
    await this.#change(this.#api.cancelImprovement(id));
    this.#begun = null;
    await this.#readAgain();
  }

  async discard(id: string): Promise<void> {
    await this.#change(this.#api.discardImprovement(id));
    await this.#readAgain();
  }

  /** `force`: even if something else answers by now than what it was compared with. */
  async promote(id: string, force = false): Promise<Promotion> {
    const promotion = await this.#change(this.#api.promote(id, force));
    await this.#readAgain();
    return promotion;
  }

  async rollBack(model: string): Promise<Promotion> {
    const promotion = await this.#change(this.#api.rollBack(model));
    await this.#readAgain();
    return promotion;
  }

  /** Looks again and again, more often while one runs. Resolves when `signal` aborts; what went wrong is told and tried again. */
  async watch(signal: AbortSignal, failed: (error: unknown) => void): Promise<void> {
    for (let pauses = 1; !signal.aborted; pauses++) {
      await sleep(PAUSE, signal);
      if (signal.aborted) return;
      try {
        if (this.running === null) {
          // A window that nobody sees looks when it is seen again.
          if (pauses % IDLE_PAUSES === 0 && !isHidden()) await this.lookAround();
          continue;
        }
        await this.refresh();
        if (this.running === null || pauses % IDLE_PAUSES === 0) await this.refreshStatistics();
        if (this.#begun !== null && ++this.#looks === MOST_LOOKS) {
          this.#begun = null;
          throw new ApiError(500, 'the improvement left no record', 'internal_error');
        }
      } catch (error) {
        if (!isAbort(error)) failed(error);
      }
    }
  }
}

const isHidden = () => typeof document !== 'undefined' && document.hidden;

/** Whether the server said the same again. */
function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
