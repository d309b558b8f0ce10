// Errors of calls to the server, by what the reader can do about them.
import type { ErrorBody } from './types';

/** The server answered, with an error in OpenAI's shape. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** The server could not be reached at all. */
export class NetworkError extends Error {
  constructor(override readonly cause: unknown) {
    super('the server cannot be reached');
    this.name = 'NetworkError';
  }
}

/** The model that was named is not served any more. */
export function isModelGone(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'model_not_found';
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** What `fetch`, or the body of its answer, threw: whatever is no abort is the network's. */
export function fromNetwork(error: unknown): unknown {
  return isAbort(error) ? error : new NetworkError(error);
}

export async function errorFromResponse(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const { error } = JSON.parse(text) as Partial<ErrorBody>;
    if (error?.message !== undefined) {
      return new ApiError(response.status, error.message, error.code ?? null, error.param ?? null);
    }
  } catch {
    // Not JSON: a proxy in between answered. Its status line is all we can say.
  }
  return new ApiError(response.status, `${response.status} ${response.statusText}`.trim());
}
