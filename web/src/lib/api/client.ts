// One method per call of the server's /api. Nothing here depends on what is on the screen.
import { ApiError, errorFromResponse, fromNetwork, NetworkError } from './errors';
import { readEvents, type ServerSentEvent } from './sse';
import type {
  Adapters,
  AnswerEvent,
  BegunImprovement,
  Choice,
  Consent,
  ContextQuestion,
  ContextUse,
  Continuation,
  Conversation,
  ConversationPatch,
  ConversationWithMessages,
  DeletedConversation,
  ErasedFeedback,
  Exchange,
  Feedback,
  FeedbackExport,
  FeedbackStatistics,
  FirstExchange,
  FirstQuestion,
  Id,
  Improvements,
  ImprovementPreview,
  ImprovementWish,
  Judgement,
  LearnedFrom,
  Login,
  Message,
  ModelEvent,
  ModelInfo,
  Promotion,
  Prosody,
  ProsodyQuestion,
  Question,
  Regenerated,
  SearchHit,
  ServerStatus,
} from './types';

/** What is read of a streamed completion. */
interface CompletionEvent {
  choices?: { delta?: { content?: string | null } }[];
  error?: { message: string; code?: string | null };
}

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

const segment = encodeURIComponent;

export class ApiClient {
  readonly #fetch: Fetch;
  #unreachable: (error: NetworkError) => void = () => undefined;
  #reached: () => void = () => undefined;

  /** Paths are taken from where the page lies, so that a proxy can serve all of it below a folder of its own. */
  constructor(fetcher: Fetch = (input, init) => fetch(`.${input}`, init)) {
    this.#fetch = fetcher;
  }

  /** Says of every request that did not reach the server, before it fails. */
  onUnreachable(run: (error: NetworkError) => void): void {
    this.#unreachable = run;
  }

  /** Says of every request that reached the server, also of one that it refuses, before the answer is read. */
  onReached(run: () => void): void {
    this.#reached = run;
  }

  status(): Promise<ServerStatus> {
    return this.#json('GET', '/api/status');
  }
  login(key: string): Promise<void> {
    return this.#empty('POST', '/api/login', { key } satisfies Login);
  }
  logout(): Promise<void> {
    return this.#empty('POST', '/api/logout');
  }

  models(): Promise<ModelInfo[]> {
    return this.#json('GET', '/api/models');
  }
  pullModel(name: string): Promise<void> {
    return this.#empty('POST', `/api/models/${segment(name)}/pull`);
  }
  cancelPull(name: string): Promise<void> {
    return this.#empty('DELETE', `/api/models/${segment(name)}/pull`);
  }
  removeModel(name: string): Promise<void> {
    return this.#empty('DELETE', `/api/models/${segment(name)}`);
  }
  modelEvents(signal: AbortSignal): Promise<AsyncGenerator<ModelEvent>> {
    return this.#events('/api/models/events', signal);
  }

