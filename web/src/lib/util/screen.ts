/** Below this width the list of chats lies over the chat. The same number stands in the components' media queries. */
const narrow = typeof matchMedia === 'function' ? matchMedia('(max-width: 52rem)') : null;

export function onWide(run: () => void): void {
  narrow?.addEventListener('change', ({ matches }) => matches || run());
}

export function isNarrow(): boolean {
  return narrow?.matches ?? false;
}

/** Attached to what appears below what is read: all of it comes in sight or, where it is too tall, its beginning. */
export function showWhole(element: HTMLElement): void {
  element.scrollIntoView?.({ block: 'nearest' });
}
