/** Below this width the list of chats lies over the chat. The same number stands in the components' media queries. */
const narrow = typeof matchMedia === 'function' ? matchMedia('(max-width: 52rem)') : null;

export function onWide(run: () => void): void {
  narrow?.addEventListener('change', ({ matches }) => matches || run());
}

export function isNarrow(): boolean {
  return narrow?.matches ?? false;
}
