// Draws one block of Markdown into an element: parse, sanitise, frame code, then colour code and draw formulas with
// the parts that are loaded only when first needed.
import { sanitise } from './sanitise';
import { IMAGE_LINK_CLASS, toHtml, type References } from './parser';
import { morphChildren } from './morph';

export interface Labels {
  copyCode: string;
  copy: string;
  imageLink: (label: string) => string;
}

type Highlight = typeof import('./highlight').highlight;
type RenderMath = typeof import('./math-render').renderMath;

/** Set once the part has arrived; blocks that need it are then drawn again. */
class LazyParts {
  highlight: Highlight | null = $state.raw(null);
  renderMath: RenderMath | null = $state.raw(null);
  #asked = { highlight: false, math: false };

  askForHighlight(): void {
    if (this.#asked.highlight) return;
    this.#asked.highlight = true;
    import('./highlight').then(
      (module) => (this.highlight = module.highlight),
      () => (this.#asked.highlight = false),
    );
  }

  askForMath(): void {
    if (this.#asked.math) return;
    this.#asked.math = true;
    import('./math-render').then(
      (module) => (this.renderMath = module.renderMath),
      () => (this.#asked.math = false),
    );
  }
}

const parts = new LazyParts();

/** While code is still arriving, longer blocks stay plain until they are complete. */
const MAX_LIVE_HIGHLIGHT = 6_000;

export function drawBlock(
  target: HTMLElement,
  source: string,
  references: References,
  growing: boolean,
  labels: Labels,
): void {
  const fragment = sanitise(toHtml(source, references));
  for (const pre of fragment.querySelectorAll('pre')) frameCode(pre, growing, labels);
  for (const link of fragment.querySelectorAll<HTMLAnchorElement>(`a.${IMAGE_LINK_CLASS}`)) {
    link.textContent = labels.imageLink(link.textContent ?? '');
  }
  morphChildren(target, fragment);
  drawMath(target);
}

/** Puts a bar with the language and a copy button over a code block. The button's click is handled by MarkdownView. */
function frameCode(pre: HTMLPreElement, growing: boolean, labels: Labels): void {
  const code = pre.querySelector('code');
  if (!code) return;
  const language = pre.getAttribute('data-language') ?? '';
  colourCode(code, language, growing);
  pre.tabIndex = 0;

  const name = document.createElement('span');
  name.className = 'code-language';
  name.textContent = language;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'code-copy';
  button.textContent = labels.copy;
  button.setAttribute('aria-label', labels.copyCode);
  const bar = document.createElement('div');
  bar.className = 'code-bar';
  bar.append(name, button);
  const frame = document.createElement('div');
  frame.className = 'code-frame';
  pre.replaceWith(frame);
  frame.append(bar, pre);
}

function colourCode(code: HTMLElement, language: string, growing: boolean): void {
  const text = code.textContent ?? '';
  if (language === '' || (growing && text.length > MAX_LIVE_HIGHLIGHT)) return;
  const { highlight } = parts;
  if (!highlight) return parts.askForHighlight();
  const html = highlight(text, language.toLowerCase());
  if (html !== null) code.replaceChildren(sanitise(html));
}

function drawMath(target: HTMLElement): void {
  const formulas = target.querySelectorAll<HTMLElement>('[data-tex]:not([data-drawn])');
  if (formulas.length === 0) return;
  const { renderMath } = parts;
  if (!renderMath) return parts.askForMath();
  for (const formula of formulas) {
    renderMath(formula, formula.getAttribute('data-tex') ?? '', formula.hasAttribute('data-display'));
    formula.setAttribute('data-drawn', '');
  }
}
