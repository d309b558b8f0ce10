// Text measured in Unicode code points, as the server counts it.

export function codePoints(text: string): number {
  let count = 0;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit >= 0xd800 && unit < 0xdc00 && index + 1 < text.length) index++;
    count++;
  }
  return count;
}

/** `text` without its first `start` code points. */
export function sliceCodePoints(text: string, start: number): string {
  if (start <= 0) return text;
  let index = 0;
  for (let skipped = 0; skipped < start && index < text.length; skipped++) {
    index += (text.codePointAt(index) ?? 0) > 0xffff ? 2 : 1;
  }
  return text.slice(index);
}

export interface Segment {
  text: string;
  match: boolean;
}

/** Cuts a snippet at its match ranges ([start, end) in code points); overlapping or invalid ranges are ignored. */
export function segments(text: string, ranges: readonly (readonly [number, number])[]): Segment[] {
  const points = [...text];
  const result: Segment[] = [];
  let position = 0;
  const push = (from: number, to: number, match: boolean) => {
    if (to > from) result.push({ text: points.slice(from, to).join(''), match });
  };
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const from = Math.max(position, Math.min(start, points.length));
    const to = Math.max(from, Math.min(end, points.length));
    push(position, from, false);
    push(from, to, true);
    position = to;
  }
  push(position, points.length, false);
  return result;
}

/** Marks that change the direction of everything after them, and controls that are no text. */
const UNSAFE_IN_A_LINE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;

/** One line of text that cannot turn the words around it: for titles in windows, tooltips and sentences. */
export function oneLine(text: string): string {
  return text.toWellFormed().replace(UNSAFE_IN_A_LINE, ' ').replace(/ {2,}/g, ' ').trim();
}

/** At most `most` characters: of a longer text, its beginning and its end. */
export function shortened(text: string, most: number): string {
  const points = [...text];
  if (points.length <= most) return text;
  const end = Math.floor((most - 1) * 0.4);
  return `${points.slice(0, most - 1 - end).join('')}…${points.slice(points.length - end).join('')}`;
}

/** For a name inside a sentence: its own direction, whatever the sentence's (first strong isolate … pop). */
export function isolated(text: string): string {
  return `\u2068${oneLine(text)}\u2069`;
}
