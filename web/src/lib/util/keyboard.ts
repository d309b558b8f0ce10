// Reading key presses the same way everywhere.

/** While an input method composes, Enter picks a candidate. Safari ends the composition before the key press, which only keyCode 229 tells. */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}

/** On a touch screen, whose keyboard has no Shift + Enter, the line key makes lines and a button sends. */
export function isTouch(): boolean {
  return typeof matchMedia === 'function' && matchMedia('(pointer: coarse)').matches;
}

export function sendsMessage(event: KeyboardEvent): boolean {
  if (event.key !== 'Enter' || event.altKey || isComposing(event)) return false;
  return event.ctrlKey || event.metaKey || (!event.shiftKey && !isTouch());
}

export const isApple = typeof navigator !== 'undefined' && /Mac|iPhone|iPad/.test(navigator.platform);

export function hasCommand(event: KeyboardEvent): boolean {
  return isApple ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
}

export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
  );
}
