import { expect, test } from 'vitest';
import { parts, partSize, summaryQuestion, type SummaryWords } from '$lib/summary';
import { Beginning } from '$lib/state/beginning.svelte';
import { Preferences } from '$lib/state/preferences.svelte';
import { message } from './fakes';
import { FOR_NEW_CHATS } from '$lib/settings';

const words: SummaryWords = { instruction: 'Summarise.', heading: 'So far:', question: 'Q:', answer: 'A:' };
const said = (...texts: string[]) =>
  texts.map((content, index) =>
    message({ id: `m${index}`, role: index % 2 ? 'assistant' : 'user', content }),
  );

test('a chat is summarised in parts that fit, and every word is in one of them', () => {
  const path = said('first', 'one', 'x'.repeat(25) + '真金👍🏽', '', 'last');
  const all = parts(path, words, 20);
  expect(all.every((part) => [...part].length <= 20)).toBe(true);
  expect(all.join('').replace(/\s/g, '')).toBe(`Q:firstA:oneQ:${'x'.repeat(25)}真金👍🏽Q:last`);
  expect(all[0]).toBe('Q: first\n\nA: one');
  expect(parts([], words, 20)).toEqual([]);
});

test('a part leaves room in the context, whatever the language', () => {
  expect(partSize(1000, 4000, 1000)).toBe(1600);
  expect(partSize(1000, 900, 1000)).toBe(360);
  expect(partSize(1000, 0, 0)).toBe(600);
  expect(partSize(10, 1, 1)).toBe(200);
});

test('each part is read with the summary of those before it', () => {
  expect(summaryQuestion('Q: b', '', words)).toBe('Summarise.\n\nQ: b\n\nSummarise.');
  expect(summaryQuestion('Q: b', 'a', words)).toBe('Summarise.\n\nSo far:\na\n\nQ: b\n\nSummarise.');
});

test('how a chat begins is for that chat alone', () => {
  localStorage.clear();
  const preferences = new Preferences();
  preferences.update({ systemPrompt: 'For all.' });
  const beginning = new Beginning(preferences);
  beginning.systemPrompt = 'For this one.';
  beginning.reset();
  expect(beginning.systemPrompt).toBe('For all.');
  beginning.prepare({ systemPrompt: 'Continued.', settings: { seed: 1 } });
  beginning.reset();
  expect([beginning.systemPrompt, beginning.settings]).toEqual(['Continued.', { seed: 1 }]);
  beginning.reset();
  expect([beginning.systemPrompt, beginning.settings]).toEqual(['For all.', FOR_NEW_CHATS]);
  expect(new Preferences().systemPrompt).toBe('For all.');
});
