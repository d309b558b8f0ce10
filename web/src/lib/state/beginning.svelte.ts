// How the chat that does not exist yet will begin. It starts with what the reader chose for all new chats; what is changed
// on the start page belongs to this one chat and is gone with the next.
import type { SamplingSettings } from '../api/types';
import type { Preferences } from './preferences.svelte';

export class Beginning {
  systemPrompt = $state('');
  settings: Partial<SamplingSettings> = $state.raw({});
  readonly #preferences: Preferences;
  #next: { systemPrompt: string; settings: Partial<SamplingSettings> } | null = null;

  constructor(preferences: Preferences) {
    this.#preferences = preferences;
    this.reset();
  }

  reset(): void {
    const { systemPrompt, settings } = this.#next ?? this.#preferences;
    this.#next = null;
    this.systemPrompt = systemPrompt;
    this.settings = settings;
  }

  /** The next new chat begins in this way instead. */
  prepare(next: { systemPrompt: string; settings: Partial<SamplingSettings> }): void {
    this.#next = next;
  }
}
