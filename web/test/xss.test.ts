// What a model or a user may write to make the page do something. Each attack is given alone and in places where
// Markdown is read differently; nothing of it may become an active part of the page.
import { describe, expect, test } from 'vitest';
import { drawBlock } from '$lib/markdown/draw.svelte';
import { toHtml } from '$lib/markdown/parser';
import { sanitise } from '$lib/markdown/sanitise';

const attacks = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<svg onload=alert(1)>',
  '<svg><script href="data:,alert(1)" /></svg>',
  '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
  '<iframe src="javascript:alert(1)"></iframe>',
  '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '<object data="javascript:alert(1)"></object>',
  '<embed src="javascript:alert(1)">',
  '<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>',
  '<math href="javascript:alert(1)">click</math>',
  '<details open ontoggle=alert(1)>',
  '<body onload=alert(1)>',
  '<input autofocus onfocus=alert(1)>',
  '<video><source onerror=alert(1)></video>',
  '<base href="https://evil.example/">',
  '<meta http-equiv="refresh" content="0;url=javascript:alert(1)">',
  '<link rel=stylesheet href="https://evil.example/x.css">',
  '<style>@import "https://evil.example/x.css";</style>',
  '<form action="https://evil.example"><button>go</button></form>',
  '<a href="javascript:alert(1)">x</a>',
  '<p style="background:url(https://evil.example)">x</p>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
  '<!--><img src=x onerror=alert(1)>-->',
  '<![CDATA[<img src=x onerror=alert(1)>]]>',
  '<br onclick=alert(1)>',
  '<br/onmouseover=alert(1)//>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt:alert(1))',
  '[x](java\tscript:alert(1))',
  '[x](&#106;avascript:alert(1))',
  '[x](javascript&colon;alert(1))',
  '[x](<java\nscript:alert(1)>)',
  '[x]( javascript:alert(1))',
  '[x](data:text/html,<script>alert(1)</script>)',
  '[x](vbscript:msgbox(1))',
  '[x](file:///etc/passwd)',
  '[x](blob:https://example.com/1)',
  '[x]\n\n[x]: javascript:alert(1)',
  '<javascript:alert(1)>',
  '![x](javascript:alert(1))',
  '![x](https://evil.example/pixel.png)',
  '![x](data:image/svg+xml,<svg onload=alert(1)>)',
  '![" onerror="alert(1)](https://evil.example/a.png)',
  '[" onmouseover="alert(1)](https://example.com/"onmouseover="alert(1))',
  '[x](https://example.com "\\" onmouseover=\\"alert(1)")',
  '```"><script>alert(1)</script>\ncode\n```',
  '```js onload=alert(1)\n</code></pre><script>alert(1)</script>\n```',
  '`</code><script>alert(1)</script>`',
  '$\\href{javascript:alert(1)}{x}$',
  '$\\url{javascript:alert(1)}$',
  '$\\includegraphics{https://evil.example/a.png}$',
  '$\\htmlData{onclick=alert(1)}{x}$',
  '$\\html{<img src=x onerror=alert(1)>}$',
  '$"><img src=x onerror=alert(1)>$',
  '$$</div><script>alert(1)</script>$$',
  '\\(\\htmlStyle{background:url(https://evil.example)}{x}\\)',
  '$\\def\\x{\\x\\x}\\x$',
];

const places: [string, (attack: string) => string][] = [
  ['alone', (attack) => attack],
  ['in a sentence', (attack) => `before ${attack} after`],
  ['in a list', (attack) => `- one\n- ${attack}`],
  ['in a table', (attack) => `| a |\n|---|\n| ${attack.replaceAll('\n', ' ')} |`],
  [
    'in a quotation',
    (attack) =>
      attack
        .split('\n')
        .map((line) => `> ${line}`)
        .join('\n'),
  ],
  ['in bold', (attack) => `**${attack}**`],
  ['in a heading', (attack) => `# ${attack}`],
  ['in a link', (attack) => `[${attack}](https://example.com)`],
];

const HARMLESS = [
  'p br hr h1 h2 h3 h4 h5 h6 strong em s del code pre blockquote ul ol li a',
  'table thead tbody tr th td div span sup sub kbd button',
]
  .join(' ')
  .split(' ');
const ACTIVE = 'script img iframe object embed link style base form image use video audio source input'.split(
  ' ',
);
const HARMLESS_ATTRIBUTES =
  /^(href|title|class|dir|start|rel|target|tabindex|type|aria-label|data-(tex|display|language|drawn))$/;

function inspect(root: ParentNode) {
  for (const element of root.querySelectorAll('*')) {
    const name = element.tagName.toLowerCase();
    expect(ACTIVE).not.toContain(name);
    // Formulas are drawn by KaTeX with elements and styles of its own, made through the object model.
    const byKatex = element.closest('.katex') !== null;
    if (!byKatex) expect(HARMLESS).toContain(name);
    for (const { name: attribute, value } of element.attributes) {
      if (!byKatex) expect(attribute).toMatch(HARMLESS_ATTRIBUTES);
      expect(attribute).not.toMatch(/^on|^srcdoc$|action$|xlink/i);
      if (attribute === 'href') expect(value).toMatch(/^(https?:|mailto:|#)/i);
      if (attribute === 'style') expect(value).not.toMatch(/url|expression|@import/i);
    }
  }
}

describe.each(places)('%s', (_place, put) => {
  test.each(attacks)('%s', async (attack) => {
    const source = put(attack);
    const target = document.createElement('div');
    target.append(sanitise(toHtml(source)));
    inspect(target);

    const labels = { copy: 'Copy', copyCode: 'Copy', imageLink: (label: string) => label };
    const drawn = document.createElement('div');
    drawBlock(drawn, source, {}, false, labels);
    await Promise.all([import('$lib/markdown/math-render'), import('$lib/markdown/highlight')]);
    drawBlock(drawn, source, {}, false, labels);
    inspect(drawn);
  });
});

test('HTML that reached the sanitiser in any other way is made harmless too', () => {
  for (const attack of attacks) {
    const target = document.createElement('div');
    target.append(sanitise(attack));
    inspect(target);
  }
});
