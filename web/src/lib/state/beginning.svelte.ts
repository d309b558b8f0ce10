// How the chat that does not exist yet will begin. It starts with what the reader chose for all new chats; what is changed
// on the start page belongs to this one chat and is gone with the next.
import type { SamplingSettings } from '../api/types';
import type { Preferences } from './preferences.svelte';

export class Beginning {
  systemPrompt = $state('');
  settings: Partial<SamplingSettings> = $state.raw({});
  readonly #preferences: Preferences;

  constructor(preferences: Preferences) {
    this.#preferences = preferences;
    this.reset();
  }

  reset(): void {
    this.systemPrompt = this.#preferences.systemPrompt;
    this.settings = this.#preferences.settings;
  }
}
