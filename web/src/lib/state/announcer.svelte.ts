// Announcements for screen readers: that an answer began and, once, its text. Never every word of a stream.

const MAX_SPOKEN = 400;

export class Announcer {
  text = $state('');

  say(text: string): void {
    const spoken = text.length > MAX_SPOKEN ? `${text.slice(0, MAX_SPOKEN)}…` : text;
    // The same words once more are spoken once more only where something has changed.
    this.text = spoken !== '' && spoken === this.text ? `${spoken}\u00a0` : spoken;
  }
}