  conversations(limit: number, before?: Id): Promise<Conversation[]> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set('before', before);
    return this.#json('GET', `/api/conversations?${query}`);
  }
  conversation(id: Id): Promise<ConversationWithMessages> {
    return this.#json('GET', `/api/conversations/${segment(id)}`);
  }
  updateConversation(id: Id, patch: ConversationPatch): Promise<Conversation> {
    return this.#json('PATCH', `/api/conversations/${segment(id)}`, patch);
  }
  deleteConversation(id: Id): Promise<void> {
    return this.#empty('DELETE', `/api/conversations/${segment(id)}`);
  }
  restoreConversation(id: Id): Promise<void> {
    return this.#empty('POST', `/api/conversations/${segment(id)}/restore`);
  }

  continueConversation(id: Id, continuation: Continuation): Promise<Conversation> {
    return this.#json('POST', `/api/conversations/${segment(id)}/continue`, continuation);
  }

  trash(limit: number, before?: Id): Promise<DeletedConversation[]> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set('before', before);
    return this.#json('GET', `/api/trash?${query}`);
  }
  erase(id: Id): Promise<void> {
    return this.#empty('DELETE', `/api/trash/${segment(id)}`);
  }
  emptyTrash(): Promise<void> {
    return this.#empty('DELETE', '/api/trash');
  }

  askFirst(question: FirstQuestion): Promise<FirstExchange> {
    return this.#json('POST', '/api/questions', question);
  }
  ask(conversation: Id, question: Question): Promise<Exchange> {
    return this.#json('POST', `/api/conversations/${segment(conversation)}/messages`, question);
  }
  /** Another answer beside this one; from `model` where it is named, else from the conversation's. */
  regenerate(message: Id, model?: string): Promise<Regenerated> {
    const path = `/api/messages/${segment(message)}/regenerate`;
    return this.#json('POST', path, model === undefined ? undefined : { model });
  }
  stop(message: Id): Promise<Message> {
    return this.#json('POST', `/api/messages/${segment(message)}/stop`);
  }
  answerEvents(message: Id, offset: number, signal: AbortSignal): Promise<AsyncGenerator<AnswerEvent>> {
    return this.#events(`/api/messages/${segment(message)}/stream?offset=${offset}`, signal);
  }

  /** Replaces all that was said of the answer. */
  judge(answer: Id, judgement: Judgement): Promise<Feedback> {
    return this.#json('PUT', `/api/messages/${segment(answer)}/feedback`, judgement);
  }
  forgetJudgement(answer: Id): Promise<void> {
    return this.#empty('DELETE', `/api/messages/${segment(answer)}/feedback`);
  }
  choose(answer: Id, rejected: Id[]): Promise<Choice> {
    return this.#json('PUT', `/api/messages/${segment(answer)}/choice`, { rejected });
  }
  /** Forgets every choice in which this answer was chosen. */
  forgetChoice(answer: Id): Promise<void> {
    return this.#empty('DELETE', `/api/messages/${segment(answer)}/choice`);
  }
  consent(): Promise<Consent> {
    return this.#json('GET', '/api/feedback/consent');
  }
  setConsent(allowed: boolean): Promise<Consent> {
    return this.#json('PUT', '/api/feedback/consent', { allowed });
  }
  ownFeedback(): Promise<FeedbackExport> {
    return this.#json('GET', '/api/feedback');
  }
  /** What erasing it would do. */
  erasure(): Promise<ErasedFeedback> {
    return this.#json('GET', '/api/feedback/erasure');
  }
  eraseFeedback(): Promise<ErasedFeedback> {
    return this.#json('DELETE', '/api/feedback');
  }
  feedbackStatistics(): Promise<FeedbackStatistics> {
    return this.#json('GET', '/api/feedback/statistics');
  }
  /** The improvements that learned from the feedback of a chat. */
  async trainedBy(conversation: Id): Promise<string[]> {
    const path = `/api/conversations/${segment(conversation)}/trained`;
    return (await this.#json<LearnedFrom>('GET', path)).improvements;
  }

  improvements(): Promise<Improvements> {
    return this.#json('GET', '/api/improvements');
  }
  improve(wish: ImprovementWish): Promise<BegunImprovement> {
    return this.#json('POST', '/api/improvements', wish);
  }
  /** What the improvement would learn from, and what not. */
  previewImprovement({ model, method }: ImprovementWish, signal?: AbortSignal): Promise<ImprovementPreview> {
    const wanted = new URLSearchParams();
    if (model) wanted.set('model', model);
    if (method) wanted.set('method', method);
    return this.#json('GET', `/api/improvements/preview?${wanted}`, undefined, signal);
  }
  cancelImprovement(id: string): Promise<void> {
    return this.#empty('DELETE', `/api/improvements/${segment(id)}`);
  }
  /** Gives an interrupted one up, with the copies that it keeps of what people wrote. */
  discardImprovement(id: string): Promise<void> {
    return this.#empty('POST', `/api/improvements/${segment(id)}/discard`);
  }
  /** `force`: even if something else answers by now than what it was compared with. */
  promote(id: string, force: boolean): Promise<Promotion> {
    const path = `/api/improvements/${segment(id)}/promote`;
    return this.#json('POST', path, force ? { force } : undefined);
  }
  rollBack(model: string): Promise<Promotion> {
    return this.#json('POST', `/api/promotions/${segment(model)}/rollback`);
  }
  adapters(): Promise<Adapters> {
    return this.#json('GET', '/api/adapters');
  }

  search(query: string, offset: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const wanted = new URLSearchParams({ q: query, offset: String(offset) });
    return this.#json('GET', `/api/search?${wanted}`, undefined, signal);
  }
  /** The text of an answer to one message, piece by piece; nothing of it is kept. */
  async *write(
    model: string,
    content: string,
    max_tokens: number,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const body = { model, messages: [{ role: 'user', content }], max_tokens, stream: true };
    const response = await this.#send('POST', '/v1/chat/completions', body, signal);
    if (response.body === null) throw new NetworkError('a stream without a body');
    for await (const { data } of readEvents(response.body)) {
      if (data === '[DONE]') return;
      const { choices, error } = JSON.parse(data) as CompletionEvent;
      if (error) throw new ApiError(500, error.message, error.code ?? null);
      const text = choices?.[0]?.delta?.content;
      if (text) yield text;
    }
  }
  contextUse(question: ContextQuestion, signal?: AbortSignal): Promise<ContextUse> {
    return this.#json('POST', '/api/context', question, signal);
  }
  prosody(question: ProsodyQuestion, signal?: AbortSignal): Promise<Prosody> {
    return this.#json('POST', '/api/prosody', question, signal);
  }

  async #json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const response = await this.#send(method, path, body, signal);
    const text = await response.text().catch((error: unknown) => {
      throw fromNetwork(error);
    });
    return JSON.parse(text) as T;
  }

  async #empty(method: string, path: string, body?: unknown): Promise<void> {
    await this.#send(method, path, body);
  }

  async #events<T>(path: string, signal: AbortSignal): Promise<AsyncGenerator<T>> {
    const response = await this.#send('GET', path, undefined, signal);
    if (response.body === null) throw new NetworkError('a stream without a body');
    return parsed<T>(readEvents(response.body));
  }

  async #send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
    const init: RequestInit = { method, credentials: 'same-origin', cache: 'no-store' };
    if (body !== undefined) {
      init.headers = { 'content-type': 'application/json' };
      // Half of a surrogate pair, as a cut emoji leaves it, is no Unicode text: the server would refuse the whole body.
      init.body = JSON.stringify(body, (_, value: unknown) =>
        typeof value === 'string' ? value.toWellFormed() : value,
      );
    }
    if (signal) init.signal = signal;
    let response: Response;
    try {
      response = await this.#fetch(path, init);
    } catch (failure) {
      const error = fromNetwork(failure);
      if (error instanceof NetworkError) this.#unreachable(error);
      throw error;
    }
    this.#reached();
    if (!response.ok) throw await errorFromResponse(response);
    return response;
  }
}

/** The events with their data as JSON, as the server's document describes them. */
async function* parsed<T>(events: AsyncGenerator<ServerSentEvent>): AsyncGenerator<T> {
  for await (const { event, data } of events) yield { event, data: JSON.parse(data) } as T;
}
