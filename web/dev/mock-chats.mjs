// The mock store: conversations as trees of messages, kept in memory. Answers grow on a timer, with or without a reader.
import { EventEmitter } from 'node:events';
import { answerTo, tokens } from './mock-answers.mjs';

/** @typedef {import('../src/lib/api/types.ts').Message} Message */
/** @typedef {import('../src/lib/api/types.ts').Conversation} Conversation */
/** @typedef {import('../src/lib/api/types.ts').NewConversation} NewConversation */
/** @typedef {import('../src/lib/api/types.ts').ConversationPatch} ConversationPatch */
/** @typedef {import('../src/lib/api/types.ts').SamplingSettings} SamplingSettings */

/** @type {SamplingSettings} */
const DEFAULTS = {
  temperature: null, top_p: null, top_k: null, min_p: null, repetition_penalty: null, presence_penalty: null,
  frequency_penalty: null, seed: null, max_tokens: null, repetition_detection: null,
}; // prettier-ignore

export class MockChats extends EventEmitter {
  /** @type {Map<string, Conversation>} */
  conversations = new Map();
  /** @type {Set<string>} */
  deleted = new Set();
  /** @type {Map<string, Message>} */
  messages = new Map();
  /** Every answer to a question is the same, as with a temperature of 0. */
  sameAnswers = false;
  /** @type {Map<string, ReturnType<typeof setInterval>>} */
  #growing = new Map();
  #next = 1;
  #tokenMilliseconds;

  /** @param {number} tokenMilliseconds */
  constructor(tokenMilliseconds) {
    super();
    this.setMaxListeners(0);
    this.#tokenMilliseconds = tokenMilliseconds;
  }

