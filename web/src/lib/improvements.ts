// Improvements in the page's language: what answers under a model's name, where an adapter is from, and the figures of a gate.
import type { AdapterInfo, Criterion, OwnersFeedback, Promoted, Promotion } from './api/types';
import { improving, models } from './app.svelte';
import { i18n } from './i18n/i18n.svelte';
import { formatDate, formatFixed, formatPercent } from './util/format';

/** The page's words for one of the server's; the server's own where it has a new one. */
export function inWords(words: Record<string, string>, word: string): string {
  return words[word] ?? word;
}

/** What the operator calls a person: by the name of their key. */
export function personName({ owner, name }: Pick<OwnersFeedback, 'owner' | 'name'>): string {
  return owner === 'local' ? i18n.t.improvements.localOwner : (name ?? owner);
}

/** What a record says, with people called by their names: the record itself has the ids of their keys. */
export function withNames(words: string): string {
  const people = improving.statistics?.owners ?? [];
  return words.replace(/`([^`]+)`/g, (whole, id: string) => {
    const person = people.find(({ owner }) => owner === id);
    // Quotes and brackets are what the words are translated by.
    return person ? `\`${personName(person).replace(/[`()]/g, '')}\`` : whole;
  });
}

export function whatAnswers(promoted: Promoted | null): string {
  const { itself, answeringSince, elsewhere } = i18n.t.improvements;
  if (promoted === null) return itself;
  const { improvement, method, since } = promoted;
  const date = formatDate(since, i18n.tag);
  if (improvement !== null) return answeringSince(improvement, method?.toUpperCase() ?? '', date);
  return method === null ? elsewhere(date) : `${elsewhere(date)} · ${trained(method)}`;
}

/** What an improvement was compared with, by its record's word for it. */
export function comparedWith(word: string): string {
  const { itself, promotion } = i18n.t.improvements;
  return word === 'base' ? itself : promotion(word);
}

/** How weights were trained that no improvement of this server made. */
function trained(method: string): string {
  const { fromScratch, trainedBy } = i18n.t.improvements;
  return method === 'pretrain' ? fromScratch : trainedBy(method.toUpperCase());
}

/** Where it was copied from, what it learned from and what was measured before it was promoted, one line each. */
export function evidence({ data, gate, improvement, source }: Promoted): string[] {
  const { copiedFrom, recorded } = i18n.t.improvements;
  const copied = improvement === null && source !== null ? copiedFrom(source) : null;
  return [copied, data && recorded(data), gate && measured(gate)].filter((line) => line !== null);
}

/** `name value`, with an interval `(lower to upper)` where there is one. */
const MEASURED = /([a-z_]+) (-?[\d.]+)(?: \((-?[\d.]+) to (-?[\d.]+)\))?/g;

/** The figures of a record's gate, written as in the gate itself; the record's own words where they are none. */
function measured(gate: string): string {
  const { criteria, measuredRange, measuredBreak } = i18n.t.improvements;
  const figures = [...gate.matchAll(MEASURED)].map(([, name = '', value = '', lower, upper]) => {
    const written = (text: string) => figure({ name }, Number(text));
    const range = lower && upper ? measuredRange(written(lower), written(upper)) : '';
    return `${inWords(criteria, name)} ${written(value)}${range}`;
  });
  return figures.length > 0 ? figures.join(measuredBreak) : gate;
}

/** Which adapters a change of weights took along or brought back, one line each. */
export function adapterChanges(change: Promotion): string[] {
  const { adaptersLoaded, adaptersUnloaded } = i18n.t.improvements;
  const { unloaded_adapters: unloaded, loaded_adapters: loaded } = change;
  const lines: string[] = [];
  if (unloaded.length > 0) lines.push(adaptersUnloaded(unloaded.join(', ')));
  if (loaded.length > 0) lines.push(adaptersLoaded(loaded.join(', ')));
  return lines;
}

/** An improvement, a folder, or the server's start; and how it was trained. */
export function whereFrom({ name, model, folder, method }: AdapterInfo): string {
  const { adapterOf, adapterFolder, adapterStart, learned } = i18n.t.improvements;
  const made = improving.known?.improvements.find(({ id }) => id === folder || name === `${model}+${id}`);
  const origin = made
    ? learned(made.id, made.method.toUpperCase(), formatDate(made.created_at, i18n.tag))
    : folder === null
      ? adapterStart
      : adapterFolder(folder);
  const parts = [adapterOf(models.find(model)?.title ?? model), origin];
  if (!made && method !== null) parts.push(trained(method));
  return parts.join(' · ');
}

const SHARES = ['preference_accuracy', 'win_rate'];
/** Where the measured value itself, or the lower end of its interval, has to lie; the rest must reach the limit. */
const SIGNS: Partial<Record<string, string>> = {
  preference_accuracy: '>',
  win_rate: '>',
  perplexity_en: '<',
  perplexity_zh: '<',
};

/** From here on numbers are written in thousands or millions: all digits of them would push the verdict out of sight. */
const LARGE = 100_000;

/** A figure of one criterion, in four digits where it has more than one before the point; a dash where there is none. */
export function figure({ name }: Pick<Criterion, 'name'>, value: number | null): string {
  if (value === null) return '–';
  if (SHARES.includes(name)) return formatPercent(value, i18n.tag);
  const size = Math.abs(value);
  if (size >= LARGE)
    return value.toLocaleString(i18n.tag, { notation: 'compact', maximumSignificantDigits: 4 });
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return formatFixed(value, i18n.tag, digits);
}

/** Reasons that leave out examples; the others leave out judgements, of which an example may need two, or make several. */
const OF_EXAMPLES = [
  "more than one person's share",
  'the same person judged the same both ways',
  'the answer that is liked breaks off',
  'an answer without words',
  'the same judgement twice',
];
const OF_JUDGEMENTS = [
  'whoever judged does not allow',
  'no question before the answer',
  "another model's answers",
  'nothing that ',
];

/** What is counted beside a reason why something was left out; null for a reason that is not known here. */
export function leftOutUnit(reason: string): 'judgements' | 'examples' | null {
  const begins = (words: string) => reason.startsWith(words);
  return OF_EXAMPLES.some(begins) ? 'examples' : OF_JUDGEMENTS.some(begins) ? 'judgements' : null;
}

export function interval(criterion: Criterion): string {
  const { lower, upper } = criterion;
  if (lower === null && upper === null) return '–';
  return `${figure(criterion, lower)} – ${figure(criterion, upper)}`;
}

export function limit(criterion: Criterion): string {
  return `${SIGNS[criterion.name] ?? '≥'} ${figure(criterion, criterion.limit)}`;
}
