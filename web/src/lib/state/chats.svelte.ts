// The list of chats: pages of it, titles, deletion that can be undone.
import type { ApiClient } from '../api/client';
import type { Conversation, Id } from '../api/types';

const PAGE = 40;
/** The most that the server lists at once. */
const LARGEST_PAGE = 200;

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
  readonly #failed: (error: unknown) => void;

  /** `failed` learns that the list could not be read after what was done. */
  constructor(api: ApiClient, failed: (error: unknown) => void = () => undefined) {
    this.#api = api;
    this.#failed = failed;
  }

  /** As many as are shown already: who looks at older chats goes on seeing them. */
  async refresh(): Promise<void> {
    const wanted = Math.max(PAGE, this.list.length);
    let list: Conversation[] = [];
    let hasMore = true;
    while (hasMore && list.length < wanted) {
      const limit = Math.min(LARGEST_PAGE, wanted - list.length);
      const page = await this.#api.conversations(limit, list.at(-1)?.id);
      list = [...list, ...page];
      hasMore = page.length === limit;
    }
    this.list = list;
    this.hasMore = hasMore;
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

  async delete(id: Id): Promise<void> {
    await this.#api.deleteConversation(id);
    this.list = this.list.filter((chat) => chat.id !== id);
  }

  async restore(id: Id): Promise<void> {
    await this.#api.restoreConversation(id);
    // It is back, whether or not the list can be read now.
    await this.refresh().catch(this.#failed);
  }
}
