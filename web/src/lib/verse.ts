// Whether an answer holds Chinese verse, told from its shape alone: short lines of equal length, or sentences of short lines,
// as in ci. Only then is the server asked for tones and rhymes.
import { codePoints } from './util/text';

/** Characters that the server takes. */
const LONGEST = 4000;
/** Characters of the longest lines of ci. */
const LONGEST_LINE = 11;

const HAN = /\p{Script=Han}/u;
const MARKDOWN = /[*_`>#\\]|<br\s*\/?>/g;
const ONLY_VERSE = /^[\p{Script=Han}，。！？；、：,.!?;:「」『』“”‘’\s]+$/u;
const DIVIDERS = /[，。！？；、：,.!?;:「」『』“”‘’]+/;
const ENDED = /[，。！？；,.!?;][」』”’]*$/u;
/** A space between characters divides lines as a comma does; the server joins what spaces divide. */
const INNER_SPACE = /(?<=\p{Script=Han})\s+(?=\p{Script=Han})/gu;
/** Words of modern prose; its short sentences would look like the lines of a ci. */
const MODERN =
  /[的们們吗嗎呢吧很您你它她]|什[么麼]|甚麼|[这這那][个個是些首]|可以|已经|已經|应该|應該|通过|通過|因[为為]|所以|如果|但是|谢谢|謝謝|需要/;

/** What stands on one line of the text. */
interface Row {
  text: string;
  /** Characters of each line of verse on it. */
  lengths: number[];
}

/** The verse in a text, with titles, names and remarks around it left out; null when there is none. */
export function verseIn(text: string): string | null {
  if (!HAN.test(text)) return null;
  const rows = text
    .split('\n')
    .map((line) => line.replace(MARKDOWN, '').trim())
    .filter((line) => line !== '')
    .map(rowOf);
  const regular = longest(regularRuns(rows));
  const irregular = longest(irregularRuns(rows));
  const found = count(irregular) > count(regular) ? irregular : regular;
  if (found.length === 0) return null;
  const verse = found.map((row) => row.text).join('\n');
  return codePoints(verse) > LONGEST ? null : verse;
}

function rowOf(line: string): Row | null {
  if (!ONLY_VERSE.test(line)) return null;
  const text = line.replace(INNER_SPACE, '，');
  const lengths = text
    .split(DIVIDERS)
    .map((part) => codePoints(part.trim()))
    .filter((length) => length > 0);
  return lengths.length === 0 ? null : { text, lengths };
}

const count = (rows: Row[]) => rows.reduce((sum, row) => sum + row.lengths.length, 0);

/** Marks of lists and headings, which verse rarely has. */
const LISTED = /、[^，。！？；]*、|[：:]/;

/** Rows side by side whose lines are all equally long, from four to seven characters. */
function regularRuns(rows: (Row | null)[]): Row[][] {
  const length = (row: Row | null) => {
    const [first = 0, ...others] = row?.lengths ?? [];
    return first >= 4 && first <= 7 && others.every((other) => other === first) ? first : 0;
  };
  const runs = runsOf(rows, (row, before) => length(row) > 0 && (!before || length(before) === length(row)));
  return runs.filter((run) => {
    const isUsual = [5, 7].includes(length(run[0] ?? null));
    const isMarked = run.some((row) => ENDED.test(row.text));
    if (count(run) >= 4) return isUsual || isMarked;
    // A couplet alone may be chance.
    return count(run) >= 2 && isUsual && isMarked && !run.some((row) => MODERN.test(row.text));
  });
}

/** Rows side by side with short lines and an end mark each. */
function irregularRuns(rows: (Row | null)[]): Row[][] {
  const runs = runsOf(
    rows,
    ({ text, lengths }) =>
      ENDED.test(text) &&
      !MODERN.test(text) &&
      !LISTED.test(text) &&
      lengths.every((length) => length <= LONGEST_LINE),
  );
  // Short lines are seldom the most; in lists of words they are.
  const isShort = (length: number) => length <= 2;
  return runs.filter((run) => {
    const lengths = run.flatMap((row) => row.lengths);
    return lengths.length >= 4 && 2 * lengths.filter(isShort).length < lengths.length;
  });
}

/** The longest stretches of rows that `fits`, each seen with the one before it in its stretch. */
function runsOf(rows: (Row | null)[], fits: (row: Row, before: Row | undefined) => boolean): Row[][] {
  const runs: Row[][] = [];
  let run: Row[] = [];
  for (const row of [...rows, null]) {
    if (row !== null && fits(row, run.at(-1))) {
      run.push(row);
      continue;
    }
    if (run.length > 0) runs.push(run);
    run = row !== null && fits(row, undefined) ? [row] : [];
  }
  return runs;
}

function longest(runs: Row[][]): Row[] {
  return runs.reduce<Row[]>((best, run) => (count(run) > count(best) ? run : best), []);
}
