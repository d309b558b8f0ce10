import { parse, type AST } from 'svelte/compiler';
import { describe, expect, test } from 'vitest';
import { catalogues, i18n, locales, matchLocale } from '$lib/i18n/i18n.svelte';

/** Every word of a catalogue as "path: kind", where kind is text or the number of a function's parameters. */
function shape(value: unknown, path = ''): string[] {
  if (typeof value === 'function') return [`${path}: function of ${value.length}`];
  if (typeof value === 'string') return [`${path}: text`];
  return Object.entries(value as object).flatMap(([key, inner]) => shape(inner, `${path}.${key}`));
}

describe('catalogues', () => {
  test.each(locales)('%s has the same words as English, none of them empty', (locale) => {
    expect(shape(catalogues[locale]).sort()).toEqual(shape(catalogues.en).sort());
    const { sentenceSpace: _, ...app } = catalogues[locale].app;
    for (const text of JSON.stringify({ ...catalogues[locale], app }).matchAll(/"[^"]+":"([^"]*)"/g)) {
      expect(text[1]).not.toBe('');
    }
  });

  test('Chinese words are Chinese', () => {
    const same = shape(catalogues.zh).filter((entry) => {
      const words = (catalogue: object) =>
        entry.split(':')[0]!.split('.').slice(1).reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], catalogue); // prettier-ignore
      return entry.endsWith('text') && words(catalogues.zh) === words(catalogues.en);
    });
    expect(same).toEqual(['.settings.fields.top_p.name: text', '.settings.fields.top_k.name: text', '.settings.fields.min_p.name: text']); // prettier-ignore
  });
});

test("the browser's languages are matched in its order", () => {
  expect(matchLocale(['zh-TW', 'en'])).toBe('zh');
  expect(matchLocale(['fr-FR', 'en-GB', 'zh'])).toBe('en');
  expect(matchLocale(['fr', 'de'])).toBe('en');
  expect(matchLocale([])).toBe('en');
  i18n.use('auto', ['zh-Hans-CN']);
  expect(i18n.t).toBe(catalogues.zh);
  expect(document.documentElement.lang).toBe('zh-CN');
});

describe('no words outside the catalogues', () => {
  const files = import.meta.glob<string>('../src/**/*.svelte', {
    query: '?raw',
    import: 'default',
    eager: true,
  });
  const spoken = new Set(['aria-label', 'title', 'placeholder', 'alt', 'aria-description']);
  /** The command that is shown on the login page is typed as it stands in every language. */
  const allowed = new Set(['zhenjin key new NAME']);

  function words(node: unknown, found: string[]): string[] {
    if (Array.isArray(node)) for (const inner of node) words(inner, found);
    else if (node && typeof node === 'object') {
      const { type } = node as { type?: string };
      if (type === 'Text') found.push((node as AST.Text).data);
      if (type === 'Attribute' && !spoken.has((node as AST.Attribute).name)) return found;
      for (const [key, inner] of Object.entries(node)) if (key !== 'metadata') words(inner, found);
    }
    return found;
  }

  test.each(Object.entries(files))('%s', (_file, source) => {
    const { fragment } = parse(source, { modern: true });
    const loose = words(fragment, []).filter((text) => /\p{L}{2,}/u.test(text) && !allowed.has(text.trim()));
    expect(loose).toEqual([]);
  });
});
