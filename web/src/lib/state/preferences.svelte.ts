// What this browser remembers between visits: looks, language, and how new chats begin.
import type { SamplingSettings } from '../api/types';
import { i18n, type Locale } from '../i18n/i18n.svelte';
import { FOR_NEW_CHATS } from '../settings';
import { onWritten, read, write } from '../util/storage';

export type Theme = 'system' | 'light' | 'dark';

interface Saved {
  theme: Theme;
  locale: Locale | 'auto';
  sidebarOpen: boolean;
  model: string | null;
  systemPrompt: string;
  settings: Partial<SamplingSettings>;
  twoAnswers: boolean;
  /** That new chats were given a longest answer once: whoever has taken it away since does not get it again. */
  hasLimit: boolean;
}

const DEFAULTS: Saved = {
  theme: 'system',
  locale: 'auto',
  sidebarOpen: true,
  model: null,
  systemPrompt: '',
  settings: FOR_NEW_CHATS,
  twoAnswers: false,
  hasLimit: true,
};

export class Preferences {
  #saved: Saved = $state(DEFAULTS);

  constructor() {
    this.#saved = this.#kept();
    this.#apply();
    onWritten('preferences', () => {
      // Everything but this window's own view.
      this.#saved = { ...this.#kept(), sidebarOpen: this.#saved.sidebarOpen };
      this.#apply();
    });
  }

  #kept(): Saved {
    const kept = read<Partial<Saved> | null>('preferences', null) ?? {};
    // Earlier versions began new chats without a longest answer.
    const settings = kept.hasLimit ? kept.settings : { ...FOR_NEW_CHATS, ...kept.settings };
    return { ...DEFAULTS, ...kept, ...(settings && { settings }), hasLimit: true };
  }

  get theme(): Theme {
    return this.#saved.theme;
  }
  get locale(): Locale | 'auto' {
    return this.#saved.locale;
  }
  get sidebarOpen(): boolean {
    return this.#saved.sidebarOpen;
  }
  get model(): string | null {
    return this.#saved.model;
  }
  get systemPrompt(): string {
    return this.#saved.systemPrompt;
  }
  get settings(): Partial<SamplingSettings> {
    return this.#saved.settings;
  }

  /** Every question gets two answers, of which the reader chooses one. */
  get twoAnswers(): boolean {
    return this.#saved.twoAnswers;
  }

  update(change: Partial<Saved>): void {
    this.#saved = { ...this.#saved, ...change };
    // Only what changed here: what another tab has chosen meanwhile stays.
    write('preferences', { ...this.#kept(), ...change });
    this.#apply();
  }

  #apply(): void {
    const root = document.documentElement;
    if (this.#saved.theme === 'system') delete root.dataset.theme;
    else root.dataset.theme = this.#saved.theme;
    i18n.use(this.#saved.locale);
  }
}
