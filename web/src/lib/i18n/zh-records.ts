// 改进的记录由服务器用英文写成；这里是它们的中文。没有列出的句子照原样显示。

/** 英文句子中的 {…} 是会变的部分，在中文里按同样的名字填回。 */
export const records: Record<string, string> = {
  'whoever judged does not allow that models learn from it': '评价的人不同意用于训练',
  "another model's answers": '是其他模型的回答',
  'the answer that is liked breaks off': '受好评的回答没有写完',
  'no question before the answer': '回答前没有问题',
  'nothing that {method} learns from': '{method} 学不了这类评价',
  'the same person judged the same both ways': '同一个人对同样的内容给出相反的评价',
  'the same judgement twice': '重复的评价',
  'an answer without words, here or earlier in the chat': '这个回答或聊天中更早的回答没有文字',
  "more than one person's share: the newest {limit} of `{owner}` count":
    '超过一个人的份额：{owner} 只计最新的 {limit} 条',
  "more than one person's share of what is held out: the newest {limit} of `{owner}` count":
    '超过一个人在留出部分中的份额：{owner} 只计最新的 {limit} 条',
  'of the candidate: whether it prefers the chosen answer more than what answers now does; of what answers now: whether it finds the chosen answer more probable for each token':
    '改进后：是否比现在作答的模型更偏向被选中的回答；现在作答的模型：是否认为被选中的回答每个词元的概率更高',
  'how often a liked answer became more probable than a disliked one, each against what answers now':
    '与现在作答的模型相比，受好评的回答比受差评的回答概率升得更多的比例',
  'the share of good answers that became more probable than they are for what answers now':
    '与现在作答的模型相比，概率升高的好回答的比例',
  'a judge learns from pairs, and there are none': '评判模型要从成对的回答中学习，而这里没有',
  'there are too few held-out pairs for a judge to learn from': '留出的成对回答太少，评判模型学不了',
  'there are no pairs to test the judge on': '没有成对的回答可用来检验评判模型',
  'the pairs to test the judge on are of too few first questions: {there}, and at least {least} are needed':
    '用来检验评判模型的成对回答来自太少的首个问题：只有 {there} 个，至少需要 {least} 个',
  'the judge agrees with {share} ({lower} to {upper}) of {count} judgements that it did not see':
    '评判模型与它没见过的 {count} 个评价的一致率为 {share}（{lower} 至 {upper}）',
  'the judge agrees with {share} ({lower} to {upper}) of {count} judgements that it did not see: too little to decide anything':
    '评判模型与它没见过的 {count} 个评价的一致率只有 {share}（{lower} 至 {upper}），不足以作判断',
  '{train} examples, {held_out} held out, of {conversations} conversations of {owners} people':
    '来自 {owners} 人 {conversations} 个对话：{train} 条用于学习，{held_out} 条留作检验',
  'there are too few judgements to learn from: examples to learn from: {train}, held out: {held_out}, of {units} first questions of chats, by {method}; at least {least_train} examples and {least_held_out} held-out first questions are needed':
    '评价太少，学不了：用 {method} 有 {train} 条可学习、{held_out} 条（来自 {units} 个聊天的首个问题）留作检验，至少需要 {least_train} 条和 {least_held_out} 个首个问题',
  'there are too few judgements to learn from: examples to learn from: {train}, held out: {held_out}, of {units} first questions of chats, by {method}; at least {least_train} examples and {least_held_out} held-out first questions are needed; left out: {left_out}':
    '评价太少，学不了：用 {method} 有 {train} 条可学习、{held_out} 条（来自 {units} 个聊天的首个问题）留作检验，至少需要 {least_train} 条和 {least_held_out} 个首个问题；未采用：{left_out}',
  "the held-out examples that fit into the model's context are of too few first questions: {examples} examples of {units}, and at least {least} are needed":
    '放得进模型上下文的留出例子来自太少的首个问题：{units} 个问题的 {examples} 条例子，至少需要 {least} 个问题',
  '{examples} examples of {units} first questions': '{units} 个首个问题的 {examples} 条例子',
  'what it learned from was erased, changed or put into the trash before it had ended, or is no longer allowed; all that it had computed is removed: begin a new one':
    '在结束之前，它所学的评价被清除、改动或放进了回收站，或者不再允许用于训练；已算出的内容都已删除，请重新开始改进',
  'the examples that it had begun with are gone and cannot be made again as they were: begin a new one':
    '开始时的例子已经不在，也无法照原样重新整理，请重新开始改进',
  'it was discarded before it had ended; all that it had computed is removed: begin a new one':
    '它在结束之前被放弃；已算出的内容都已删除，请重新开始改进',
  'it was interrupted, and begun anew with other options': '它中断后已换用其他选项重新开始',
  'nobody judged an answer yet: thumbs, corrections and choices in the chat page are what a model learns from':
    '还没有人评价过回答：模型学的是聊天页面里的好评差评、更正和选择',
  'answers of several models were judged: name one of {models}':
    '有评价的回答来自几个模型，请选一个：{models}',
  'the improvement {id} has ended already': '改进 {id} 已经结束',
  'an improvement is under way already: wait for its end, or stop it':
    '已有改进在进行：请等它结束，或将它停止',
  'nothing was judged since the improvement {id}; --again makes another one': '自改进 {id} 以来没有新的评价',
  'there are no held-out questions': '没有留出的问题',
  'the adapter at {strength} of its strength, as more of it changes neutral text too much':
    '适配器只用了 {strength} 倍的强度，再强就会过多改变中性文字',
  "nothing held out fits into the model's context": '留出的内容都放不进模型的上下文',
};

