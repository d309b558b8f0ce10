import { flushSync, mount, unmount } from 'svelte';
import { afterEach, expect, test, vi } from 'vitest';
import ProsodyPanel from '../src/components/ProsodyPanel.svelte';
import { ApiError } from '$lib/api/errors';
import type { Prosody } from '$lib/api/types';
import { api } from '$lib/app.svelte';
import { catalogues, i18n } from '$lib/i18n/i18n.svelte';

type Verse = NonNullable<Prosody['verse']>;

function character(text: string, fields: Partial<Verse['lines'][number]['characters'][number]> = {}) {
  return {
    text,
    pattern: 'level' as const,
    groups: [],
    modern_pattern: 'oblique' as const,
    readings: ['x'],
    ...fields,
  };
}

const verse: Verse = {
  form: '五言絕句',
  lines: [
    { characters: [character('山'), character('高', { groups: ['下平聲四豪'] })] },
    { characters: [character('更', { pattern: 'either' }), character('流', { groups: ['下平聲十一尤'] })] },
    { characters: [character('□', { pattern: 'unknown', readings: [] }), character('目', { pattern: 'oblique' })] },
    { characters: [character('一'), character('山', { groups: ['上平聲十五刪', '去聲十五諫'] })] },
    { characters: [character('里'), character('里')] },
    { characters: [character('西'), character('樓', { groups: ['下平聲十一尤', '上聲七麌'] })] },
  ],
  rhyme_book: {
    rhyme: '下平聲十一尤', rhyming: [1, 5], missing: [3],
    rules: {
      kept: 4, total: 9,
      broken: [
        { rule: 'oblique_end', places: [{ line: 0, character: 1 }] },
        { rule: 'level_end', places: [{ line: 1, character: 1 }] },
        { rule: 'alternation', places: [{ line: 1, character: 0 }, { line: 1, character: 1 }] },
        { rule: 'opposition', places: [{ line: 2, character: 1 }, { line: 3, character: 1 }] },
        { rule: 'adhesion', places: [{ line: 1, character: 1 }, { line: 2, character: 1 }] },
      ],
    },
  },
  modern: { rhyme: null, rhyming: [], missing: [1, 3, 5], rules: null },
}; // prettier-ignore

let view: Record<string, unknown> | undefined;

async function show(answer: Prosody | Error) {
  const asked = vi
    .spyOn(api, 'prosody')
    .mockImplementation(() => (answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer)));
  const target = document.createElement('div');
  document.body.append(target);
  view = mount(ProsodyPanel, { target, props: { id: 'p', text: '一，二' } });
  flushSync();
  expect(target.textContent).toContain(i18n.t.prosody.loading);
  await vi.waitFor(() => {
    flushSync();
    expect(target.textContent).not.toContain(i18n.t.prosody.loading);
  });
  const all = (selector: string) =>
    [...target.querySelectorAll(selector)].map((element) => element.textContent?.replace(/\s+/g, ' ').trim());
  return { target, asked, all };
}

function marks(target: HTMLElement): string[] {
  const signs: Record<string, string> = { level: '○', oblique: '●', either: '⊙', unknown: '?' };
  return [...target.querySelectorAll<SVGElement>('ol .mark')].map(
    (mark) => signs[mark.dataset.pattern ?? ''] ?? '',
  );
}

afterEach(() => {
  if (view) void unmount(view);
  vi.restoreAllMocks();
  i18n.use('en', []);
  document.body.replaceChildren();
});

test('marks, rhymes and broken rules stand where they belong', async () => {
  const { target, all, asked } = await show({ verse, problem: null });
  expect(asked.mock.calls[0]?.[0]).toEqual({ text: '一，二' });
  expect(marks(target).join('')).toBe('○○⊙○?●○○○○○○');
  expect(all('.character.rhymes .written')).toEqual(['流', '樓']);
  // Of several groups the one that rhymes is named; where none does, all are.
  expect(all('.rhyme')).toEqual(['尤', '✗ 刪 諫', '尤']);
  expect(all('.character.breaks .written')).toEqual(['高', '更', '流', '目', '山']);
  expect(all('dd ul li')).toEqual([
    'Line 1 should end oblique.',
    'Line 2 should end level.',
    'Line 2: characters 1 and 2 should be of opposite kinds.',
    'Lines 3 and 4: the second characters should be of opposite kinds.',
    'Lines 2 and 3: the second characters should be of the same kind.',
  ]);
  expect(all('dd')[0]).toBe('下平聲十一尤: 2 of the 3 lines that should rhyme do');
  expect(all('dd')[1]).toContain('4 of 9 rules are kept');
  // What the signs say is there for who does not see them.
  expect(all('.character .visually-hidden')[3]).toBe('level breaks a rule rhyme word');
});

test('modern readings replace those of the rhyme book', async () => {
  i18n.use('zh', []);
  const { target, all } = await show({ verse, problem: null });
  const buttons = [...target.querySelectorAll<HTMLButtonElement>('.standards button')];
  expect(all('.standards button')).toEqual(['平水韵', '今音']);
  buttons[1]?.click();
  flushSync();
  expect(buttons.map((button) => button.getAttribute('aria-pressed'))).toEqual(['false', 'true']);
  expect(new Set(marks(target))).toEqual(new Set(['●']));
  expect(all('.reading').slice(0, 5)).toEqual(['x', 'x', 'x', 'x', '–']);
  expect(all('.rhyme')).toEqual(['✗', '✗', '✗']);
  expect(all('dd')).toEqual([catalogues.zh.prosody.noRhyme(3), catalogues.zh.prosody.noRules]);
});

test('a text that the server takes for no verse is said to be none', async () => {
  const { target } = await show({ verse: null, problem: 'line_too_long' });
  expect(target.textContent).toContain(catalogues.en.prosody.problems.line_too_long);
});

test('a failure is said, and tried again', async () => {
  const { target, asked } = await show(new ApiError(500, 'broken'));
  expect(target.textContent).toContain(catalogues.en.prosody.failed);
  asked.mockResolvedValue({ verse, problem: null });
  target.querySelector<HTMLButtonElement>('button')?.click();
  await vi.waitFor(() => expect(target.querySelectorAll('ol > li')).toHaveLength(6));
});
