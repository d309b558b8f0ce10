// @vitest-environment node
import { expect, test } from 'vitest';
import type { Message } from '$lib/api/types';
import { newestLeaf, openingLeaf, pathTo, Versions } from '$lib/tree';
import { message } from './fakes';

function tree(...entries: [id: string, parent: string | null, role: Message['role'], created: number][]) {
  return Object.fromEntries(
    entries.map(([id, parent_id, role, created_at]) => [id, message({ id, parent_id, role, created_at })]),
  );
}

const edited = tree(
  ['q1', null, 'user', 1],
  ['a1', 'q1', 'assistant', 2],
  ['q2', 'a1', 'user', 3],
  ['a2', 'q2', 'assistant', 4],
  ['q1b', null, 'user', 5],
  ['a1b', 'q1b', 'assistant', 6],
  ['a1c', 'q1b', 'assistant', 7],
);
const ids = (messages: readonly Message[]) => messages.map(({ id }) => id);

test('a path goes from the root to the leaf', () => {
  expect(ids(pathTo(edited, 'a2'))).toEqual(['q1', 'a1', 'q2', 'a2']);
  expect(ids(pathTo(edited, 'a1c'))).toEqual(['q1b', 'a1c']);
  expect(pathTo(edited, null)).toEqual([]);
  expect(pathTo(edited, 'unknown')).toEqual([]);
});

test('siblings are the versions of one message, oldest first', () => {
  expect(ids(new Versions(edited).of(edited.q1b!))).toEqual(['q1', 'q1b']);
  expect(ids(new Versions(edited).of(edited.a1b!))).toEqual(['a1b', 'a1c']);
  expect(ids(new Versions(edited).of(edited.a1!))).toEqual(['a1']);
});

test('a branch is shown at its newest leaf', () => {
  expect(newestLeaf(edited, 'q1')).toBe('a2');
  expect(newestLeaf(edited, 'q1b')).toBe('a1c');
  expect(openingLeaf(edited, 'a1')).toBe('a2');
  expect(openingLeaf(edited, null)).toBe('a1c');
  expect(openingLeaf(edited, 'unknown')).toBe('a1c');
  expect(openingLeaf({}, null)).toBeNull();
});

test('a cycle, which no server should send, does not hang the page', () => {
  const cyclic = tree(['x', 'y', 'user', 1], ['y', 'x', 'assistant', 2]);
  expect(ids(pathTo(cyclic, 'x'))).toEqual(['y', 'x']);
  expect(newestLeaf(cyclic, 'x')).toBe('x');
});
