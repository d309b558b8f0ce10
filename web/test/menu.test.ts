// Small controls: a menu of one thing, names that are put together, and rings around what has the focus.
import { readFileSync } from 'node:fs';
import { flushSync } from 'svelte';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import { settingFields } from '$lib/settings';
import Menu from '../src/components/Menu.svelte';
import SettingField from '../src/components/SettingField.svelte';
import { hideAll, makeTarget, show, target } from './views';

beforeEach(makeTarget);
afterEach(async () => {
  await hideAll();
  i18n.use('en', []);
  document.body.replaceChildren();
});

// Regression: "another answer" opened a menu of one entry.
test('the only thing in a menu is done at once', async () => {
  const run = vi.fn();
  show(Menu, { label: 'More', items: [{ icon: 'again' as const, label: 'Once more', run }] });
  const button = target.querySelector('button')!;
  expect([button.getAttribute('aria-haspopup'), button.getAttribute('aria-expanded')]).toEqual([null, null]);
  button.click();
  await vi.waitFor(() => expect(run).toHaveBeenCalledOnce());
  flushSync();
  expect(target.querySelector('[role=menu]')).toBeNull();
});

describe.each(locales)('in %s', (locale) => {
  // Regression: a half-width colon stood between Chinese words.
  test('a name and what is said of it have the colon of the language', () => {
    i18n.use(locale, []);
    const t = catalogues[locale];
    const field = settingFields[0]!;
    show(SettingField, { field, value: 1, onchange: () => undefined });
    const name = target.querySelector('button')?.getAttribute('aria-label');
    expect(name).toBe(`${t.settings.fields[field.name].name}${t.app.colon}${t.settings.reset}`);
    expect(t.app.colon).toBe(locale === 'zh' ? '：' : ': ');
  });
});

test('no component puts a half-width colon between words', () => {
  const files = import.meta.glob<string>('../src/components/*.svelte', {
    query: '?raw',
    import: 'default',
    eager: true,
  });
  const found = Object.entries(files).filter(([, source]) => /(?:label|title)="\{[^}"]+\}: \{/.test(source));
  expect(found.map(([file]) => file)).toEqual([]);
});

// Regression: the ring around a thumb lay over the line below it.
test('the ring of a small button lies inside', () => {
  const source = readFileSync('src/components/IconButton.svelte', 'utf8');
  expect(source).toMatch(/\.small:focus-visible \{\s*outline-offset: -2px;/);
});
