// Where the keyboard's focus goes when what had it goes away: the browser would let it fall to the page as a whole.
import { tick } from 'svelte';
import { isTouch } from './keyboard';

type Candidate = Element | null | undefined;

/** Nothing has the focus: what had it was removed, or can do nothing at the moment. */
export function isFocusLost(): boolean {
  const { activeElement } = document;
  return activeElement === null || activeElement === document.body || activeElement.matches(':disabled');
}

/** Focuses the first of these that can have it: one that is neither removed nor hidden nor disabled. */
export function focusFirst(...candidates: Candidate[]): void {
  for (const element of candidates) {
    if (!(element instanceof HTMLElement) || !element.isConnected || element === document.body) continue;
    element.focus();
    if (document.activeElement === element) return;
  }
}

/** Where all else is gone: the message box or, where it would open a keyboard on the screen, the list's button. */
export function focusHome(): void {
  const names = isTouch() ? ['open-sidebar', 'close-sidebar'] : ['composer'];
  focusFirst(...names.map((name) => document.getElementById(name)));
}

/** The control that appears in answer to a press takes the focus from that which was pressed. For `{@attach}`. */
export function takeFocus(element: HTMLElement): void {
  element.focus();
}

/** A message in place of what was pressed, unless the reader has gone on to something else meanwhile. */
export async function focusMessage(id: string | undefined): Promise<void> {
  await tick();
  if (id === undefined || !isFocusLost()) return;
  document.getElementById(`message-${id}`)?.focus({ preventScroll: true });
}

/** Remembers what has the focus now; the function that comes back gives it back, once `window`, which takes it, is gone. */
export function rememberFocus(window: HTMLElement): () => void {
  const before = document.activeElement;
  return () => {
    const isInside = () => window.contains(document.activeElement);
    if (!isFocusLost() && !isInside()) return;
    focusFirst(before);
    if (isFocusLost() || isInside()) focusHome();
  };
}

/**
 * Keeps the focus in a window: where the control that has it is removed, the first harmless button of the same row takes it or, where
 * the row is gone too, `home`. Whatever takes the focus by itself as it appears goes before.
 */
export function holdFocus(window: HTMLElement, home: () => Candidate): () => void {
  /** What had the focus last, and all that it lay in. */
  let trail: Element[] = [];
  const note = () => {
    trail = [];
    for (let one = document.activeElement; one && one !== window; one = one.parentElement) trail.push(one);
  };
  const mend = () => {
    const [last] = trail;
    if (!last || last.isConnected || !isFocusLost()) return;
    const row = trail.find((one) => one.isConnected && one.matches('li'));
    focusFirst(row?.querySelector('button:not(:disabled):not(.danger)'), home());
  };
  const observer = new MutationObserver(mend);
  observer.observe(window, { childList: true, subtree: true });
  window.addEventListener('focusin', note);
  return () => {
    observer.disconnect();
    window.removeEventListener('focusin', note);
  };
}
