// Which chat the address names: `#/c/ID`, or none. In the fragment, so that any server of plain files can serve the page.
import type { Id } from '../api/types';

export interface Route {
  conversation: Id | null;
  /** A message to scroll to, from a search. */
  message: Id | null;
}

export function parseRoute(hash: string): Route {
  const match = /^#\/c\/([^/?]+)(?:\/m\/([^/?]+))?$/.exec(hash);
  try {
    return {
      conversation: match?.[1] ? decodeURIComponent(match[1]) : null,
      message: match?.[2] ? decodeURIComponent(match[2]) : null,
    };
  } catch {
    return { conversation: null, message: null };
  }
}

export function chatAddress(conversation: Id | null, message?: Id | null): string {
  if (conversation === null) return '#/';
  const chat = `#/c/${encodeURIComponent(conversation)}`;
  return message ? `${chat}/m/${encodeURIComponent(message)}` : chat;
}

export class Router {
  route: Route = $state.raw({ conversation: null, message: null });

  constructor() {
    this.route = parseRoute(location.hash);
    window.addEventListener('hashchange', () => {
      // The browser tells of our own changes too, a moment later: then there is nothing new.
      const { conversation, message } = parseRoute(location.hash);
      const shown = this.route;
      if (conversation !== shown.conversation || message !== shown.message)
        this.route = { conversation, message };
    });
  }

  go(conversation: Id | null, message?: Id | null): void {
    location.hash = chatAddress(conversation, message);
    this.route = parseRoute(location.hash);
  }

  /** Loads the page anew where it is. */
  reload(): void {
    location.reload();
  }

  /** Loads the page anew at its start: nothing that it has in memory stays, and nothing that is on its way arrives. */
  restart(): void {
    history.replaceState(null, '', chatAddress(null));
    location.reload();
  }

  /** Without a new entry in the browser's history: a new chat has just got its id. */
  replace(conversation: Id): void {
    history.replaceState(null, '', chatAddress(conversation));
    this.route = parseRoute(location.hash);
  }
}
