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
/** One person's judgements. */
export type OwnersFeedback = Schemas['OwnersFeedback'];

export type Improvement = Schemas['Improvement'];
export type ImprovementState = 'running' | 'interrupted' | 'failed' | 'refused' | 'passed';
export type ImprovementMethod = NonNullable<Schemas['ImprovementBody']['method']>;
export type ImprovementWish = Schemas['ImprovementBody'];
export type BegunImprovement = Schemas['BegunImprovement'];
/** What an improvement would learn from. */
export type ImprovementPreview = Schemas['ImprovementPreview'];
export type LeftOut = Schemas['LeftOut'];
/** One criterion of an improvement's gate. */
export type Criterion = Schemas['Criterion'];
export type RunningImprovement = Schemas['RunningImprovement'];
export type Improvements = Schemas['Improvements'];
/** Weights that answer in the place of a model's own. */
export type Promoted = Schemas['Promoted'];
/** What answers under a model's name. */
export type Promotion = Schemas['Promotion'];
