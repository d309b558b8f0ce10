// Short names for the JSON of the server's /api. The shapes themselves are in schema.ts, which `npm run api` makes from the
// server's OpenAPI document.
import type { components } from './schema';

type Schemas = components['schemas'];

export type Id = string;

export type ServerStatus = Schemas['ServerStatus'];

export type ModelInfo = Schemas['OfferedModel'];
export type Pull = Schemas['Pull'];
export type PullState = Schemas['PullState'];
export type PullEvent = Schemas['PullEvent'];
export type ModelEvent = Schemas['ModelEvent'];

export type Conversation = Schemas['Conversation'];
export type ConversationWithMessages = Schemas['ConversationWithMessages'];
export type NewConversation = Schemas['NewConversationBody'];
export type DeletedConversation = Schemas['DeletedConversation'];
export type Continuation = Schemas['ContinuationBody'];
export type ConversationPatch = Schemas['ConversationChangeBody'];
/** Each field null: the model's own default. */
export type SamplingSettings = Schemas['Settings'];

export type Message = Schemas['Message'];
export type MessageStatus = Schemas['MessageStatus'];
export type Question = Schemas['QuestionBody'];
export type FirstQuestion = Schemas['FirstQuestionBody'];
export type FirstExchange = Schemas['FirstExchange'];
export type Exchange = Schemas['Exchange'];
export type Regenerated = Schemas['Regenerated'];
export type AnswerEvent = Schemas['AnswerEvent'];

export type SearchHit = Schemas['SearchHit'];
export type ContextQuestion = Schemas['ContextBody'];
export type ContextUse = Schemas['ContextUse'];
export type Prosody = Schemas['Prosody'];
export type ProsodyQuestion = Schemas['ProsodyBody'];
export type Verse = Schemas['Verse'];
export type VerseCharacter = Schemas['VerseCharacter'];
export type BrokenRule = Schemas['BrokenRule'];
export type Login = Schemas['LoginBody'];
export type ErrorBody = Schemas['ErrorBody'];
export type AdapterInfo = Schemas['Adapter'];
export type Adapters = Schemas['Adapters'];

export type Rating = Schemas['Rating'];
export type Reason = Schemas['FeedbackReason'];
export type Feedback = Schemas['Feedback'];
/** What a reader says of an answer. */
export type Judgement = Pick<Feedback, 'rating' | 'reasons' | 'comment' | 'correction'>;
export type Choice = Schemas['Choice'];
export type Consent = Schemas['Consent'];
export type FeedbackExport = Schemas['FeedbackExport'];
export type FeedbackRecord = Schemas['FeedbackRecord'];
export type ErasedFeedback = Schemas['ErasedFeedback'];
export type FeedbackStatistics = Schemas['FeedbackStatistics'];
export type LearnedFrom = Schemas['LearnedFrom'];

export type ImprovementMethod = 'dpo' | 'kto' | 'sft';
export type CriterionName =
  'preference_accuracy' | 'win_rate' | 'liked_answers' | 'perplexity_en' | 'perplexity_zh' | 'speed';

/** One criterion of the gate: what was measured, and whether it is good enough; `passed` is null where nothing was measured. */
export interface Criterion {
  name: CriterionName;
  value: number | null;
  /** The same of the model that answers now. */
  base: number | null;
  /** The 95 % interval. */
  lower: number | null;
  upper: number | null;
  limit: number | null;
  examples: number;
  passed: boolean | null;
  /** What a reader should know of it, in English. */
  note: string | null;
}

export interface ImprovementData {
  pairs: number;
  ratings: number;
  corrections: number;
  train: number;
  held_out: number;
  conversations: number;
  owners: number;
  left_out: { reason: string; count: number }[];
}

export interface Improvement {
  id: string;
  model: string;
  method: ImprovementMethod;
  created_at: number;
  finished_at: number | null;
  state: 'running' | 'interrupted' | 'failed' | 'refused' | 'passed';
  error: string | null;
  /** Whether it answers now. */
  promoted: boolean;
  data: ImprovementData;
  gate: Criterion[];
}

export interface RunningImprovement {
  id: string;
  model: string;
  phase: 'collecting' | 'training' | 'judging';
  step: number | null;
  steps: number | null;
  started_at: number;
}

/** What answers under a model's name: an improvement, or the model itself. */
export interface Promotion {
  model: string;
  improvement: string | null;
  method: string | null;
  since: number | null;
  /** What answers; null for the model's own weights. Those from elsewhere come from no improvement. */
  promoted: { kind: string; since: number; data: string | null; gate: string | null } | null;
  earlier: string[];
}

export interface Improvements {
  running: RunningImprovement | null;
  improvements: Improvement[];
  promotions: Promotion[];
}

export interface ImprovementWish {
  model?: string;
  method?: ImprovementMethod;
}
