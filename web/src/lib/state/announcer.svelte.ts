// Announcements for screen readers: that an answer began and, once, its text. Never every word of a stream.

const MAX_SPOKEN = 400;

export class Announcer {
  text = $state('');

  say(text: string): void {
    this.text = text.length > MAX_SPOKEN ? `${text.slice(0, MAX_SPOKEN)}…` : text;
  }
}
