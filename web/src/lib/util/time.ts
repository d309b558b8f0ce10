// Waiting, and how long to wait before trying again.

/** Resolves after `milliseconds`, or at once when `signal` aborts. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(finish, milliseconds);
    function finish() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    }
    signal?.addEventListener('abort', finish);
  });
}

/** Milliseconds before attempt `attempt` + 1: 0.3 s doubling up to 10 s, with up to a quarter of jitter. */
export function backoff(attempt: number, random: () => number = Math.random): number {
  const base = Math.min(300 * 2 ** Math.min(attempt, 10), 10_000);
  return base * (1 + random() / 4);
}

/** Calls `run` once things have been quiet for `milliseconds`. */
export function debounce<A extends unknown[]>(
  milliseconds: number,
  run: (...values: A) => void,
): { (...values: A): void; cancel(): boolean } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** True when a call was waiting. */
  const cancel = () => {
    const waiting = timer !== undefined;
    clearTimeout(timer);
    timer = undefined;
    return waiting;
  };
  const debounced = (...values: A) => {
    cancel();
    timer = setTimeout(() => {
      timer = undefined;
      run(...values);
    }, milliseconds);
  };
  debounced.cancel = cancel;
  return debounced;
}
