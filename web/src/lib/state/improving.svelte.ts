// Improvements of the models from feedback, for operators: those there are, the one that runs, and what answers now.
import type { ApiClient } from '../api/client';
import { isAbort } from '../api/errors';
import type { FeedbackStatistics, Improvements, ImprovementWish, Promotion } from '../api/types';
import { sleep } from '../util/time';

/** Milliseconds between two looks at an improvement that runs. */
const PAUSE = 2000;

export class Improving {
  known: Improvements | null = $state.raw(null);
  statistics: FeedbackStatistics | null = $state.raw(null);
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  async refresh(): Promise<void> {
    this.known = await this.#api.improvements();
  }

  async refreshStatistics(): Promise<void> {
    this.statistics = await this.#api.feedbackStatistics();
  }

  async start(wish: ImprovementWish): Promise<void> {
    await this.#api.improve(wish);
    await this.refresh();
  }

  async cancel(id: string): Promise<void> {
    await this.#api.cancelImprovement(id);
    await this.refresh();
  }

  async promote(id: string): Promise<Promotion> {
    const promotion = await this.#api.promote(id);
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
      if (signal.aborted || this.known?.running == null) continue;
      try {
        await this.refresh();
        if (this.known.running === null) await this.refreshStatistics();
      } catch (error) {
        if (!isAbort(error)) failed(error);
      }
    }
  }
}
