// What answers under a model's name, and where an adapter is from, in the page's language.
import type { AdapterInfo, Promotion } from './api/types';
import { improving, models } from './app.svelte';
import { i18n } from './i18n/i18n.svelte';
import { formatDate } from './util/format';

export function whatAnswers({ improvement, method, since }: Promotion): string {
  const { itself, answeringSince, learnedBy } = i18n.t.improvements;
  if (improvement === null) return itself;
  if (method === null || since === null) return learnedBy(improvement);
  return answeringSince(improvement, method.toUpperCase(), formatDate(since, i18n.tag));
}

/** An improvement, a folder, or the server's start. */
export function whereFrom({ name, model, folder }: AdapterInfo): string {
  const { adapterOf, adapterFolder, adapterStart, learned } = i18n.t.improvements;
  const made = improving.known?.improvements.find(({ id }) => id === folder || name === `${model}+${id}`);
  const origin = made
    ? learned(made.id, made.method.toUpperCase(), formatDate(made.created_at, i18n.tag))
    : folder === null
      ? adapterStart
      : adapterFolder(folder);
  return `${adapterOf(models.find(model)?.title ?? model)} · ${origin}`;
}
