// @vitest-environment node
// Every pair of text and ground that the components use reaches WCAG AA, in both themes.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const tokens = readFileSync('src/styles/tokens.css', 'utf8');

const colours = new Map<string, [light: string, dark: string]>();
for (const [, name = '', value = ''] of tokens.matchAll(/--([a-z-]+):\s*([^;]+);/g)) {
  const pair = /^light-dark\((#\w{6}), (#\w{6})\)$/.exec(value);
  if (pair?.[1] && pair[2]) colours.set(name, [pair[1], pair[2]]);
  else if (/^#\w{6}$/.test(value)) colours.set(name, [value, value]);
}

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a: string, b: string): number {
  const [high = 0, low = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

const grounds = ['paper', 'surface', 'sunken', 'raised', 'hover', 'pressed'];
const texts: [text: string, grounds: string[], least: number][] = [
  ['ink', [...grounds, 'gold-wash', 'danger-wash'], 7],
  ['ink-soft', [...grounds, 'gold-wash'], 4.5],
  ['gold-text', ['paper', 'surface', 'sunken', 'raised', 'hover', 'gold-wash'], 4.5],
  ['on-gold', ['gold', 'gold-hover'], 7],
  ['danger', ['paper', 'surface', 'danger-wash', 'gold-wash'], 4.5],
  ['good', ['paper', 'surface', 'gold-wash'], 4.5],
  ['line-strong', ['surface'], 3],
  ...['keyword', 'string', 'number', 'title', 'comment'].map((kind): [string, string[], number] => [
    `code-${kind}`,
    ['sunken'],
    4.5,
  ]),
];

describe.each(['light', 'dark'])('%s', (theme) => {
  const side = theme === 'light' ? 0 : 1;
  const colour = (name: string) => colours.get(name)?.[side] ?? '';
  test.each(texts)('%s', (text, on, least) => {
    for (const ground of on) {
      expect(contrast(colour(text), colour(ground)), `${text} on ${ground}`).toBeGreaterThanOrEqual(least);
    }
  });
});
