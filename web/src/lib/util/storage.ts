// localStorage that never throws: a browser that forbids it behaves as if every visit were the first.

/** The folder that the page lies in, by which two servers behind one proxy are told apart. theme.js reads the same names. */
export const place = typeof location === 'undefined' ? '/' : new URL('.', location.href).pathname;

const PREFIX = place === '/' ? 'zhenjin.' : `zhenjin${place}`;

let stopped = false;

/** From now on nothing is kept: the page is about to be loaded anew, and what is still on its way was a person's who has left. */
export function stopKeeping(stop = true): void {
  stopped = stop;
}

/** The names of all that is kept. */
export function names(): string[] {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(PREFIX))
      .map((key) => key.slice(PREFIX.length));
  } catch {
    return [];
  }
}

export function read<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(PREFIX + key);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

/** False when the browser does not keep it, being full or forbidden to. What it kept before is then forgotten: it is out of date. */
export function write(key: string, value: unknown): boolean {
  if (stopped) return true;
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
    return true;
  } catch {
    forget(key);
    return false;
  }
}

export function forget(key: string): void {
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {
    // Nothing was kept either.
  }
}

/** Calls `run` when another tab writes `key`. */
export function onWritten(key: string, run: () => void): void {
  window.addEventListener('storage', (event) => {
    if (event.key === null || event.key === PREFIX + key) run();
  });
}
