// What people call a model.
import { models } from './app.svelte';
import { i18n } from './i18n/i18n.svelte';

const BASE = '+base';

/** Its title; of a model without what was promoted for it, that model's title and that it is without. */
export function modelName(name: string | null): string {
  if (name === null) return '';
  const whole = name.endsWith(BASE) ? models.find(name.slice(0, -BASE.length)) : undefined;
  if (whole) return i18n.t.models.withoutImprovement(whole.title);
  return models.find(name)?.title ?? name;
}
