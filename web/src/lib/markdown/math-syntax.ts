// Recognises $…$, $$…$$, \(…\) and \[…\]. Only marks them (data-tex); drawing is math-render.ts's work.
//
// A dollar is a price more often than a formula, so, like pandoc: the opening $ has no space after it, the closing $
// no space before it and no digit after it.
import type { MarkdownIt, StateBlock, StateInline } from 'markdown-it';

const DOLLAR = 0x24;
const BACKSLASH = 0x5c;

export function mathPlugin(parser: MarkdownIt): void {
  parser.inline.ruler.before('escape', 'math', inlineMath);
  parser.block.ruler.before('fence', 'math_block', blockMath, {
    alt: ['paragraph', 'reference', 'blockquote', 'list'],
  });
  const escape = parser.utils.escapeHtml;
  parser.renderer.rules.math = (tokens, index) => {
    const token = tokens[index];
    const tex = escape(token?.content ?? '');
    return `<span class="math" data-tex="${tex}"${token?.info === 'display' ? ' data-display="true"' : ''}>${tex}</span>`;
  };
  parser.renderer.rules.math_block = (tokens, index) => {
    const tex = escape(tokens[index]?.content ?? '');
    return `<div class="math-block" data-tex="${tex}" data-display="true">${tex}</div>\n`;
  };
}

interface Delimiters {
  open: string;
  close: string;
  display: boolean;
}

function delimitersAt(source: string, position: number): Delimiters | null {
  const code = source.charCodeAt(position);
  if (code === DOLLAR) {
    return source.charCodeAt(position + 1) === DOLLAR
      ? { open: '$$', close: '$$', display: true }
      : { open: '$', close: '$', display: false };
  }
  if (code === BACKSLASH) {
    const next = source[position + 1];
    if (next === '(') return { open: '\\(', close: '\\)', display: false };
    if (next === '[') return { open: '\\[', close: '\\]', display: true };
  }
  return null;
}

/** Where `close` stands after `from`, not preceded by a backslash; −1 if nowhere. */
function findClose(source: string, close: string, from: number, end: number): number {
  for (let at = source.indexOf(close, from); at >= 0 && at < end; at = source.indexOf(close, at + 1)) {
    let backslashes = 0;
    while (source.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return at;
  }
  return -1;
}

function inlineMath(state: StateInline, silent: boolean): boolean {
  const delimiters = delimitersAt(state.src, state.pos);
  if (!delimiters) return false;
  const start = state.pos + delimiters.open.length;
  const end = findClose(state.src, delimiters.close, start, state.posMax);
  if (end < 0) return false;
  const content = state.src.slice(start, end);
  if (content.trim() === '') return false;
  if (delimiters.open === '$') {
    const after = state.src[end + 1] ?? '';
    if (/^\s|\s$/.test(content) || /[0-9$]/.test(after) || content.includes('`')) return false;
  }
  if (!silent) {
    const token = state.push('math', 'span', 0);
    token.content = content.trim();
    token.info = delimiters.display ? 'display' : '';
  }
  state.pos = end + delimiters.close.length;
  return true;
}

function lineText(state: StateBlock, line: number): string {
  return state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line] ?? 0);
}

/** A display formula has no blank line inside, as in TeX. */
function blockMath(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  if ((state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
  const first = lineText(state, startLine);
  const delimiters = delimitersAt(first, 0);
  if (!delimiters?.display) return false;
  const parts: string[] = [];
  for (let line = startLine; line < endLine; line++) {
    if (line > startLine && (state.isEmpty(line) || (state.sCount[line] ?? 0) < state.blkIndent))
      return false;
    const text = line === startLine ? first.slice(delimiters.open.length) : lineText(state, line);
    const close = findClose(text, delimiters.close, 0, text.length);
    if (close < 0) {
      parts.push(text);
      continue;
    }
    // Words after the formula make it part of a paragraph: inlineMath takes it there.
    if (text.slice(close + delimiters.close.length).trim() !== '') return false;
    parts.push(text.slice(0, close));
    if (silent) return true;
    const token = state.push('math_block', 'div', 0);
    token.block = true;
    token.content = parts.join('\n').trim();
    token.map = [startLine, line + 1];
    state.line = line + 1;
    return true;
  }
  return false;
}
