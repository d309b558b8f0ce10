// Where tests show components: an element of the page, which lasts for one test.
import { flushSync, mount, unmount, type Component } from 'svelte';

const shown: Record<string, unknown>[] = [];

/** Made anew before each test. */
export let target: HTMLElement;

/** For `beforeEach`. */
export function makeTarget(): void {
  target = document.createElement('div');
  document.body.append(target);
}

export function show<P extends Record<string, unknown>>(component: Component<P>, props: P): void {
  shown.push(mount(component, { target, props }) as Record<string, unknown>);
  flushSync();
}

/** Takes away what is shown; the target stays. */
export async function hideAll(): Promise<void> {
  for (const view of shown.splice(0)) await unmount(view);
}
