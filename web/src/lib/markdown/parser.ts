// Markdown → HTML text. Raw HTML is shown as text, images become links, and only web and mail addresses are links;
// the result still goes through sanitise.ts before it reaches the page.
import createMarkdownIt, { type Env, type MarkdownIt } from 'markdown-it';
import cjkFriendly from 'markdown-it-cjk-friendly';
import { mathPlugin } from './math-syntax';

export type References = NonNullable<Env['references']>;

const SAFE_LINK = /^(?:https?:\/\/|mailto:|#)/i;

/** Deeper than people write; keeps hostile nesting cheap. */
const MAX_NESTING = 40;

/** Placed in links that were images; the page puts its own words before the label. */
export const IMAGE_LINK_CLASS = 'image-link';

function createParser(): MarkdownIt {
  const parser = createMarkdownIt('default', {
    html: false,
    linkify: true,
    breaks: true,
    maxNesting: MAX_NESTING,
  });
  parser.validateLink = (url) => SAFE_LINK.test(url.trim());
  parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  parser.use(cjkFriendly).use(mathPlugin).use(lineBreakTags);

  const { rules } = parser.renderer;
  const escape = parser.utils.escapeHtml;
  rules.image = (tokens, index) => {
    const token = tokens[index];
    const href = String(token?.attrGet('src') ?? '');
    const label = token?.content || href;
    return `<a href="${escape(href)}" class="${IMAGE_LINK_CLASS}">${escape(label)}</a>`;
  };
  rules.fence = (tokens, index) => {
    const language = tokens[index]?.info.trim().split(/\s+/)[0] ?? '';
    return codeBlock(tokens[index]?.content ?? '', language);
  };
  rules.code_block = (tokens, index) => codeBlock(tokens[index]?.content ?? '', '');
  // Alignment as a class: style attributes are forbidden by the page's policy.
  for (const name of ['th_open', 'td_open']) {
    rules[name] = (tokens, index) => {
      const align = /(left|right|center)/.exec(String(tokens[index]?.attrGet('style') ?? ''))?.[1];
      const tag = name.slice(0, 2);
      return align ? `<${tag} class="align-${align}">` : `<${tag}>`;
    };
  }
  rules.table_open = () => '<div class="table-scroll" tabindex="0"><table dir="auto">';
  // Their marks and margins stand at the side where their first words begin.
  for (const name of ['bullet_list_open', 'ordered_list_open', 'blockquote_open']) {
    rules[name] = (tokens, index, options, _env, renderer) => {
      tokens[index]?.attrSet('dir', 'auto');
      return renderer.renderToken(tokens, index, options);
    };
  }
  rules.table_close = () => '</table></div>';

  function codeBlock(code: string, language: string): string {
    const name = language ? ` data-language="${escape(language)}"` : '';
    return `<pre${name}><code>${escape(code)}</code></pre>`;
  }
  return parser;
}

/** Models write `<br>` inside table cells, where Markdown has no line break of its own. */
function lineBreakTags(parser: MarkdownIt): void {
  const tag = /^<br\s*\/?>/i;
  parser.inline.ruler.before('autolink', 'line_break_tag', (state, silent) => {
    if (state.src.charCodeAt(state.pos) !== 0x3c) return false;
    const match = tag.exec(state.src.slice(state.pos, state.pos + 16));
    if (!match) return false;
    if (!silent) state.push('hardbreak', 'br', 0);
    state.pos += match[0].length;
    return true;
  });
}

export const parser = createParser();

export function toHtml(source: string, references: References = {}): string {
  return parser.render(source, { references: { ...references } });
}
