// The English words about feedback and what is learned from it.
import { isolated } from '../util/text';

/** “1 person”, “2 people”: of a number as it is written. */
const counted = (count: string, one: string, many: string) => `${count} ${count === '1' ? one : many}`;

/** The server's sentences, with methods as they are written elsewhere, and one thing not as many. */
function recorded(words: string): string {
  const one: Record<string, string> = {
    conversations: 'conversation',
    examples: 'example',
    people: 'person',
  };
  return words
    .replace(
      /\b(by|that) (dpo|kto|sft)\b/g,
      (_, before: string, method: string) => `${before} ${method.toUpperCase()}`,
    )
    .replace(
      /(?<![\d.,])1 (conversations|examples|people)\b/g,
      (_, many: string) => `1 ${one[many] ?? many}`,
    );
}

export const feedback = {
  judge: 'Judge this answer',
  up: 'Good answer',
  down: 'Bad answer',
  ratingSaved: 'Saved. Below you can say why.',
  takenBack: 'Taken back.',
  saved: 'Saved.',
  notSaved: 'This was not saved.',
  stillHere: 'What you wrote is still here.',
  notYetSaved: 'This is not saved yet.',
  panel: 'About this answer',
  whyUp: 'What is good about it?',
  whyDown: 'What is wrong with it?',
  reasons: {
    accurate: 'Accurate',
    helpful: 'Helpful',
    clear: 'Clear',
    well_written: 'Well written',
    good_tone: 'Good tone',
    wrong: 'Wrong',
    not_helpful: 'Not helpful',
    did_not_follow: 'Did not do what was asked',
    too_long: 'Too long',
    too_short: 'Too short',
    bad_style: 'Bad style',
    unsafe: 'Unsafe',
    other: 'Something else',
  },
  comment: 'Comment',
  commentPlaceholder: 'Anything else about this answer',
  commentTooLong: (used: string, total: string) =>
    `The comment has ${used} characters; at most ${total} can be kept.`,
  correct: 'Write what it should have said',
  correctionLabel: 'This is what it should have said',
  correctionHint: 'Change the text until it is the answer that you wanted. The answer itself stays as it is.',
  correctionSame: 'This is still the answer itself: change it, or it is not kept as a correction.',
  correctionBlank: 'A correction cannot be empty. Write something, or leave it out.',
  dropCorrection: 'Leave it out',
  cancel: 'Cancel',
  save: 'Save',
  yours: 'Your judgement',
  sayWhy: 'Say why',
  change: 'Change',
  correctionShown: 'What it should have said',
  changeCorrection: 'Change',
  removeCorrection: 'Remove',
  correctionRemoved: 'The correction was removed',
  compare: 'Another answer beside this one',
  sameModel: (title: string) => `Answer again: ${title}`,
  otherModel: (title: string) => `Answer of ${title}`,
  withoutImprovement: (title: string) => `Answer of ${title} without its improvement`,
  besideVersion: (number: number) => `Show beside version ${number}`,
  versionNumber: (number: number) => `version ${number}`,
  twoAnswers: 'Two answers to your question',
  answerNumber: (number: number) => `Answer ${number}`,
  choose: 'This one is better',
  chooseNumber: (answer: string) => `This one is better: ${answer}`,
  chosen: 'You chose this one',
  chooseHint: 'The chat goes on with the answer that you choose. Both are kept.',
  waitForBoth: 'You can choose when both answers are finished.',
  equalAnswers:
    'Both answers are the same, word for word. For different ones, raise the temperature or leave the seed empty in the chat settings.',
  brokenAnswer: 'One of the answers broke off: there is nothing to choose between.',
  brokenAnswers: 'Both answers broke off: there is nothing to choose between.',
  teachesNothing: 'This answer breaks off: models do not learn from its being chosen or liked.',
  closeComparison: 'Do not choose',
  /** Where something is chosen already. */
  endComparison: 'Close',
  choiceNotSaved: 'Your choice was not saved.',
  choiceSaved: 'Your choice is saved. The chat goes on with this answer.',
  better: (versions: string) => `You found this answer better than ${versions}.`,
  worse: (versions: string) => `You found ${versions} better than this answer.`,
  lookAtBoth: 'Look at both',
  forgetChoice: 'Take the choice back',
  choiceForgotten: 'The choice was taken back.',
  consentQuestion: 'May what you judge here be used to train this server’s models?',
  consentDetail: 'It stays on this server. You can change this at any time, in the chat settings.',
  consentYes: 'Yes, it may',
  consentNo: 'No',
  consentGiven: 'Thank you. What you judge may be used for training.',
  consentRefused: 'What you judge is not used for training.',
  settings: 'Feedback',
  consentSwitch: 'May be used for training',
  consentSince: (date: string) => `Since ${date}.`,
  consentExplain:
    'Your judgements are kept on this server in any case. Only with this switch on do models learn from them.',
  count: (count: string) => `Answers and pairs of answers that you have judged: ${count}`,
  exportOwn: 'Export mine',
  exportFile: 'my-feedback.json',
  eraseOwn: 'Erase all mine',
  eraseQuestion:
    'Erase all your judgements, comments and corrections for good? The chats stay. This cannot be undone.',
  eraseLearned: (improvements: string[]) =>
    `These improvements have learned from it already and will not forget it: ${improvements.map(isolated).join(', ')}`,
  eraseConfirm: 'Yes, erase',
  keep: 'Keep',
  erased: (count: number) => (count === 1 ? '1 judgement was erased.' : `${count} judgements were erased.`),
  learned: (improvements: string[]) =>
    `These improvements learned from its feedback and stay as they are: ${improvements.map(isolated).join(', ')}`,
  learnedFromYours: (improvements: string[]) =>
    `These improvements learned from your feedback and stay as they are: ${improvements.map(isolated).join(', ')}`,
  /** Between two notices that are shown as one. */
  noticeBreak: '. ',
};

