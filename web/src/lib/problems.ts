// What an error means to a reader, in the page's language. The server's own words are English and made for programmers: they
// are shown where no code says as much, and only on a page that is English.
import { ApiError, NetworkError } from './api/errors';
import { i18n } from './i18n/i18n.svelte';

export function explain(error: unknown): string {
  const { t } = i18n;
  if (error instanceof NetworkError) return t.errors.unreachable;
  if (!(error instanceof ApiError))
    return t.errors.other(0, '', error instanceof Error ? error.message : String(error));
  return explainCode(error.code) ?? t.errors.other(error.status, error.code ?? '', error.message);
}

export function explainCode(code: string | null): string | null {
  const known: Record<string, string> = i18n.t.problems;
  return code !== null && Object.hasOwn(known, code) ? (known[code] ?? null) : null;
}