  #id() {
    return `01MOCK${String(this.#next++).padStart(20, '0')}`;
  }

  /** @param {NewConversation} wanted @returns {Conversation} */
  create(wanted) {
    const now = Date.now();
    /** @type {Conversation} */
    const conversation = {
      id: this.#id(), title: null, model: wanted.model ?? 'smollm2:135m', created_at: now, updated_at: now,
      current_leaf: null, system_prompt: wanted.system_prompt || null, settings: { ...DEFAULTS, ...wanted.settings },
    }; // prettier-ignore
    this.conversations.set(conversation.id, conversation);
    return conversation;
  }

  /** @param {Conversation} conversation @param {ConversationPatch} change */
  change(conversation, change) {
    conversation.title = change.title ?? conversation.title;
    conversation.model = change.model ?? conversation.model;
    conversation.current_leaf = change.current_leaf ?? conversation.current_leaf;
    if (change.system_prompt !== undefined) conversation.system_prompt = change.system_prompt || null;
    if (change.settings !== undefined) conversation.settings = { ...DEFAULTS, ...change.settings };
    return conversation;
  }

  list() {
    return [...this.conversations.values()]
      .filter((conversation) => !this.deleted.has(conversation.id))
      .sort((a, b) => Number(b.updated_at) - Number(a.updated_at) || b.id.localeCompare(a.id));
  }

  /** @param {string} conversation */
  messagesOf(conversation) {
    return [...this.messages.values()].filter((message) => message.conversation_id === conversation);
  }

  /** @param {Conversation} conversation @param {string | null} parent @param {Message['role']} role @param {string} content */
  #add(conversation, parent, role, content) {
    /** @type {Message} */
    const message = {
      id: this.#id(), conversation_id: conversation.id, parent_id: parent, role, content,
      status: role === 'user' ? 'complete' : 'generating', error: null,
      model: role === 'user' ? null : conversation.model, created_at: Date.now(), finish_reason: null,
      prompt_tokens: null, completion_tokens: null, cached_tokens: null, time_to_first_token_ms: null,
      tokens_per_second: null, context_length: null, feedback: null,
    }; // prettier-ignore
    this.messages.set(message.id, message);
    conversation.current_leaf = message.id;
    conversation.updated_at = Date.now();
    return message;
  }

  /** @param {Conversation} conversation @param {string | null} parent @param {string} content */
  ask(conversation, parent, content) {
    const user = this.#add(conversation, parent, 'user', content);
    if (!conversation.title) conversation.title = content.split('\n')[0]?.slice(0, 60) ?? '';
    return { user, answer: this.#answer(conversation, user) };
  }

  /** The part of a branch from one question to one answer. @param {string} from @param {string} to */
  turns(from, to) {
    const branch = [];
    for (let id = /** @type {string | null} */ (to); id !== null;) {
      const message = this.messages.get(id);
      if (!message) return null;
      branch.unshift(message);
      if (id === from) return branch;
      id = message.parent_id;
    }
    return null;
  }

  /** @param {Conversation} old @param {Message[]} turns */
  continue(old, turns) {
    const made = this.create({ model: old.model, system_prompt: old.system_prompt, settings: old.settings });
    made.title = old.title;
    let parent = /** @type {string | null} */ (null);
    for (const { role, content, model } of turns) {
      const copy = this.#add(made, parent, role, content);
      Object.assign(copy, { status: 'complete', model });
      parent = copy.id;
    }
    return made;
  }

  trash() {
    const listed = [...this.conversations.values()].filter(({ id }) => this.deleted.has(id));
    const deleted_at = Date.now();
    return listed.map((chat) => ({ ...chat, deleted_at, erased_at: deleted_at + 30 * 86_400_000 })).reverse();
  }

  /** @param {string} id */
  erase(id) {
    for (const message of this.messagesOf(id)) this.messages.delete(message.id);
    this.conversations.delete(id);
    this.deleted.delete(id);
  }

  /** @param {Message} answer @param {string} [model] */
  regenerate(answer, model) {
    const conversation = this.conversations.get(answer.conversation_id);
    const question = this.messages.get(answer.parent_id ?? '');
    if (!conversation || !question) throw new Error('an answer without a question');
    return { answer: this.#answer(conversation, question, model) };
  }

  /** Another version has other words. @param {Message} question */
  #text(question) {
    const earlier = [...this.messages.values()].filter(({ parent_id }) => parent_id === question.id).length;
    const text = answerTo(question.content);
    return earlier === 0 || this.sameAnswers ? text : `(${earlier + 1}) ${text}`;
  }

  /** @param {Conversation} conversation @param {Message} question @param {string} [model] */
  #answer(conversation, question, model) {
    const pieces = tokens(this.#text(question));
    const answer = this.#add(conversation, question.id, 'assistant', '');
    answer.model = model ?? answer.model;
    const started = Date.now();
    let given = 0;
    const timer = setInterval(() => {
      const text = pieces[given++];
      if (text === undefined) return this.#finish(answer, 'complete', 'stop');
      answer.time_to_first_token_ms ??= Date.now() - started;
      answer.completion_tokens = given;
      answer.tokens_per_second = given / ((Date.now() - started) / 1000);
      this.emit(answer.id, { offset: [...answer.content].length, text });
      answer.content += text;
    }, this.#tokenMilliseconds);
    this.#growing.set(answer.id, timer);
    answer.prompt_tokens = this.count(question.id, '');
    answer.cached_tokens = Math.floor(answer.prompt_tokens / 2);
    answer.context_length = 2048;
    return answer;
  }

  /** A chat of so many questions, each with its whole answer. @param {number} turns */
  seed(turns) {
    const conversation = this.create({});
    /** @type {string | null} */
    let parent = null;
    for (let turn = 1; turn <= turns; turn++) {
      const topic = ['What does a transformer do', '请解释彩虹', 'Write a function', 'Tell me about gold'][
        turn % 4
      ];
      const { user, answer } = this.ask(conversation, parent, `${topic}? (${turn})`);
      answer.content = answerTo(user.content);
      this.#finish(answer, 'complete', 'stop');
      parent = answer.id;
    }
    return conversation;
  }

  /** @param {Message} answer @param {Message['status']} status @param {string | null} reason */
  #finish(answer, status, reason) {
    clearInterval(this.#growing.get(answer.id));
    this.#growing.delete(answer.id);
    answer.status = status;
    answer.finish_reason = reason;
    this.emit(answer.id, 'done');
  }

  /** @param {Message} answer */
  stop(answer) {
    if (this.#growing.has(answer.id)) this.#finish(answer, 'stopped', null);
    return answer;
  }

  /** @param {string | null} leaf @param {string} content @param {string | null} [from] */
  count(leaf, content, from) {
    let text = content;
    for (let id = leaf; id !== null;) {
      const message = this.messages.get(id);
      if (!message) break;
      text += message.content;
      id = message.id === from ? null : message.parent_id;
    }
    return 12 + tokens(text).length;
  }

  /** @param {string} query */
  search(query) {
    const words = query.replace(/["“”]/g, '');
    const needle = words.toLowerCase();
    const hits = [];
    for (const message of this.messages.values()) {
      const conversation = this.conversations.get(message.conversation_id);
      const points = [...message.content];
      const at = [...(message.content.toLowerCase().split(needle)[0] ?? '')].length;
      if (!conversation || this.deleted.has(conversation.id) || at >= points.length) continue;
      const start = Math.max(0, at - 40);
      const lead = start > 0 ? '…' : '';
      hits.push({
        conversation_id: conversation.id, message_id: message.id, title: conversation.title,
        snippet: lead + points.slice(start, start + 160).join('').replace(/\s/g, ' '),
        ranges: [[at - start + lead.length, at - start + lead.length + [...words].length]],
        created_at: message.created_at,
      }); // prettier-ignore
    }
    return hits;
  }

  close() {
    for (const timer of this.#growing.values()) clearInterval(timer);
  }
}
