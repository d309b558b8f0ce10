/** Below this width the list of chats lies over the chat. The same number stands in the components' media queries. */
const narrow = typeof matchMedia === 'function' ? matchMedia('(max-width: 52rem)') : null;

export function onWide(run: () => void): void {
  narrow?.addEventListener('change', ({ matches }) => matches || run());
}

export function isNarrow(): boolean {
  return narrow?.matches ?? false;
}

/** Whether nobody sees the window: it lies in the background, or is minimised. */
export function isHidden(): boolean {
  return typeof document !== 'undefined' && document.hidden;
}

/**
 * Attached to what appears below what is read: all of it comes in sight or, where it is too tall, its beginning. There it stays until
 * the reader does something: what stands above it may still be drawn, and what appears over the message box takes room from it.
 */
export function showWhole(element: HTMLElement): () => void {
  const show = () => element.scrollIntoView?.({ block: 'nearest' });
  show();
  const watch = new AbortController();
  if (typeof ResizeObserver === 'function') {
    const observer = new ResizeObserver(show);
    for (let one: HTMLElement | null = element; one; one = one.parentElement) observer.observe(one);
    watch.signal.addEventListener('abort', () => observer.disconnect());
    for (const name of ['pointerdown', 'touchstart', 'wheel', 'keydown'])
      window.addEventListener(name, () => watch.abort(), {
        capture: true,
        passive: true,
        signal: watch.signal,
      });
  }
  return () => watch.abort();
}