/** 旧版本写进记录的话：现在的程序不再这样写，但旧记录还在。 */
const formerRecords: Record<string, string> = {
  'there are too few judgements to learn from: {train} examples to learn from and {held_out} held out, of {units} first questions of chats, by {method}; at least {least_train} examples and {least_held_out} held-out first questions are needed':
    '评价太少，学不了：用 {method} 有 {train} 条可学习、{held_out} 条（来自 {units} 个聊天的首个问题）留作检验，至少需要 {least_train} 条和 {least_held_out} 个首个问题',
  'there are too few judgements to learn from: {train} examples to learn from and {held_out} held out, of {units} first questions of chats, by {method}; at least {least_train} examples and {least_held_out} held-out first questions are needed; left out: {left_out}':
    '评价太少，学不了：用 {method} 有 {train} 条可学习、{held_out} 条（来自 {units} 个聊天的首个问题）留作检验，至少需要 {least_train} 条和 {least_held_out} 个首个问题；未采用：{left_out}',
};

const patterns = Object.entries({ ...records, ...formerRecords }).map(([english, chinese]) => {
  const names = [...english.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '');
  const source = english
    .split(/\{\w+\}/)
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('(.+?)');
  return { pattern: new RegExp(`^${source}$`), names, chinese };
});

/** “18 (原因), 3 (原因)”里的每个原因。 */
function leftOut(parts: string): string {
  const each = (_: string, count: string, reason: string) => `${count} 条（${recorded(reason)}）`;
  return parts.replace(/(\d+) \(([^()]+)\)/g, each).replaceAll('）, ', '）、');
}

/** 服务器的一句英文，用中文说。 */
export function recorded(words: string): string {
  // 检验的说明后面可以跟着例子的数目。
  const counted = /^(.+); (\d+ examples of \d+ first questions)$/.exec(words);
  if (counted) return `${recorded(counted[1] ?? '')}；${recorded(counted[2] ?? '')}`;
  for (const { pattern, names, chinese } of patterns) {
    const match = pattern.exec(words);
    if (!match) continue;
    const filled = (text: string, name: string, index: number) => {
      const value = match[index + 1] ?? '';
      const said = name === 'left_out' ? leftOut(value) : name === 'method' ? value.toUpperCase() : value;
      return text.replace(`{${name}}`, () => said);
    };
    return names.reduce(filled, chinese);
  }
  return words;
}

/** 失败的原因；服务器没有中文说法的，只说去哪里看。 */
export function failure(reason: string): string {
  // 程序的日志里，错误在最后一个“zhenjin: ”之后。
  const words =
    reason
      .split(/(?:^|\n)zhenjin: /)
      .at(-1)
      ?.trim() ?? reason;
  const said = recorded(words);
  return said === words ? '失败了，原因见服务器日志。' : `失败了：${said}`;
}
