// Whose words this browser keeps. The server names nobody, but it lists each chat to its owner alone: the ids of the newest ones
// tell later whether it is the same person who logs in again. Who has no chats yet is known by the key, of which only a salted
// digest is kept.
import type { Conversation, Id } from '../api/types';
import { FOR_NEW_CHATS } from '../settings';
import { forget, names, read, write } from '../util/storage';

const CHATS = 'owner.chats';
const KEY = 'owner.key';
const DOUBTED = 'owner.doubted';
/** So many that some are found again after others were deleted elsewhere. */
const REMEMBERED = 40;

/** What a person leaves here. The rest, looks and language, is the browser's. */
const WORDS = /^(?:draft\.|judgement\.|pair$)/;
const OWN_PREFERENCES = ['model', 'systemPrompt', 'settings', 'twoAnswers'];
/** What stands there before anybody has chosen. */
const UNCHOSEN = ['null', '""', '{}', 'false', JSON.stringify(FOR_NEW_CHATS)];

export function rememberOwner(chats: readonly Conversation[]): void {
  const ids = chats.slice(0, REMEMBERED).map(({ id }) => id);
  write(CHATS, ids);
}

function remembered(): Id[] {
  const ids = read<unknown>(CHATS, []);
  return Array.isArray(ids) ? (ids as Id[]) : [];
}

/** Whether these are the chats of the person whose words are kept; false also where that cannot be told. */
export function isOwnerOf(chats: readonly Conversation[]): boolean {
  const known = remembered();
  return chats.some(({ id }) => known.includes(id));
}

export interface KeyMark {
  salt: string;
  digest: string;
}

function rememberedKey(): KeyMark | null {
  const mark = read<Partial<KeyMark> | null>(KEY, null);
  return typeof mark?.salt === 'string' && typeof mark.digest === 'string' ? (mark as KeyMark) : null;
}

/** By which a key is known again; null where the browser cannot make it, as on a page without TLS. */
export async function markOf(key: string): Promise<KeyMark | null> {
  try {
    const salt = rememberedKey()?.salt ?? hex(crypto.getRandomValues(new Uint8Array(16)));
    const bytes = (text: string) => new TextEncoder().encode(text);
    const secret = await crypto.subtle.importKey('raw', bytes(key), 'PBKDF2', false, ['deriveBits']);
    // Slow on purpose: an operator may have thought up a short key.
    const how = { name: 'PBKDF2', hash: 'SHA-256', salt: bytes(salt), iterations: 600_000 };
    return { salt, digest: hex(new Uint8Array(await crypto.subtle.deriveBits(how, secret, 256))) };
  } catch {
    return null;
  }
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export function isOwnersKey(mark: KeyMark | null): boolean {
  const known = rememberedKey();
  return known !== null && known.salt === mark?.salt && known.digest === mark?.digest;
}

export function rememberKey(mark: KeyMark): void {
  write(KEY, mark);
}

/** Somebody logs in, who may be anybody. Kept until it is settled, also when the page is closed before that. */
export function doubtOwner(): void {
  write(DOUBTED, true);
}

export function isOwnerDoubted(): boolean {
  return read<unknown>(DOUBTED, false) === true;
}

export function trustOwner(): void {
  forget(DOUBTED);
}

/** Removes all that a person left in this browser. True when there was something, or somebody. */
export function forgetOwner(): boolean {
  const isKnown = remembered().length > 0;
  const words = names().filter((name) => WORDS.test(name));
  for (const name of [...words, CHATS, KEY, DOUBTED]) forget(name);
  const preferences = Object.entries(read<object | null>('preferences', null) ?? {});
  const isOwn = ([name, value]: [string, unknown]) =>
    OWN_PREFERENCES.includes(name) && !UNCHOSEN.includes(JSON.stringify(value));
  if (!preferences.some(isOwn)) return isKnown || words.length > 0;
  write('preferences', Object.fromEntries(preferences.filter(([name]) => !OWN_PREFERENCES.includes(name))));
  return true;
}
