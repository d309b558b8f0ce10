// @vitest-environment node
import { expect, test } from 'vitest';
import { splitThinking } from '$lib/thinking';

test.each([
  ['plain', { thoughts: null, answer: 'plain', open: false }],
  ['', { thoughts: null, answer: '', open: false }],
  ['<thi', { thoughts: null, answer: '', open: false }],
  ['<think>\nhm', { thoughts: 'hm', answer: '', open: true }],
  ['<think>\nhm\n</think>\n\nyes', { thoughts: 'hm', answer: 'yes', open: false }],
  ['<think>\n\n</think>\n\nyes', { thoughts: null, answer: 'yes', open: false }],
  [
    'The tag <think> opens </think>.',
    { thoughts: null, answer: 'The tag <think> opens </think>.', open: false },
  ],
  ['<thing>', { thoughts: null, answer: '<thing>', open: false }],
])('%j', (content, expected) => expect(splitThinking(content)).toEqual(expected));
