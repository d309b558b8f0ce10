// The JSON of the server's /api, field by field. The page knows no other shape of these things.

export type Id = string;

export interface ServerStatus {
  version: string;
  default_model: string | null;
  memory_total: number;
  memory_limit: number | null;
  simd: string;
  threads: number;
  needs_key: boolean;
}

export type PullState = 'running' | 'done' | 'failed' | 'cancelled';

export interface Pull {
  state: PullState;
  source: string | null;
  done_bytes: number;
  total_bytes: number | null;
  error: string | null;
}

export interface PullEvent extends Pull {
  name: string;
}

export interface ModelInfo {
  name: string;
  title: string;
  source: 'catalogue' | 'local';
  installed: boolean;
  served: boolean;
  loaded: boolean;
  size_bytes: number | null;
  memory_bytes: number | null;
  fits: boolean | null;
  languages: string[];
  licence: string | null;
  good_for: { en: string; zh: string } | null;
  context_length: number | null;
  pull: Pull | null;
}

/** Each field null: the model's own default. */
export interface SamplingSettings {
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  repetition_penalty: number | null;
  presence_penalty: number | null;
  frequency_penalty: number | null;
  seed: number | null;
  max_tokens: number | null;
}

export interface Conversation {
  id: Id;
  title: string | null;
  model: string | null;
  created_at: string | number;
  updated_at: string | number;
  current_leaf: Id | null;
  system_prompt?: string | null;
  settings?: Partial<SamplingSettings> | null;
}

export type MessageStatus = 'complete' | 'generating' | 'stopped' | 'interrupted' | 'failed';

export interface Message {
  id: Id;
  conversation_id: Id;
  parent_id: Id | null;
  role: 'user' | 'assistant';
  content: string;
  status: MessageStatus;
  error: string | null;
  model: string | null;
  created_at: string | number;
  finish_reason: string | null;
  prompt_tokens: number | null;
  completion_tokens: number | null;
  cached_tokens: number | null;
  time_to_first_token_ms: number | null;
  tokens_per_second: number | null;
  context_length: number | null;
}

export interface ConversationWithMessages extends Conversation {
  messages: Message[];
}

export interface ConversationPatch {
  title?: string;
  model?: string;
  system_prompt?: string | null;
  settings?: Partial<SamplingSettings>;
  current_leaf?: Id;
}

export interface NewConversation {
  model?: string;
  system_prompt?: string;
  settings?: Partial<SamplingSettings>;
}

/** `ranges`: matches as [start, end) in Unicode code points of `snippet`. */
export interface SearchHit {
  conversation_id: Id;
  message_id: Id | null;
  title: string | null;
  snippet: string;
  ranges: [number, number][];
  created_at: string | number;
}

export interface ContextUse {
  prompt_tokens: number;
  context_length: number;
}

export interface DeltaEvent {
  /** Code points of the answer before `text`. */
  offset: number;
  text: string;
}
