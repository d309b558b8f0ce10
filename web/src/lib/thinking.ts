// Some models think aloud first. The server writes that before the answer, between <think> and </think>, whatever the model's
// own marks are (`Transcript` in crates/assistant); the page folds it away from the answer proper.

export interface Thinking {
  /** Null when the model did not think aloud. */
  thoughts: string | null;
  answer: string;
  /** Still thinking: the end has not come yet. */
  open: boolean;
}

const OPENING = '<think>';
const CLOSING = '</think>';

export function splitThinking(content: string): Thinking {
  const text = content.trimStart();
  if (!text.startsWith(OPENING)) {
    // While it arrives, a beginning of the tag is not shown as text for a moment.
    const arriving = text !== '' && OPENING.startsWith(text);
    return { thoughts: null, answer: arriving ? '' : content, open: false };
  }
  const end = text.indexOf(CLOSING);
  if (end < 0) return { thoughts: text.slice(OPENING.length).trim(), answer: '', open: true };
  const thoughts = text.slice(OPENING.length, end).trim();
  return {
    thoughts: thoughts === '' ? null : thoughts,
    answer: text.slice(end + CLOSING.length).trimStart(),
    open: false,
  };
}
