// The mock model's answers, chosen by words of the question, so that every feature of the page can be seen.
import { POEM } from './mock-prosody.mjs';

const markdown = `## What a transformer does

A transformer reads **all tokens at once** and lets each look at the others. *Attention* weighs them:

$$
\\mathrm{Attention}(Q, K, V) = \\mathrm{softmax}\\!\\left(\\frac{QK^\\top}{\\sqrt{d_k}}\\right)V
$$

With \\(d_k = 64\\) the scores are divided by $\\sqrt{64} = 8$. It costs $5 and then $10 more, which are prices.

| Part | Shape | Parameters |
|:-----|:-----:|-----------:|
| Embedding | \`[49152, 576]\` | 28,311,552 |
| Attention | \`[576, 576]\` | 884,736 |
| Feed-forward | \`[576, 1536]\` | 2,654,208 |

1. Tokens become vectors
2. Each layer mixes and transforms them
   - attention across positions
   - a feed-forward network at each
3. The last vector predicts the next token

> Small models know little, but they know it quickly.

\`\`\`python
def attention(q, k, v):
    """Softmax of the scaled scores, applied to the values."""
    scores = q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ v  # [heads, tokens, head_dim]
\`\`\`

More at <https://example.com/attention> or [the paper](https://arxiv.org/abs/1706.03762).`;

const chinese = `彩虹是这样形成的：**“折射”**与**反射（共同作用）。**阳光进入水滴时，**不同颜色的光**偏折的角度不同。

1. **第一次折射：**光从空气进入水滴，速度变慢。
2. **内部反射：**光在水滴背面反射回来。
3. **第二次折射：**光离开水滴，颜色进一步分开。

红光的偏折角约为 $42^\\circ$，紫光约为 $40^\\circ$，所以外圈是红色，内圈是紫色。

| 颜色 | 波长（nm） | 位置 |
|:--|--:|:--|
| 红 | 620–750 | 外圈 |
| 绿 | 495–570 | 中间 |
| 紫 | 380–450 | 内圈 |`;

const code = `Here is the function, with a test:

\`\`\`python
def reverse(text: str) -> str:
    """The characters of text, last first."""
    return text[::-1]


def test_reverse():
    assert reverse("gold") == "dlog"
    assert reverse("") == ""
\`\`\`

Run it with \`pytest\`.`;

const sentences = [
  'Gold is a soft, dense metal that does not rust.',
  'People have used it for coins and jewellery for thousands of years.',
  'It conducts electricity well, so small amounts are found in phones.',
  'Most of it was made when neutron stars collided.',
];

/** @param {string} question @returns {string} */
export function answerTo(question) {
  if (/count|slow|long/i.test(question)) {
    return Array.from({ length: 300 }, (_, index) => `Sentence ${index + 1}. ${sentences[index % 4]}`).join(
      '\n\n',
    );
  }
  if (/transformer|markdown/i.test(question)) return markdown;
  if (/function|code|函数/i.test(question)) return code;
  if (/poem|[诗詩]/i.test(question)) return POEM;
  if (/[\u4e00-\u9fff]/.test(question)) return chinese;
  return sentences.join(' ');
}

/** @param {string} text @returns {string[]} pieces of about a token */
export function tokens(text) {
  return text.match(/\s?[\p{L}\p{N}]{1,5}|[^]/gu) ?? [];
}
