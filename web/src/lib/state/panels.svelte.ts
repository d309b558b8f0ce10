// Which window lies over the chat; at most one.

export type Panel = 'models' | 'settings' | 'shortcuts';

export class Panels {
  open: Panel | null = $state(null);
  /** The list of chats when it lies over the chat, on narrow screens. */
  drawer = $state(false);

  show(panel: Panel): void {
    this.open = panel;
    this.drawer = false;
  }

  close(): void {
    this.open = null;
  }
}
