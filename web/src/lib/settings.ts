// The sampling settings that a reader can change, and the range that the server accepts for each.
import type { SamplingSettings } from './api/types';

/** Every setting left to the model. */
export const MODEL_DEFAULTS: Readonly<SamplingSettings> = {
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  repetition_penalty: null,
  presence_penalty: null,
  frequency_penalty: null,
  seed: null,
  max_tokens: null,
  repetition_detection: null,
};

/** The longest answer with which new chats begin, in tokens: room for a long text, and an end for a model that finds none. */
export const LONGEST_ANSWER = 4096;

/** How new chats begin until the reader has chosen something else. */
export const FOR_NEW_CHATS: Readonly<Partial<SamplingSettings>> = { max_tokens: LONGEST_ANSWER };

/** Whether a chat is set otherwise than chats are by themselves. */
export function isChanged(settings: Partial<SamplingSettings>): boolean {
  const { max_tokens = null, ...others } = settings;
  const isUsual = max_tokens === null || max_tokens === LONGEST_ANSWER;
  return !isUsual || Object.keys(given(others)).length > 0;
}

/** The settings that are numbers. */
export type SettingName = Exclude<keyof SamplingSettings, 'repetition_detection'>;

export interface SettingField {
  name: SettingName;
  low: number;
  high: number;
  step: number;
  /** Whole numbers without a natural end are typed; the others have a slider. */
  slider: boolean;
  /** Where the slider stands while the model's own default is used: the value that changes nothing. */
  neutral: number;
}

export const settingFields: readonly SettingField[] = [
  { name: 'temperature', low: 0, high: 2, step: 0.05, slider: true, neutral: 1 },
  { name: 'top_p', low: 0.05, high: 1, step: 0.05, slider: true, neutral: 1 },
  { name: 'top_k', low: 0, high: 200, step: 1, slider: true, neutral: 0 },
  { name: 'min_p', low: 0, high: 1, step: 0.01, slider: true, neutral: 0 },
  { name: 'repetition_penalty', low: 0.5, high: 2, step: 0.05, slider: true, neutral: 1 },
  { name: 'presence_penalty', low: -2, high: 2, step: 0.1, slider: true, neutral: 0 },
  { name: 'frequency_penalty', low: -2, high: 2, step: 0.1, slider: true, neutral: 0 },
  { name: 'seed', low: 0, high: 4_294_967_295, step: 1, slider: false, neutral: 0 },
  { name: 'max_tokens', low: 1, high: 1_000_000, step: 1, slider: false, neutral: 1 },
];

/** Only the settings that have a value: the others are the model's own. */
export function given(settings: Partial<SamplingSettings>): Partial<SamplingSettings> {
  return Object.fromEntries(
    Object.entries(settings).filter(([, value]) => value !== null && value !== undefined),
  );
}

export type SettingProblem = 'number' | 'whole' | 'range';

/** The number that was typed, also with a decimal comma or full-width digits; null for nothing; else what is wrong with it. */
export function parseSetting(field: SettingField, text: string): number | null | SettingProblem {
  const plain = text
    .normalize('NFKC')
    .trim()
    .replace(/^([-+]?\d*),(\d+)$/, '$1.$2');
  if (plain === '') return null;
  if (!/^[-+]?(?:\d+\.?\d*|\.\d+)$/.test(plain)) return 'number';
  const value = Number(plain);
  if (value < field.low || value > field.high) return 'range';
  return field.step === 1 && !Number.isInteger(value) ? 'whole' : value;
}
