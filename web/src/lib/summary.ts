// A summary of a chat that does not fit into its model's context any more: the model reads one part after another, each with the
// summary of all parts before it, so that every word is read once.
import type { Message } from './api/types';

/** The share of the context that one part may fill: instruction, summary so far and the new one need room as well. */
const SHARE = 0.4;
/** Characters of a token where nothing was measured; Chinese has fewer than English. */
const CHARACTERS_PER_TOKEN = 1.5;

export interface SummaryWords {
  instruction: string;
  heading: string;
  question: string;
  answer: string;
}

/** How many characters one part may have in a context of so many tokens, by what the whole was measured to take. */
export function partSize(contextTokens: number, characters: number, tokens: number): number {
  const each = tokens > 0 && characters > 0 ? characters / tokens : CHARACTERS_PER_TOKEN;
  return Math.max(200, Math.floor(contextTokens * SHARE * Math.max(0.3, Math.min(each, 4))));
}

/** The chat as text, in parts of at most `size` characters, cut between messages where that is possible. */
export function parts(path: readonly Message[], words: SummaryWords, size: number): string[] {
  const said = path
    .filter(({ content }) => content.trim() !== '')
    .map(({ role, content }) => `${role === 'user' ? words.question : words.answer} ${content.trim()}`);
  const pieces = said.flatMap((text) => cut([...text], size));
  const result: string[] = [];
  let part = '';
  for (const piece of pieces) {
    if (part !== '' && part.length + piece.length + 2 > size) {
      result.push(part);
      part = '';
    }
    part += (part === '' ? '' : '\n\n') + piece;
  }
  return part === '' ? result : [...result, part];
}

function cut(characters: string[], size: number): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < characters.length; at += size) pieces.push(characters.slice(at, at + size).join(''));
  return pieces;
}

/** What the model is asked for one part. */
export function summaryQuestion(part: string, soFar: string, words: SummaryWords): string {
  const before = soFar === '' ? '' : `${words.heading}\n${soFar}\n\n`;
  return `${words.instruction}\n\n${before}${part}\n\n${words.instruction}`;
}
