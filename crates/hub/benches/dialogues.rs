//! How fast training dialogues become token ids (rendered, encoded, the assistant's tokens found), and how long the
//! prompt of a chat takes.
//!
//! `cargo bench -p zhenjin-hub --bench dialogues -- MODEL [--file DIALOGUES.jsonl] [--count N] [--threads 1,2]`
//!
//! Without a file the dialogues are generated: two to six turns of Chinese or English words, the same ones in every run.
//! A file holds one dialogue per line, as `{"messages": [{"role", "content"}]}` or as
//! `{"conversations": [{"from": "human" | "gpt", "value"}]}`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use zhenjin_hub::{OpenedModel, open};
use zhenjin_tokenizer::{RenderInput, Tokenizer, encode_dialogues};

/// Words of generated English dialogues; rarer ones are put together from two.
const ENGLISH: &str = "the of and a to in is that it you for on with as are this be can I have from or by not your an at we will more if one which time about when how make use their like what so some into people other than then its only work first also new because any these give most us data model number small large write function value example answer question language system computer process change important different between under water energy country history family student school program design research analysis reason result simple difficult possible general special public private market company government development information understand consider describe explain provide include increase reduce improve compare create";
/// Words of generated Chinese dialogues.
const CHINESE: &str = "的 是 在 了 我 你 我们 他们 这个 那个 可以 如果 因为 所以 但是 一个 一些 没有 需要 使用 进行 问题 方法 时间 工作 学习 数据 模型 语言 系统 计算机 程序 函数 例子 答案 解释 描述 比较 提供 包括 提高 减少 重要 不同 之间 能量 国家 历史 家庭 学生 学校 设计 研究 分析 原因 结果 简单 困难 可能 一般 特殊 公共 市场 公司 政府 发展 信息 理解 考虑 创建 人工智能 机器学习 环境 保护 健康 生活 经济 文化 艺术 音乐 旅行 食物 天气 城市 农村 交通 技术 网络 安全 教育 科学 社会 世界 中国 首先 其次 最后 例如 此外 因此 通过 根据 关于 对于 以及 或者 并且 非常 更加 已经 正在 将会 应该 必须 能够 帮助 支持 影响 作用 关系 条件 情况 过程 目标 计划 步骤 建议 选择 机会 挑战 优势 缺点";

fn main() {
    let mut model = None;
    let mut file: Option<PathBuf> = None;
    let mut count = 10_000;
    let mut threads = vec![1, 2];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value after the option");
        match argument.as_str() {
            "--bench" => {}
            "--file" => file = Some(value().into()),
            "--count" => count = value().parse().expect("a number of dialogues"),
            "--threads" => {
                threads =
                    value().split(',').map(|count| count.parse().expect("a number of threads")).collect();
            }
            path => model = Some(PathBuf::from(path)),
        }
    }
    let Some(model) = model else {
        println!("give the path of a model: a GGUF file or a Hugging Face folder");
        return;
    };
    let opened = open(&model).expect("a model");
    let sets = match file {
        Some(path) => vec![("file", read_dialogues(&path, count))],
        None => vec![("English", generated(count, english)), ("Chinese", generated(count, chinese))],
    };
    println!(
        "{:<9}{:>8}{:>10}{:>8}{:>13}{:>12}{:>14}{:>14}{:>9}",
        "dialogues",
        "threads",
        "turns",
        "bytes",
        "dialogues/s",
        "tokens/s",
        "tokens/dial.",
        "assistant's",
        "µs/dial."
    );
    for (name, dialogues) in &sets {
        for &threads in &threads {
            encode_set(&opened, name, dialogues, threads);
        }
    }
    prompt_latency(&opened);
}

fn encode_set(opened: &OpenedModel, name: &str, dialogues: &[Vec<Value>], threads: usize) {
    let template = opened.template.as_ref().expect("a chat template");
    let inputs: Vec<RenderInput<'_>> = dialogues
        .iter()
        .map(|messages| RenderInput { messages, mark_assistant: true, ..RenderInput::default() })
        .collect();
    let threads = NonZeroUsize::new(threads).expect("at least one thread");
    let started = Instant::now();
    let encoded = encode_dialogues(template, &opened.tokenizer, &inputs, threads);
    let seconds = started.elapsed().as_secs_f64();
    let (mut tokens, mut assistant, mut failed) = (0, 0, 0);
    for dialogue in &encoded {
        match dialogue {
            Ok(dialogue) => {
                tokens += dialogue.ids.len();
                assistant += dialogue.assistant_mask.iter().filter(|&&written| written).count();
            }
            Err(_) => failed += 1,
        }
    }
    let count = dialogues.len() as f64;
    let text: usize =
        dialogues.iter().flatten().map(|message| message["content"].as_str().map_or(0, str::len)).sum();
    let turns = dialogues.iter().map(Vec::len).sum::<usize>() as f64 / count;
    println!(
        "{name:<9}{threads:>8}{turns:>10.1}{:>8.0}{:>13.0}{:>12.0}{:>14.0}{:>13.0}%{:>9.0}",
        text as f64 / count,
        count / seconds,
        tokens as f64 / seconds,
        tokens as f64 / count,
        100.0 * assistant as f64 / tokens as f64,
        1e6 * seconds / count
    );
    if failed > 0 {
        println!(
            "{failed} dialogues failed; the first says: {:?}",
            encoded.iter().find_map(|one| one.as_ref().err())
        );
    }
}

