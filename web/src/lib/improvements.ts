// What answers under a model's name, in the page's language.
import type { Promotion } from './api/types';
import { i18n } from './i18n/i18n.svelte';
import { formatDate } from './util/format';

export function whatAnswers({ improvement, method, since }: Promotion): string {
  const { itself, answeringSince, learnedBy } = i18n.t.improvements;
  if (improvement === null) return itself;
  if (method === null || since === null) return learnedBy(improvement);
  return answeringSince(improvement, method.toUpperCase(), formatDate(since, i18n.tag));
}
