// The keys that work anywhere on the page. The list that the reader sees is ShortcutsDialog.svelte.
import { attempt, chat, composer, newChat, panels, preferences, session } from './app.svelte';
import { hasCommand, isComposing, isTyping } from './util/keyboard';
import { isNarrow } from './util/screen';

export function toggleSidebar(): void {
  if (isNarrow()) panels.drawer = !panels.drawer;
  else preferences.update({ sidebarOpen: !preferences.sidebarOpen });
  const open = isNarrow() ? panels.drawer : preferences.sidebarOpen;
  // The button that undoes it: the one that was pressed is out of sight.
  setTimeout(() => document.getElementById(open ? 'close-sidebar' : 'open-sidebar')?.focus());
}

export function focusSearch(): void {
  if (isNarrow()) panels.drawer = true;
  else if (!preferences.sidebarOpen) preferences.update({ sidebarOpen: true });
  setTimeout(() => document.getElementById('search')?.focus());
}

export function editLastQuestion(): void {
  chat.editing = chat.path.findLast((message) => message.role === 'user')?.id ?? null;
}

/** With Ctrl (⌘ on a Mac). */
const commands: Record<string, () => void> = {
  k: focusSearch,
  b: toggleSidebar,
  // Of a chat that is being read, or could not be, nothing is known that could be set.
  ',': () => chat.wanted !== null || panels.show('settings'),
  m: () => panels.show('models'),
  '/': () => panels.show('shortcuts'),
};

export function handleShortcut(event: KeyboardEvent): void {
  if (session.phase !== 'open' || isComposing(event) || event.defaultPrevented) return;
  const key = event.key.toLowerCase();
  let run: (() => void) | undefined;
  if (hasCommand(event)) run = event.shiftKey ? (key === 'o' ? newChat : undefined) : commands[key];
  else if (panels.open !== null) return;
  else if (key === 'escape') run = escape();
  else if (key === '/' && !isTyping(event.target)) run = () => composer.focus();
  if (!run) return;
  event.preventDefault();
  run();
}

/** The innermost thing that Esc ends; the browser's own windows have taken their Esc already. */
function escape(): (() => void) | undefined {
  if (panels.drawer) return toggleSidebar;
  if (chat.growing) return () => void attempt(() => chat.stop());
  return undefined;
}
