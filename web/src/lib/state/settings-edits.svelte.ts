// How chats were set anew, as far as the server does not have it yet: kept until it does, also when the settings are closed or
// another chat is shown.
import { ApiError } from '../api/errors';
import type { Id, SamplingSettings } from '../api/types';
import { debounce } from '../util/time';

export interface SettingsEdit {
  /** Null while it is as it was. */
  systemPrompt: string | null;
  /** Those that were changed. */
  settings: Partial<SamplingSettings>;
}

export interface SettingsEvents {
  save(conversation: Id, edit: SettingsEdit): Promise<void>;
  failed(error: unknown): void;
  /** The server does not accept a field. */
  refused(conversation: Id, error: ApiError): void;
}

const NOTHING: SettingsEdit = { systemPrompt: null, settings: {} };

export class SettingsEdits {
  #edits: Record<Id, SettingsEdit> = $state.raw({});
  /** The field that the server refused, as its error names it. */
  #refused: Record<Id, string> = $state.raw({});
  /** One after the other, so that what was written last is what stays. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #events: SettingsEvents;
  readonly #soon = debounce(500, () => void this.saveAll());

  constructor(events: SettingsEvents) {
    this.#events = events;
  }

  of(conversation: Id): SettingsEdit {
    return this.#edits[conversation] ?? NOTHING;
  }

  refused(conversation: Id): string | null {
    return this.#refused[conversation] ?? null;
  }

  /** Something is not saved that the server may still take. */
  isWaiting(conversation: Id): boolean {
    return this.#edits[conversation] !== undefined && this.refused(conversation) === null;
  }

  change(conversation: Id, changed: Partial<SettingsEdit>): void {
    const before = this.of(conversation);
    const settings = { ...before.settings, ...changed.settings };
    this.#edits = { ...this.#edits, [conversation]: { ...before, ...changed, settings } };
    this.#refused = without(this.#refused, conversation);
    this.#soon();
  }

  /** At once. Resolves when the server has taken it, or has not. */
  saveAll(): Promise<void> {
    this.#soon.cancel();
    const saving = this.#queue.then(async () => {
      for (const id of Object.keys(this.#edits)) await this.#send(id);
    });
    this.#queue = saving;
    return saving;
  }

  async #send(id: Id): Promise<void> {
    const sent = this.#edits[id];
    if (sent === undefined || !this.isWaiting(id)) return;
    try {
      await this.#events.save(id, sent);
      // Changed again meanwhile, it is saved again soon.
      if (this.#edits[id] === sent) this.#edits = without(this.#edits, id);
    } catch (error) {
      if (error instanceof ApiError && error.status === 400 && error.param !== null) {
        if (this.#edits[id] !== sent) return;
        this.#refused = { ...this.#refused, [id]: error.param.replace(/^settings\./, '') };
        this.#events.refused(id, error);
        return;
      }
      // The chat is gone, and so is what its settings were to be.
      if (error instanceof ApiError && error.status === 404) this.#edits = without(this.#edits, id);
      this.#events.failed(error);
    }
  }
}

function without<T>(record: Record<Id, T>, id: Id): Record<Id, T> {
  const { [id]: _, ...rest } = record;
  return rest;
}
