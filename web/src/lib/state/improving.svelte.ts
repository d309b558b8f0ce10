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
/** After so many looks, an improvement that was begun and is nowhere to be seen will not come any more. */
const MOST_LOOKS = 30;

export class Improving {
  known: Improvements | null = $state.raw(null);
  statistics: FeedbackStatistics | null = $state.raw(null);
  /** Begun, and not in the server's list yet: its program is starting. */
  #begun: RunningImprovement | null = $state.raw(null);
  #looks = 0;
  /** The one that is being made. */
  readonly running: RunningImprovement | null = $derived(this.known?.running ?? this.#begun);
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  async refresh(): Promise<void> {
    this.known = await this.#api.improvements();
    const { running, improvements } = this.known;
    const id = this.#begun?.id;
    if (running !== null || improvements.some((one) => one.id === id)) this.#begun = null;
  }

  async refreshStatistics(): Promise<void> {
    this.statistics = await this.#api.feedbackStatistics();
  }

  async start(wish: ImprovementWish): Promise<void> {
    const { id } = await this.#api.improve(wish);
    const model = wish.model ?? '';
    this.#begun = { id, model, phase: 'collecting', step: null, steps: null, started_at: Date.now() };
    this.#looks = 0;
    await this.refresh();
  }

  async cancel(id: string): Promise<void> {
    await this.#api.cancelImprovement(id);
    this.#begun = null;
    await this.refresh();
  }

  /** `force`: even if something else answers by now than what it was compared with. */
  async promote(id: string, force = false): Promise<Promotion> {
    const promotion = await this.#api.promote(id, force);
    await this.refresh();
    return promotion;
  }

  async rollBack(model: string): Promise<Promotion> {
    const promotion = await this.#api.rollBack(model);
    await this.refresh();
    return promotion;
  }

  /** Looks again and again while one runs. Resolves when `signal` aborts; what went wrong is told and tried again. */
  async watch(signal: AbortSignal, failed: (error: unknown) => void): Promise<void> {
    while (!signal.aborted) {
      await sleep(PAUSE, signal);
      if (signal.aborted || this.running === null) continue;
      try {
        await this.refresh();
        if (this.running === null) await this.refreshStatistics();
        else if (this.#begun !== null && ++this.#looks === MOST_LOOKS) {
          this.#begun = null;
          throw new ApiError(500, 'the improvement left no record', 'internal_error');
        }
      } catch (error) {
        if (!isAbort(error)) failed(error);
      }
    }
  }
}
