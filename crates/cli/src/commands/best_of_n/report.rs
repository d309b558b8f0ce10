//! What is told of the answers, in both languages.

use super::Written;
use crate::commands::report::ReportLanguage;
use serde_json::{Value, json};
use zhenjin_align::best_of::{Choice, LeftOut, Summary, Unusable};
use zhenjin_align::evaluation::Interval;

/// The words of one language; `{}` stands for numbers.
struct Words {
    prompts: &'static str,
    without_reward: &'static str,
    first: &'static str,
    cut: &'static str,
    empty: &'static str,
    rewritten: &'static str,
    duplicates: &'static str,
    all_equal: &'static str,
    head: &'static str,
    outside: &'static str,
    explained: &'static str,
    written_best: &'static str,
    written_pairs: &'static str,
    mean: &'static str,
    left_out: &'static str,
}

const ENGLISH: Words = Words {
    prompts: "{} prompts, {} answers, {} tokens each on average",
    without_reward: "{} answers have no reward and are not chosen",
    first: "; the first: ",
    cut: "{} answers were cut at --max-tokens and are not chosen",
    empty: "{} answers have no words and are not chosen",
    rewritten: "{} answers have half a character or control tokens, or would be written otherwise by the chat template, and are not chosen",
    duplicates: "{} answers repeat an earlier one to the same prompt",
    all_equal: "for {} prompts all answers are worth the same: there is nothing to choose",
    head: "| best of | reward | divergence at most | prompts |\n|---:|---:|---:|---:|\n",
    outside: "The means are over {} of {} prompts and {} of {} answers: {} answers have no reward or are not chosen for another reason above, \
              and {} prompts have no other answer.",
    explained: "Mean rewards over prompts, in brackets 95 % intervals (bootstrap over prompts); of fewer answers than there are, estimated without bias. \
                The divergence, in nats, of the best of n from one answer is at most ln n − (n − 1)/n.",
    written_best: "Written: {} examples for {} prompts",
    written_pairs: "Written: {} pairs for {} prompts",
    mean: ", mean reward of what is to be imitated or preferred {}",
    left_out: "prompts left out, {}: {}",
};

const CHINESE: Words = Words {
    prompts: "{} 个提示,{} 个回答,平均每个 {} 个词元",
    without_reward: "{} 个回答没有奖励,不会被选中",
    first: ";第一个的原因:",
    cut: "{} 个回答在 --max-tokens 处被截断,不会被选中",
    empty: "{} 个回答没有内容,不会被选中",
    rewritten: "{} 个回答含有半个字符或控制词元,或会被对话模板改写,不会被选中",
    duplicates: "{} 个回答与同一提示的先前回答相同",
    all_equal: "{} 个提示的所有回答奖励相同:无从选择",
    head: "| n 选最优 | 奖励 | 散度上界 | 提示 |\n|---:|---:|---:|---:|\n",
    outside: "均值只包括 {} / {} 个提示和 {} / {} 个回答:{} 个回答没有奖励或因上述其他原因不会被选中,\
              其中 {} 个提示没有其他回答。",
    explained: "奖励是各提示的均值,括号内为 95 % 区间(按提示自助重采样);少于全部回答数的情形为无偏估计。\
                n 选最优与单个回答之间的散度(奈特)不超过 ln n − (n − 1)/n。",
    written_best: "已写入:{} 个样本,来自 {} 个提示",
    written_pairs: "已写入:{} 对偏好,来自 {} 个提示",
    mean: ",供模仿或更优回答的平均奖励 {}",
    left_out: "未采用的提示,{}:{}",
};

/// The name of a reason, for programs.
pub(super) fn left_out(reason: LeftOut) -> &'static str {
    match reason {
        LeftOut::NoAnswer => "no_answer",
        LeftOut::BelowLeast => "below_least",
        LeftOut::AllEqual => "all_equal",
        LeftOut::SmallMargin => "small_margin",
    }
}