/// The prompt of a chat of one turn, as a server makes it: medians of many.
fn prompt_latency(opened: &OpenedModel) {
    let template = opened.template.as_ref().expect("a chat template");
    let messages =
        [json!({ "role": "user", "content": "Explain in three sentences why the sky is blue. 谢谢！" })];
    let (mut rendering, mut encoding) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let input =
            RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
        let started = Instant::now();
        let rendered = template.render(&input).expect("a prompt");
        let between = Instant::now();
        encode(&opened.tokenizer, &rendered);
        encoding.push(between.elapsed());
        rendering.push(between - started);
    }
    rendering.sort_unstable();
    encoding.sort_unstable();
    let at = |times: &[std::time::Duration], part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!(
        "prompt of one turn: render {:.0} µs (90 %: {:.0}), encode {:.0} µs (90 %: {:.0})",
        at(&rendering, 50),
        at(&rendering, 90),
        at(&encoding, 50),
        at(&encoding, 90)
    );
}

fn encode(tokenizer: &Tokenizer, rendered: &zhenjin_tokenizer::Rendered) -> usize {
    tokenizer.encode_rendered(rendered).expect("ids").len()
}

fn read_dialogues(path: &std::path::Path, count: usize) -> Vec<Vec<Value>> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let dialogues: Vec<Vec<Value>> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("one JSON object per line");
            if let Some(messages) = line["messages"].as_array() {
                return messages.clone();
            }
            let turns = line["conversations"].as_array().expect("messages or conversations");
            turns.iter().map(message_of_turn).collect()
        })
        .collect();
    // A short file is read again from its beginning until there are enough.
    dialogues.iter().cycle().take(count).cloned().collect()
}

fn message_of_turn(turn: &Value) -> Value {
    let role = match turn["from"].as_str() {
        Some("gpt") => "assistant",
        Some("system") => "system",
        _ => "user",
    };
    json!({ "role": role, "content": turn["value"] })
}

/// Knuth's linear congruential generator; the upper 31 bits count.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    /// Frequent words are early in the list, as in real text.
    fn word<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let limit = 1 + self.below(words.len());
        words[self.below(limit)]
    }
}

/// Dialogues of one to three pairs of a question (10 to 60 words) and an answer (50 to 350 words).
fn generated(count: usize, text: fn(&mut Random, usize) -> String) -> Vec<Vec<Value>> {
    let mut random = Random(1);
    (0..count)
        .map(|_| {
            let pairs = 1 + random.below(3);
            let mut messages = Vec::with_capacity(pairs * 2);
            for _ in 0..pairs {
                let (question, answer) = (10 + random.below(50), 50 + random.below(300));
                messages.push(json!({ "role": "user", "content": text(&mut random, question) }));
                messages.push(json!({ "role": "assistant", "content": text(&mut random, answer) }));
            }
            messages
        })
        .collect()
}

fn english(random: &mut Random, words: usize) -> String {
    let list: Vec<&str> = ENGLISH.split(' ').collect();
    let mut text = String::new();
    for _ in 0..words {
        text.push_str(random.word(&list));
        match random.below(40) {
            0 => text.push_str(random.word(&list)),
            1 => text.push_str(&format!(" {}", random.below(10_000))),
            2 => text.push_str(".\n\n"),
            3 => text.push_str(":\n- "),
            4..=6 => text.push_str(". "),
            7..=9 => text.push_str(", "),
            _ => {}
        }
        if !text.ends_with(' ') && !text.ends_with('\n') {
            text.push(' ');
        }
    }
    text.trim_end().to_owned()
}

fn chinese(random: &mut Random, words: usize) -> String {
    let list: Vec<&str> = CHINESE.split(' ').collect();
    let mut text = String::new();
    for _ in 0..words {
        text.push_str(random.word(&list));
        match random.below(40) {
            0 => text.push(char::from_u32(0x4E00 + random.below(0x51A5) as u32).unwrap_or('中')),
            1 => text.push_str(&format!("{}", random.below(10_000))),
            2 => text.push_str("。\n\n"),
            3 => text.push_str("：\n1. "),
            4..=6 => text.push('。'),
            7..=11 => text.push('，'),
            12 => text.push_str("AI"),
            _ => {}
        }
    }
    text
}
