// The list of chats: pages of it, titles, deletion that can be undone.
import type { ApiClient } from '../api/client';
import type { Conversation, Id } from '../api/types';

const PAGE = 40;

export type Period = 'today' | 'yesterday' | 'lastWeek' | 'lastMonth' | 'older';

export function periodOf(date: Date, now: Date): Period {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const day = new Date(date.getFullYear(), date.getMonth(), date.getDate());
  const days = Math.round((midnight.getTime() - day.getTime()) / 86_400_000);
  if (days <= 0) return 'today';
  if (days === 1) return 'yesterday';
  if (days <= 7) return 'lastWeek';
  return days <= 30 ? 'lastMonth' : 'older';
}

export function groupByPeriod(chats: readonly Conversation[], now: Date): [Period, Conversation[]][] {
  const groups = new Map<Period, Conversation[]>();
  for (const chat of chats) {
    const period = periodOf(new Date(chat.updated_at), now);
    const group = groups.get(period);
    if (group) group.push(chat);
    else groups.set(period, [chat]);
  }
  return [...groups];
}

export class Chats {
  list: Conversation[] = $state.raw([]);
  hasMore = $state(false);
  loaded = $state(false);
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  async refresh(): Promise<void> {
    const first = await this.#api.conversations(PAGE);
    this.list = first;
    this.hasMore = first.length === PAGE;
    this.loaded = true;
  }

  async loadMore(): Promise<void> {
    const last = this.list.at(-1);
    if (!last) return;
    const more = await this.#api.conversations(PAGE, last.id);
    const known = new Set(this.list.map((chat) => chat.id));
    this.list = [...this.list, ...more.filter((chat) => !known.has(chat.id))];
    this.hasMore = more.length === PAGE;
  }

  /** A chat was created or used: it moves to the top. */
  put(chat: Conversation): void {
    this.list = [chat, ...this.list.filter((other) => other.id !== chat.id)];
  }

  replace(chat: Conversation): void {
    this.list = this.list.map((other) => (other.id === chat.id ? { ...other, ...chat } : other));
  }

  async rename(id: Id, title: string): Promise<Conversation> {
    const chat = await this.#api.updateConversation(id, { title });
    this.replace(chat);
    return chat;
  }

  /** Returns what brings it back. */
  async delete(id: Id): Promise<() => Promise<void>> {
    await this.#api.deleteConversation(id);
    this.list = this.list.filter((chat) => chat.id !== id);
    return async () => {
      await this.#api.restoreConversation(id);
      await this.refresh();
    };
  }
}
