// The models: those available, those on this machine, and the progress of downloads.
import type { ApiClient } from '../api/client';
import { isAbort } from '../api/errors';
import { isRefusal } from '../api/follow';
import type { AdapterInfo, ModelInfo, PullEvent } from '../api/types';
import { locales, type Locale } from '../i18n/i18n.svelte';
import { isHidden } from '../util/screen';
import { backoff, sleep } from '../util/time';

/** Groups models by the languages they were trained for. */
export function speaks(model: ModelInfo, language: string): boolean {
  return model.languages.some((code) => code.split('-')[0] === language);
}

/** SmolLM2 speaks English, whatever file it came from; of other files that nothing is known about, any language may do. */
export function isSmolLm(model: ModelInfo): boolean {
  return /smollm/i.test(model.title) && !speaks(model, 'zh');
}

export function maySpeak(model: ModelInfo, language: string): boolean {
  return speaks(model, language) || (model.languages.length === 0 && !isSmolLm(model));
}

/** The page's language if the model may speak it, else one of ours that it speaks: examples that it cannot read help nobody. */
export function exampleLanguage(model: ModelInfo, wanted: Locale): Locale {
  if (maySpeak(model, wanted)) return wanted;
  return locales.find((locale) => maySpeak(model, locale)) ?? 'en';
}

/** What the carried poet can be given, which reads little more than a title. */
export const POEM_TITLES = ['江南春望', '山行', '春夜', '秋日登高'] as const;

/** The carried poet, also with an adapter or without its own, answers everything with a poem. */
export function converses(model: ModelInfo): boolean {
  return model.name.split('+')[0] !== 'poet';
}

/** The smallest model that speaks `language`, converses and fits this machine. */
export function smallestFor(models: readonly ModelInfo[], language: string): ModelInfo | null {
  const fitting = models.filter(
    (model) => speaks(model, language) && converses(model) && model.fits !== false,
  );
  return fitting.sort((a, b) => (a.size_bytes ?? Infinity) - (b.size_bytes ?? Infinity))[0] ?? null;
}

export class Models {
  list: ModelInfo[] = $state([]);
  loaded = $state(false);
  /** Those of the models that are a model with an adapter, and where the adapter is from. */
  adapters: AdapterInfo[] = $state.raw([]);
  readonly #api: ApiClient;
  readonly #onFinished: (model: ModelInfo, event: PullEvent) => void;
  #watching: AbortController | null = null;

  constructor(api: ApiClient, onFinished: (model: ModelInfo, event: PullEvent) => void = () => undefined) {
    this.#api = api;
    this.#onFinished = onFinished;
  }

  get installed(): ModelInfo[] {
    return this.list.filter((model) => model.installed);
  }

  get available(): ModelInfo[] {
    return this.list.filter((model) => !model.installed);
  }

  find(name: string | null): ModelInfo | undefined {
    return this.list.find((model) => model.name === name);
  }

  /** The wanted model if it is here, else the server's default, else any that is here. */
  choose(wanted: string | null, fallback: string | null): ModelInfo | null {
    const here = this.installed;
    return (
      here.find((model) => model.name === wanted) ??
      here.find((model) => model.name === fallback) ??
      here[0] ??
      null
    );
  }

  async refresh(): Promise<void> {
    this.list = await this.#api.models();
    this.loaded = true;
    if (this.list.some((model) => model.pull?.state === 'running')) this.watch();
  }

  async refreshAdapters(): Promise<void> {
    this.adapters = (await this.#api.adapters()).served;
  }

  adapterOf(model: ModelInfo): AdapterInfo | undefined {
    return this.adapters.find(({ name }) => name === model.name);
  }

  /** Whether it is another model without what was promoted for it: there to be compared with. */
  isWithoutPromotion({ name }: ModelInfo): boolean {
    return this.list.some((model) => model.promoted !== null && name === `${model.name}+base`);
  }

  async pull(name: string): Promise<void> {
    await this.#api.pullModel(name);
    const model = this.find(name);
    if (model) {
      model.pull = {
        state: 'running',
        source: null,
        done_bytes: 0,
        total_bytes: model.size_bytes,
        error: null,
      };
    }
    this.watch();
  }

  async cancel(name: string): Promise<void> {
    // The stream of events says when it has stopped.
    await this.#api.cancelPull(name);
    this.watch();
  }

  async remove(name: string): Promise<void> {
    await this.#api.removeModel(name);
    await this.refresh();
  }

  apply(event: PullEvent): void {
    const model = this.find(event.name);
    if (!model) return;
    const { name: _, ...pull } = event;
    const before = model.pull?.state;
    model.pull = pull;
    if (event.state === 'running' || before === event.state) return;
    this.#onFinished(model, event);
    if (event.state === 'done') void this.refresh().catch(() => undefined);
  }

  /** Follows downloads while any runs; a second call is harmless. A window that nobody sees does so when it is seen again. */
  watch(): void {
    if (isHidden() || this.#watching) return;
    const watching = (this.#watching = new AbortController());
    void this.#follow(watching.signal).finally(() => {
      if (this.#watching === watching) this.#watching = null;
    });
  }

  /** Downloads go on without us, until `watch`. */
  unwatch(): void {
    this.#watching?.abort();
    this.#watching = null;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; this.list.some((model) => model.pull?.state === 'running'); attempt++) {
      try {
        for await (const { event, data } of await this.#api.modelEvents(signal)) {
          if (event === 'pull') this.apply(data);
          attempt = 0;
          if (!this.list.some((model) => model.pull?.state === 'running')) return;
        }
      } catch (error) {
        if (isAbort(error) || isRefusal(error)) return;
      }
      await sleep(backoff(attempt), signal);
      if (signal.aborted) return;
      // What happened while nobody listened.
      await this.refresh().catch(() => undefined);
    }
  }
}