/// And for people.
fn reason(name: &str, language: ReportLanguage) -> &'static str {
    let (english, chinese) = match name {
        "no_answer" => ("no answer can be chosen", "没有可选的回答"),
        "below_least" => ("the best is worth less than --least", "最优回答低于 --least"),
        "all_equal" => ("all answers are the same or worth the same", "所有回答相同或奖励相同"),
        _ => ("best and worst are nearer than --least-margin", "最优与最差之差小于 --least-margin"),
    };
    match language {
        ReportLanguage::En => english,
        ReportLanguage::Zh => chinese,
    }
}

/// The words with values in their places.
fn filled(words: &str, values: &[&dyn std::fmt::Display]) -> String {
    let mut parts = words.split("{}");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, value) in parts.zip(values) {
        text += &format!("{value}{part}");
    }
    text
}

fn words(language: ReportLanguage) -> &'static Words {
    match language {
        ReportLanguage::En => &ENGLISH,
        ReportLanguage::Zh => &CHINESE,
    }
}

/// How many answers there are, and how many of them cannot be chosen.
pub(crate) fn counts(summary: &Summary, language: ReportLanguage) -> String {
    let words = words(language);
    let mean_tokens = format!("{:.1}", summary.mean_tokens);
    let mut text = filled(words.prompts, &[&summary.prompts, &summary.answers, &mean_tokens]) + "\n";
    let unusable = |reason| summary.unusable.get(&reason).copied().unwrap_or(0);
    let first = summary.first_fault.as_ref().map(|fault| format!("{}{fault}", words.first));
    for (count, words, more) in [
        (summary.without_reward, words.without_reward, first.unwrap_or_default()),
        (unusable(Unusable::Cut), words.cut, String::new()),
        (unusable(Unusable::Empty), words.empty, String::new()),
        (unusable(Unusable::Rewritten), words.rewritten, String::new()),
        (summary.duplicates, words.duplicates, String::new()),
        (summary.all_equal, words.all_equal, String::new()),
    ] {
        if count > 0 {
            text += &format!("{}{more}\n", filled(words, &[&count]));
        }
    }
    text
}

/// The rewards of the best of 1, 2, 4 … answers.
fn table(summary: &Summary, words: &Words) -> String {
    let mut text = words.head.to_owned();
    for best in &summary.best_of {
        let Interval { mean, lower, upper } = best.reward;
        text += &format!(
            "| {} | {mean:.4} ({lower:.4}–{upper:.4}) | {:.3} | {} |\n",
            best.answers, best.kl_bound, best.prompts
        );
    }
    let Summary { prompts, answers, counted, prompts_without, .. } = summary;
    let (of_prompts, left_out) = (prompts.saturating_sub(*prompts_without), answers.saturating_sub(*counted));
    text.push('\n');
    if left_out > 0 {
        let values: [&dyn std::fmt::Display; 6] =
            [&of_prompts, prompts, counted, answers, &left_out, prompts_without];
        text += &format!("{}\n", filled(words.outside, &values));
    }
    text + &format!("{}\n", words.explained)
}

/// For people.
pub(super) fn text(
    summary: &Summary,
    written: &Written,
    choice: &Choice,
    language: ReportLanguage,
) -> String {
    let words = words(language);
    let mut text = format!("{}\n{}", counts(summary, language), table(summary, words));
    let written_words = match choice {
        Choice::Best { .. } => words.written_best,
        Choice::Pair { .. } => words.written_pairs,
    };
    text += &filled(written_words, &[&written.records, &written.prompts]);
    if let Some(mean) = written.mean_reward {
        text += &filled(words.mean, &[&format!("{mean:.4}")]);
    }
    text.push('\n');
    for (name, count) in &written.left_out {
        text += &format!("{}\n", filled(words.left_out, &[&reason(name, language), count]));
    }
    text
}

/// For programs.
pub(super) fn json(summary: &Summary, written: &Written) -> Value {
    json!({ "summary": summary, "written": written })
}