export const improvements = {
  title: 'Improvements',
  open: 'Improvements from feedback',
  close: 'Close',
  explain:
    'A model learns from what people judged here and agreed to. The result answers only after it has passed a gate, and can be rolled back at any time.',
  statistics: 'Feedback on this server',
  noFeedback: 'Nobody has judged anything yet.',
  totals: {
    judgements: 'Judgements',
    choices: 'Choices',
    up: 'Thumbs up',
    down: 'Thumbs down',
    corrections: 'Corrections',
    comments: 'Comments',
    withConsent: 'With consent',
    withoutConsent: 'Without consent',
    new: 'New to learn from',
    trained: 'In improvements',
    inTrash: 'In the trash',
  },
  more: 'By reason, model and person',
  byReason: 'By reason',
  byModel: 'By model',
  byOwner: 'By person',
  localOwner: 'this machine',
  ownerCounts: (judgements: string, fresh: string, trained: string) =>
    `${counted(judgements, 'judgement', 'judgements')}, ${fresh} of them new, ${trained} in improvements`,
  allows: 'allows training',
  allowsNot: 'does not allow training',
  limitsTitle: 'How much can be said',
  limits: (comment: string, correction: string, rejected: string) =>
    `At most ${comment} characters in a comment, ${correction} in a correction, and ${rejected} answers that one is chosen over.`,
  improve: 'Improve now',
  wouldLearn: (model: string, method: string) => `${isolated(model)} would learn by ${method}`,
  tooFew: (examples: string, questions: string, there: string) =>
    `That is too little: at least ${examples} to learn from are needed, and judgements of ${questions} different first questions held out (now ${there}).`,
  nothingNewSince: (improvement: string) =>
    `Nothing was judged since the improvement ${isolated(improvement)}.`,
  lookAgain: 'Look again',
  model: 'Model',
  /** `title`: which that is; empty where it is not known. */
  modelDefault: (title: string) =>
    title === '' ? 'The server’s model' : `The server’s model (${isolated(title)})`,
  method: 'Method',
  methodAutomatic: 'By what the feedback is',
  methods: {
    dpo: 'DPO (choices between two answers)',
    kto: 'KTO (thumbs)',
    sft: 'SFT (corrections and liked answers)',
  },
  beginning: 'The improvement is beginning',
  running: (model: string) => `${isolated(model)} is being improved`,
  phases: {
    collecting: 'Collecting the feedback',
    reference: 'Measuring how the model itself judges the examples',
    training: 'Training',
    judging: 'Judging at the gate',
  },
  progress: (step: string, steps: string) => `step ${step} of ${steps}`,
  phaseProgress: (phase: string, progress: string) => `${phase}, ${progress}`,
  startedAt: (date: string) => `started ${date}`,
  cancel: 'Cancel',
  cancelled: 'The improvement was interrupted: it goes on when the same is asked for again',
  discard: 'Discard',
  discardOf: (improvement: string) => `Discard improvement ${isolated(improvement)}`,
  discarded: (improvement: string) =>
    `Improvement ${isolated(improvement)} does not go on: the copies that it kept of what people wrote are gone`,
  timeLeft: (minutes: string) => `about ${counted(minutes, 'minute', 'minutes')} left`,
  answering: 'What answers now',
  itself: 'the model itself',
  answeringSince: (improvement: string, method: string, date: string) =>
    `improvement ${isolated(improvement)}, ${method}, since ${date}`,
  elsewhere: (date: string) => `weights from elsewhere, since ${date}`,
  trainedBy: (method: string) => `trained by ${method}`,
  fromScratch: 'trained from scratch',
  copiedFrom: (source: string) => `Copied from ${isolated(source)}`,
  adaptersUnloaded: (names: string) =>
    `These adapters no longer answer, as they belong to other weights: ${isolated(names)}`,
  adaptersLoaded: (names: string) => `These adapters answer again: ${isolated(names)}`,
  rollBack: 'Roll back',
  rollBackOf: (model: string) => `Roll back ${isolated(model)}`,
  rolledBack: (model: string, what: string) =>
    `${isolated(model)} answers from the next question on with: ${what}`,
  promote: 'Promote',
  promoteOf: (improvement: string) => `Promote improvement ${isolated(improvement)}`,
  promotion: (id: string) => `the promotion ${isolated(id)}`,
  comparedWithOther: (then: string, now: string) =>
    `It was compared with ${then}, but something else answers now (${now}): nothing was measured against that.`,
  promoteAnyway: 'Promote all the same',
  promoteAnywayOf: (improvement: string) => `Promote improvement ${isolated(improvement)} all the same`,
  promoted: (model: string, improvement: string) =>
    `${isolated(model)} answers with improvement ${isolated(improvement)} from the next question on`,
  all: 'All improvements',
  none: 'There is none yet.',
  states: {
    running: 'Running',
    interrupted: 'Interrupted: it goes on when the same is asked for again',
    failed: 'Failed',
    refused: 'Did not pass the gate',
    passed: 'Passed the gate',
  },
  answersNow: 'Answers now',
  improvement: (id: string) => `Improvement ${isolated(id)}`,
  data: (pairs: string, ratings: string, corrections: string, conversations: string, owners: string) =>
    `${counted(pairs, 'pair', 'pairs')}, ${counted(ratings, 'rating', 'ratings')} and ${counted(corrections, 'correction', 'corrections')} from ${counted(conversations, 'chat', 'chats')} of ${counted(owners, 'person', 'people')}`,
  split: (train: string, heldOut: string) => `${train} to learn from, ${heldOut} held out`,
  leftOut: 'Left out',
  leftOutCount: (count: string, reason: string) => `${count}: ${reason}`,
  /** What is counted there; the statistics count an answer once that has a rating and a correction. */
  leftOutUnits: {
    judgements: (count: string) =>
      counted(count, 'rating, choice or correction', 'ratings, choices or corrections'),
    examples: (count: string) => counted(count, 'example', 'examples'),
  },
  gate: (id: string) => `Gate of improvement ${isolated(id)}`,
  columns: {
    criterion: 'Criterion',
    value: 'Measured',
    base: 'Before',
    interval: '95 % interval',
    limit: 'Limit',
    examples: 'Examples',
    verdict: 'Verdict',
  },
  criteria: {
    preference_accuracy: 'Agrees with held-out choices',
    win_rate: 'Wins against the model before',
    liked_answers: 'Liked answers: change of log-probability per token',
    perplexity_en: 'Perplexity of neutral English text',
    perplexity_zh: 'Perplexity of neutral Chinese text',
    speed: 'Speed, tokens per second',
  },
  colon: ': ',
  /** After a figure that was measured before a promotion: its interval. */
  measuredRange: (lower: string, upper: string) => ` (${lower} to ${upper})`,
  /** Between two of them. */
  measuredBreak: ', ',
  /** What the record of an improvement says, in the server's English. */
  recorded,
  passed: 'passed',
  failed: 'not passed',
  notMeasured: 'not measured',
  undecided: 'decides nothing',
  error: (reason: string) => `It failed: ${recorded(reason)}`,
  adapterOf: (model: string) => `Adapter for ${isolated(model)}`,
  adapterFolder: (folder: string) => `from the folder ${isolated(folder)}`,
  adapterStart: 'named when the server started',
  learned: (improvement: string, method: string, date: string) =>
    `improvement ${isolated(improvement)}, ${method}, ${date}`,
  modelOrigin: (what: string) => `Answers with ${what}`,
};
