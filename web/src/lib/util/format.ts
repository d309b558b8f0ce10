// Numbers as readers of a language write them.

export function formatBytes(bytes: number, locale: string): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = value < 10 && unit > 1 ? 1 : 0;
  return `${value.toLocaleString(locale, { maximumFractionDigits: digits })} ${units[unit]}`;
}

export function formatNumber(value: number, locale: string, digits = 0): string {
  return value.toLocaleString(locale, { maximumFractionDigits: digits });
}

/** With so many digits after the point, noughts too: as in the figures beside it. */
export function formatFixed(value: number, locale: string, digits: number): string {
  return value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Milliseconds below one second, else seconds with two digits. */
export function formatDuration(milliseconds: number, locale: string): string {
  if (milliseconds < 1000) return `${formatNumber(milliseconds, locale)} ms`;
  return `${formatNumber(milliseconds / 1000, locale, 2)} s`;
}

/** A day and a time, from milliseconds since 1970. */
export function formatDate(milliseconds: number, locale: string): string {
  return new Date(milliseconds).toLocaleString(locale, { dateStyle: 'medium', timeStyle: 'short' });
}

export function formatPercent(share: number, locale: string): string {
  return share.toLocaleString(locale, { style: 'percent', maximumFractionDigits: 1 });
}

/** "Chinese and English", 中文和英语. */
export function languageNames(codes: readonly string[], locale: string): string {
  return new Intl.ListFormat(locale).format(codes.map((code) => languageName(code, locale)));
}

function languageName(code: string, locale: string): string {
  try {
    return new Intl.DisplayNames([locale], { type: 'language' }).of(code) ?? code;
  } catch {
    return code;
  }
}
