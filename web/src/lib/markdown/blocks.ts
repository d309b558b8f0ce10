// Cuts a growing Markdown text into its top-level blocks, so that a long answer stays smooth: what comes after a
// finished block cannot change it, and only the unfinished rest is parsed again when text arrives.
import type { Env, Token } from 'markdown-it';
import { parser, type References } from './parser';

export interface Block {
  /** Line on which the block begins: stable while the text grows. */
  key: number;
  source: string;
}

export interface Blocks {
  blocks: Block[];
  /** Link definitions of the whole text. A new object when they change, for then every block may look different. */
  references: References;
}

interface Parsed {
  starts: number[];
  references: References;
}

/** Block structure only: which lines begin a top-level block, and which links are defined. */
function parseBlocks(text: string): Parsed {
  const env: Env = {};
  const tokens: Token[] = [];
  parser.block.parse(text, parser, env, tokens);
  const starts = tokens.filter((token) => token.level === 0 && token.nesting >= 0 && token.map);
  return { starts: starts.map((token) => token.map?.[0] ?? 0), references: env.references ?? {} };
}

export class BlockSplitter {
  #text = '';
  #finished: Block[] = [];
  #finishedReferences: References = {};
  #references: References = {};
  /** Where the unfinished rest begins, in the text and in lines. */
  #restStart = 0;
  #restLine = 0;

  update(raw: string): Blocks {
    const text = raw.includes('\r') ? raw.replace(/\r\n?/g, '\n') : raw;
    if (!text.startsWith(this.#text)) this.#reset();
    this.#text = text;
    const rest = text.slice(this.#restStart);
    const { starts, references } = parseBlocks(rest);
    const blocks = cut(rest, starts, this.#restLine);
    const open = blocks.length - countFinished(blocks);
    this.#finish(rest, blocks.slice(0, blocks.length - open));
    this.#learn({ ...references, ...this.#finishedReferences });
    return {
      blocks: [...this.#finished, ...blocks.slice(blocks.length - open)],
      references: this.#references,
    };
  }

  #finish(rest: string, blocks: Block[]): void {
    if (blocks.length === 0) return;
    this.#finished = [...this.#finished, ...blocks];
    const characters = blocks.reduce((sum, block) => sum + block.source.length + 1, 0);
    const text = rest.slice(0, characters);
    this.#finishedReferences = { ...parseBlocks(text).references, ...this.#finishedReferences };
    this.#restStart += characters;
    this.#restLine += text.split('\n').length - 1;
  }

  #learn(references: References): void {
    if (JSON.stringify(references) !== JSON.stringify(this.#references)) this.#references = references;
  }

  #reset(): void {
    this.#text = '';
    this.#finished = [];
    this.#finishedReferences = {};
    this.#restStart = 0;
    this.#restLine = 0;
  }
}

/**
 * A last line that has not ended may still become anything ("2" → "2. item of the list above"): then the block before
 * it is not finished either. And only a blank line parts two blocks for good.
 */
function countFinished(blocks: readonly Block[]): number {
  let finished = Math.max(0, blocks.length - (blocks.at(-1)?.source.includes('\n') ? 1 : 2));
  while (finished > 0 && !/\n[ \t]*$/.test(blocks[finished - 1]?.source ?? '')) finished--;
  return finished;
}

function cut(text: string, starts: number[], firstLine: number): Block[] {
  if (text === '') return [];
  const lines = text.split('\n');
  // Text before the first block (blank lines, link definitions) goes with it.
  return (starts.length > 0 ? starts : [0]).map((start, index) => ({
    key: firstLine + (index === 0 ? 0 : start),
    source: lines.slice(index === 0 ? 0 : start, starts[index + 1] ?? lines.length).join('\n'),
  }));
}
