// @vitest-environment node
import { describe, expect, test } from 'vitest';
import { verseIn } from '$lib/verse';

const quatrain = '白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。';
const ci = '簾外雨潺潺，春意闌珊。羅衾不耐五更寒。夢裏不知身是客，一晌貪歡。';

describe('verse is found', () => {
  test.each([
    ['a quatrain', quatrain, quatrain],
    ['a quatrain on one line', quatrain.replace('\n', ''), quatrain.replace('\n', '')],
    ['simplified, a line each, without marks', '床前明月光\n疑是地上霜\n举头望明月\n低头思故乡', '床前明月光\n疑是地上霜\n举头望明月\n低头思故乡'], // prettier-ignore
    ['spaces between the lines of a couplet', '白日依山盡　黃河入海流\n欲窮千里目 更上一層樓', '白日依山盡，黃河入海流\n欲窮千里目，更上一層樓'], // prettier-ignore
    ['under a title and a name, with a remark', `好的，这是一首诗：\n\n**《登鸛雀樓》**\n\n王之渙\n\n${quatrain}\n\n这首诗写登楼远望。`, quatrain], // prettier-ignore
    ['as a quotation in Markdown', '> 白日依山盡，  \n> 黃河入海流。\n> **欲窮千里目，**\n> 更上一層樓。', '白日依山盡，\n黃河入海流。\n欲窮千里目，\n更上一層樓。'], // prettier-ignore
    ['with a modern word in four even lines', '我的心如水，你的眼如星。明月照大江，清風拂山岡。', '我的心如水，你的眼如星。明月照大江，清風拂山岡。'], // prettier-ignore
    ['a ci', ci, ci],
    ['a ci with pauses', '昨夜雨疏風驟，濃睡不消殘酒。試問捲簾人，卻道海棠依舊。\n知否、知否，應是綠肥紅瘦。', '昨夜雨疏風驟，濃睡不消殘酒。試問捲簾人，卻道海棠依舊。\n知否、知否，應是綠肥紅瘦。'], // prettier-ignore
    ['a ci under its tune', `浪淘沙\n${ci}`, ci],
    ['a couplet', '海内存知己，天涯若比邻。', '海内存知己，天涯若比邻。'],
    ['a rare character is one character', '𠮷野山櫻好，春風吹又生。明月松間照，清泉石上流。', '𠮷野山櫻好，春風吹又生。明月松間照，清泉石上流。'], // prettier-ignore
  ])('%s', (_name, text, verse) => {
    expect(verseIn(text)).toBe(verse);
  });
});

describe('verse is not seen in', () => {
  test.each([
    ['nothing', ''],
    ['English', 'Gold is a soft metal.\nIt does not rust.'],
    ['a greeting', '你好！很高兴见到你。有什么可以帮你？请告诉我。'],
    ['prose', '彩虹是这样形成的：阳光进入水滴时，不同颜色的光偏折的角度不同。'],
    ['one line', '白日依山盡'],
    ['a list', '1. 苹果\n2. 香蕉\n3. 橙子\n4. 葡萄'],
    ['names of equal length', '在线辅导服务\n私人教育平台\n虚拟课堂软件\n远程学习平台'],
    ['words after each other', '清楚，明确，明晰，易懂，清楚明了。\n河流、湖泊、海洋、冰川。'],
    ['a couplet of four characters', '银河闪烁，\n星星闪亮。'],
    ['words', '苹果\n香蕉\n橙子\n葡萄'],
    ['a mixed text', '白日依山盡 is a line, 黃河入海流 another.'],
    ['too many characters for the server', `${'白日依山盡，'.repeat(700)}`],
  ])('%s', (_name, text) => {
    expect(verseIn(text)).toBeNull();
  });
});

test('megabytes are looked at as well', () => {
  expect(verseIn('天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。\n'.repeat(20_000))).toBeNull();
  expect(verseIn('「'.repeat(400_000) + '天')).toBeNull();
  expect(verseIn('天 '.repeat(400_000) + 'x')).toBeNull();
});
