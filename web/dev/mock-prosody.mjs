// The mock server's tones and rhymes: it has no rhyme book, and knows the characters of one poem, as the server answers for it.

/** @typedef {import('../src/lib/api/types.ts').Prosody} Prosody */
/** @typedef {import('../src/lib/api/types.ts').Verse} Verse */
/** @typedef {Verse['rhyme_book']} Judgement */

export const POEM = '白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。';

/** Characters by pattern in the rhyme book, pattern today, groups and readings. */
const TABLE = `
白 ● ○ 入聲十一陌 bái
日 ● ● 入聲四質 rì
依 ○ ○ 上平聲五微 yī
山 ○ ○ 上平聲十五刪 shān
盡 ● ● 上聲十一軫 jìn
黃 ○ ○ 下平聲七陽 huáng
河 ○ ○ 下平聲五歌 hé
入 ● ● 入聲十四緝 rù
海 ● ● 上聲十賄 hǎi
流 ○ ○ 下平聲十一尤 liú
欲 ● ● 入聲二沃 yù
窮 ○ ○ 上平聲一東 qióng
千 ○ ○ 下平聲一先 qiān
里 ● ● 上聲四紙 lǐ
目 ● ● 入聲一屋 mù
更 ⊙ ⊙ 下平聲八庚,去聲二十四敬 gèng,gēng
上 ● ● 上聲二十二養,去聲二十三漾 shàng,shǎng
一 ● ○ 入聲四質 yī
層 ○ ○ 下平聲十蒸 céng
樓 ○ ○ 下平聲十一尤 lóu`;

/** @type {Record<string, 'level' | 'oblique' | 'either'>} */
const PATTERNS = { '○': 'level', '●': 'oblique', '⊙': 'either' };

/** @type {Map<string, Verse['lines'][number]['characters'][number]>} */
const characters = new Map(
  TABLE.trim()
    .split('\n')
    .map((row) => {
      const [text = '', book = '', today = '', groups = '', readings = ''] = row.split(' ');
      return [
        text,
        {
          text, pattern: PATTERNS[book] ?? 'unknown', groups: groups.split(','),
          modern_pattern: PATTERNS[today] ?? 'unknown', readings: readings.split(','),
        }, // prettier-ignore
      ];
    }),
);

/** @param {string} text @returns {Prosody} */
export function prosodyOf(text) {
  const lines = text.split(/[^\p{Script=Han}]+/u).filter((line) => line !== '');
  if (lines.length < 2) return { verse: null, problem: 'too_few_lines' };
  const known = lines.join('') === POEM.replace(/[^\p{Script=Han}]+/gu, '');
  return {
    problem: null,
    verse: {
      form: known ? '五言絕句' : null,
      lines: lines.map((line) => ({
        characters: [...line].map(
          (text) =>
            characters.get(text) ?? {
              text, pattern: 'unknown', groups: [], modern_pattern: 'unknown', readings: [],
            }, // prettier-ignore
        ),
      })),
      rhyme_book: judgement(known, '下平聲十一尤'),
      modern: judgement(known, '七尤平聲'),
    },
  };
}

/** @param {boolean} known @param {string} rhyme @returns {Judgement} */
function judgement(known, rhyme) {
  if (!known) return { rhyme: null, rhyming: [], missing: [1], rules: null };
  return { rhyme, rhyming: [1, 3], missing: [], rules: { kept: 11, total: 11, broken: [] } };
}
