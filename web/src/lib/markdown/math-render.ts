// Draws formulas with KaTeX. Loaded only once an answer holds one. KaTeX builds its own nodes and sets styles through
// the object model, which the page's policy allows; commands that load or link (\includegraphics, \href) are off.
import katex from 'katex';
import 'katex/dist/katex.css';

export function renderMath(element: HTMLElement, tex: string, display: boolean): void {
  try {
    katex.render(tex, element, {
      strict: (code: string) => (code === 'htmlExtension' ? 'error' : 'ignore'),
      displayMode: display,
      throwOnError: true,
      trust: false,
      maxSize: 20,
      maxExpand: 200,
    });
  } catch {
    // Not a formula that KaTeX knows: the source is the best we can show.
    const code = document.createElement('code');
    code.textContent = tex;
    element.replaceChildren(code);
  }
}
