// Which language the page speaks. A component reads `i18n.t` and is drawn anew when the language changes.
import { en, type Messages } from './en';
import { zh } from './zh';

/** Every language of the page. A new one is a new file beside en.ts and one line here. */
export const catalogues = { en, zh } satisfies Record<string, Messages>;
export type Locale = keyof typeof catalogues;
export const locales = Object.keys(catalogues) as Locale[];

/** The first of the browser's languages that we speak; English when none is. */
export function matchLocale(wanted: readonly string[]): Locale {
  for (const tag of wanted) {
    const language = tag.toLowerCase().split('-')[0];
    const match = locales.find((locale) => locale === language);
    if (match) return match;
  }
  return 'en';
}

/** For the `lang` attribute, Intl and the choice of Chinese glyphs. */
export const languageTags: Record<Locale, string> = { en: 'en', zh: 'zh-CN' };

class I18n {
  locale: Locale = $state('en');
  readonly t: Messages = $derived(catalogues[this.locale]);
  readonly tag: string = $derived(languageTags[this.locale]);

  use(choice: Locale | 'auto', browserLanguages: readonly string[] = navigator.languages): void {
    this.locale = choice === 'auto' ? matchLocale(browserLanguages) : choice;
    document.documentElement.lang = this.tag;
  }
}

export const i18n = new I18n();
