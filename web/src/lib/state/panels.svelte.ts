// Which window lies over the chat; at most one.

export type Panel = 'models' | 'settings' | 'shortcuts' | 'trash' | 'continuation' | 'improvements';

export class Panels {
  open: Panel | null = $state(null);
  /** The list of chats when it lies over the chat, on narrow screens. */
  drawer = $state(false);

  show(panel: Panel): void {
    this.open = panel;
    this.drawer = false;
  }

  /** Only `panel`: a window tells that it has closed when another one may be open already. */
  close(panel: Panel | null = this.open): void {
    if (this.open === panel) this.open = null;
  }
}
