// @vitest-environment node
import { expect, test } from 'vitest';
import { codePoints, segments, shortened, sliceCodePoints } from '$lib/util/text';
import { formatBytes, formatDuration } from '$lib/util/format';
import { backoff } from '$lib/util/time';

const samples = ['', 'gold', '真金', '👩‍🚀 a', 'a\ud800', '\udc00b', '𠮷野家'];

// Regression: on a phone a long model's name cut off the Chinese words behind it.
test('a long name keeps its beginning and its end', () => {
  expect(shortened('SmolLM2 135M', 24)).toBe('SmolLM2 135M');
  const short = shortened('SmolLM2-135M-Instruct.Q4_1.gguf', 24);
  expect(short).toBe('SmolLM2-135M-I…Q4_1.gguf');
  expect(codePoints(short)).toBe(24);
  expect(shortened('𠮷'.repeat(9), 4)).toBe('𠮷𠮷…𠮷');
});

test('code points are counted and cut as the iterator of strings does', () => {
  for (const text of samples) {
    expect(codePoints(text)).toBe([...text].length);
    for (let start = -1; start <= text.length + 1; start++) {
      expect(sliceCodePoints(text, start)).toBe([...text].slice(Math.max(0, start)).join(''));
    }
  }
});

test('segments put a snippet together again, whatever the ranges', () => {
  const snippet = '…真金不怕👩‍🚀火炼';
  for (const ranges of [
    [],
    [[1, 3]],
    [
      [4, 5],
      [1, 3],
    ],
    [[0, 99]],
    [[2, 1]],
    [
      [1, 4],
      [2, 6],
    ],
    [[-5, 2]],
  ] as [number, number][][]) {
    expect(
      segments(snippet, ranges)
        .map(({ text }) => text)
        .join(''),
    ).toBe(snippet);
  }
  expect(segments(snippet, [[1, 3]])).toEqual([
    { text: '…', match: false },
    { text: '真金', match: true },
    { text: '不怕👩‍🚀火炼', match: false },
  ]);
});

test('numbers are written as readers write them', () => {
  expect(formatBytes(98_362_432, 'en')).toBe('98 MB');
  expect(formatBytes(1_430_000_000, 'en')).toBe('1.4 GB');
  expect(formatBytes(999, 'en')).toBe('999 B');
  expect(formatDuration(310, 'en')).toBe('310 ms');
  expect(formatDuration(2340, 'en')).toBe('2.34 s');
});

test('waiting grows to a limit', () => {
  expect(backoff(0, () => 0)).toBe(300);
  expect(backoff(3, () => 0)).toBe(2400);
  expect(backoff(1000, () => 1)).toBe(12_500);
});
