// Short notices at the edge of the page, some with one thing to do about them.

export interface Toast {
  id: number;
  kind: 'info' | 'error';
  text: string;
  action?: { label: string; run: () => unknown };
  /** The id of what it is about, where that can be settled otherwise. */
  about?: string;
}

const SHOWN_FOR = { info: 6_000, error: 10_000 };

export class Toasts {
  list: Toast[] = $state.raw([]);
  #next = 1;
  #timers = new Map<number, ReturnType<typeof setTimeout>>();

  show(kind: Toast['kind'], text: string, action?: Toast['action'], about?: string): void {
    // The same notice twice says nothing new.
    for (const toast of this.list) if (toast.text === text && !toast.action) this.dismiss(toast.id);
    const toast: Toast = { id: this.#next++, kind, text };
    if (action) toast.action = action;
    if (about !== undefined) toast.about = about;
    this.list = [...this.list.slice(-3), toast];
    this.resume(toast.id);
  }

  dismiss(id: number): void {
    this.pause(id);
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  /** What these notices offer has been done, or cannot be done any more. */
  settle(about: string): void {
    for (const toast of this.list) if (toast.about === about) this.dismiss(toast.id);
  }

  clear(): void {
    for (const { id } of this.list) this.dismiss(id);
  }

  /** Whoever points at a notice is still reading it. */
  pause(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  resume(id: number): void {
    const toast = this.list.find((one) => one.id === id);
    this.pause(id);
    if (toast) this.#timers.set(id, setTimeout(() => this.dismiss(id), SHOWN_FOR[toast.kind])); // prettier-ignore
  }
}
