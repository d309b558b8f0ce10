// A conversation is a tree of messages: an edited question or a second answer is a sibling, and nothing is lost.
// Pure functions; the page shows one path from a root to a leaf.
import type { Id, Message } from './api/types';

export type MessageTree = Readonly<Record<Id, Message>>;

/** Ids grow with time, but as text; creation time decides first. */
function byCreation(a: Message, b: Message): number {
  const [x, y] = [a.created_at, b.created_at];
  if (x !== y) return x < y ? -1 : 1;
  return a.id.localeCompare(b.id, 'en', { numeric: true });
}

const place = (message: Message) => `${message.role} ${message.parent_id ?? ''}`;

/** Messages with the same parent and role, oldest first. Grouped once for a whole tree: a long chat asks for every message. */
export class Versions {
  readonly #groups = new Map<string, Message[]>();

  constructor(tree: MessageTree) {
    for (const message of Object.values(tree)) {
      const group = this.#groups.get(place(message));
      if (group) group.push(message);
      else this.#groups.set(place(message), [message]);
    }
    for (const group of this.#groups.values()) if (group.length > 1) group.sort(byCreation);
  }

  /** Contains `message` itself. */
  of(message: Message): readonly Message[] {
    return this.#groups.get(place(message)) ?? [message];
  }
}

/** From the root down to `leaf`. A broken or cyclic chain ends where it breaks. */
export function pathTo(tree: MessageTree, leaf: Id | null): Message[] {
  const path: Message[] = [];
  const seen = new Set<Id>();
  for (let id = leaf; id !== null && !seen.has(id);) {
    const message: Message | undefined = tree[id];
    if (message === undefined) break;
    seen.add(id);
    path.push(message);
    id = message.parent_id;
  }
  return path.reverse();
}

/** The leaf below `start` reached by always taking the newest child. */
export function newestLeaf(tree: MessageTree, start: Id): Id {
  const children = new Map<Id | null, Message[]>();
  for (const message of Object.values(tree)) {
    const list = children.get(message.parent_id);
    if (list) list.push(message);
    else children.set(message.parent_id, [message]);
  }
  let id = start;
  const seen = new Set<Id>();
  while (!seen.has(id)) {
    seen.add(id);
    const newest = children.get(id)?.sort(byCreation).at(-1);
    if (newest === undefined) return id;
    id = newest.id;
  }
  return id;
}

/** The leaf to show when a conversation opens: the server's leaf, or the newest message's leaf when it names none. */
export function openingLeaf(tree: MessageTree, current: Id | null): Id | null {
  if (current !== null && tree[current]) return newestLeaf(tree, current);
  const newest = Object.values(tree).sort(byCreation).at(-1);
  return newest ? newestLeaf(tree, newest.id) : null;
}
