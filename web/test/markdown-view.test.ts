import { flushSync, mount, unmount } from 'svelte';
import { beforeEach, expect, test, vi } from 'vitest';
import MarkdownView from '../src/components/MarkdownView.svelte';
import * as draw from '$lib/markdown/draw.svelte';
import { LiveProps } from './live-props.svelte';

vi.mock(import('$lib/markdown/draw.svelte'), async (original) => {
  const actual = await original();
  return { ...actual, drawBlock: vi.fn(actual.drawBlock) };
});

beforeEach(() => void vi.mocked(draw.drawBlock).mockClear());

function show(text: string) {
  const live = new LiveProps({ text, growing: true });
  const target = document.createElement('div');
  document.body.append(target);
  const view = mount(MarkdownView, { target, props: live.props });
  flushSync();
  return { live, target, view };
}

test('a piece of text draws only the blocks that it can change', () => {
  const { live, target, view } = show('word\n\n'.repeat(50));
  vi.mocked(draw.drawBlock).mockClear();
  for (const piece of ['more', ' and', ' more', '\n\nnext']) {
    live.props.text += piece;
    flushSync();
  }
  expect(vi.mocked(draw.drawBlock).mock.calls.length).toBeLessThanOrEqual(12);
  expect(target.querySelectorAll('.block')).toHaveLength(52);
  void unmount(view);
});

test('what is selected in a growing block stays selected', () => {
  const { live, target, view } = show('alpha beta');
  const text = target.querySelector('p')!.firstChild!;
  live.props.text += ' gamma **delta**';
  flushSync();
  expect(target.querySelector('p')!.firstChild).toBe(text);
  expect(target.textContent?.trim()).toBe('alpha beta gamma delta');
  void unmount(view);
});

test('code is copied without its frame', async () => {
  const written: string[] = [];
  Object.defineProperty(navigator, 'clipboard', {
    configurable: true,
    value: { writeText: (text: string) => Promise.resolve(void written.push(text)) },
  });
  const { target, view } = show('```js\nconst a = 1;\n```');
  target.querySelector<HTMLButtonElement>('.code-copy')!.click();
  await vi.waitFor(() => expect(written).toEqual(['const a = 1;\n']));
  void unmount(view);
});
