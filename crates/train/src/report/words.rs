//! The report's words in its two languages.

/// Language of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

/// Everything that a report says.
pub(super) struct Words {
    pub(super) tag: &'static str,
    pub(super) title: &'static str,
    pub(super) colon: &'static str,
    pub(super) summary: &'static str,
    pub(super) curves: &'static str,
    pub(super) samples: &'static str,
    pub(super) data: &'static str,
    pub(super) notes: &'static str,
    pub(super) configuration: &'static str,
    pub(super) hardware: &'static str,
    pub(super) step: &'static str,
    pub(super) steps: &'static str,
    pub(super) tokens: &'static str,
    loss_of_tokens: &'static str,
    pub(super) training_loss: &'static str,
    pub(super) validation_loss: &'static str,
    pub(super) bits_per_byte: &'static str,
    pub(super) best: &'static str,
    pub(super) learning_rate: &'static str,
    pub(super) gradient_norm: &'static str,
    pub(super) imbalance: &'static str,
    pub(super) router_entropy: &'static str,
    pub(super) tokens_per_second: &'static str,
    pub(super) peak_fraction: &'static str,
    pub(super) time: &'static str,
    pub(super) operations: &'static str,
    pub(super) memory: &'static str,
    pub(super) energy: &'static str,
    pub(super) energy_estimated: &'static str,
    pub(super) energy_given: &'static str,
    pub(super) energy_measured: &'static str,
    pub(super) price: &'static str,
    pub(super) source: &'static str,
    pub(super) licence: &'static str,
    pub(super) documents: &'static str,
    pub(super) prompt: &'static str,
    pub(super) unreadable_lines: &'static str,
    pub(super) skipped_steps: &'static str,
    pub(super) none: &'static str,
    pub(super) held_out: &'static str,
    measures: fn((&'static str, &'static str)) -> &'static str,
}

/// What methods measure: the name in the log, in English and in Chinese.
const MEASURES: [(&str, (&str, &str)); 39] = [
    ("accuracy", ("Preferred answers ranked first (share)", "更优回答排在前面的比例")),
    ("margin", ("Margin of the implicit rewards", "隐式奖励的差距")),
    ("chosen_reward", ("Implicit reward of preferred answers", "更优回答的隐式奖励")),
    ("rejected_reward", ("Implicit reward of other answers", "较差回答的隐式奖励")),
    ("chosen_log_probability", ("Log-probability of preferred answers", "更优回答的对数概率")),
    ("rejected_log_probability", ("Log-probability of other answers", "较差回答的对数概率")),
    ("liked_reward", ("Implicit reward of liked answers", "获好评回答的隐式奖励")),
    ("disliked_reward", ("Implicit reward of disliked answers", "获差评回答的隐式奖励")),
    ("kl", ("Divergence from the reference (nats per token)", "与参考模型的散度(奈特/词元)")),
    ("answer_kl", ("Divergence from the reference (nats per answer)", "与参考模型的散度(奈特/回答)")),
    ("divergence", ("Divergence from the teacher (nats per token)", "与教师模型的散度(奈特/词元)")),
    ("cross_entropy", ("Cross entropy with the data (nats per token)", "对数据的交叉熵(奈特/词元)")),
    (
        "teacher_cross_entropy",
        ("The teacher's cross entropy with the data (nats per token)", "教师模型对数据的交叉熵(奈特/词元)"),
    ),
    (
        "agreement",
        (
            "Tokens where student and teacher find the same one likeliest (share)",
            "学生与教师认为最可能的词元相同的比例",
        ),
    ),
    ("own_answers", ("Examples that the model answered itself (share)", "由模型自己作答的样本比例")),
    ("reward", ("Reward", "奖励")),
    ("reward_deviation", ("Deviation of the rewards within a prompt", "同一提示内奖励的标准差")),
    ("judge", ("Reward by the held-out judge", "未参与训练的评判者给出的奖励")),
    ("advantage", ("Advantage (mean of absolute values)", "优势(绝对值的均值)")),
    ("entropy", ("Entropy of the policy (nats per token)", "策略的熵(奈特/词元)")),
    ("answer_tokens", ("Length of answers (tokens)", "回答长度(词元)")),
    ("ended", ("Answers that ended by themselves (share)", "自行结束的回答比例")),
    ("repetition", ("Tokens in repeated 4-grams (share)", "重复四元组中的词元比例")),
    ("copied", ("Tokens copied from the prompt in runs of eight (share)", "连续八个以上照抄提示的词元比例")),
    ("distinct_2", ("Distinct pairs of tokens (share)", "不同二元组的比例")),
    ("without_reward", ("Answers without a reward (share)", "没有奖励的回答比例")),
    ("without_judgement", ("Answers of which the judge says nothing (share)", "评判者未作评价的回答比例")),
    ("uniform_groups", ("Prompts whose answers all have one reward (share)", "所有回答奖励相同的提示比例")),
    ("clipped_tokens", ("Clipped tokens (share)", "被裁剪的词元比例")),
    ("ratio_least", ("Least ratio of probabilities", "最小概率比")),
    ("ratio_mean", ("Mean ratio of probabilities", "平均概率比")),
    ("ratio_greatest", ("Greatest ratio of probabilities", "最大概率比")),
    (
        "mismatch",
        ("Mismatch of writer and learner (mean of |ln ratio|)", "采样与训练的不一致(|ln 概率比| 的均值)"),
    ),
    ("mismatch_least", ("Least ratio of learner and writer", "训练与采样的最小概率比")),
    ("mismatch_greatest", ("Greatest ratio of learner and writer", "训练与采样的最大概率比")),
    ("value_loss", ("Loss of the critic", "评论家损失")),
    (
        "explained_variance",
        ("Variance of returns that the critic explains (share)", "评论家解释的回报方差比例"),
    ),
    ("confidence", ("Accuracy that the model expects of itself (share)", "模型对自身准确率的估计")),
    ("anchor", ("Distance from the reference on the anchor's text", "在锚定文本上与参考模型的距离")),
];

/// What a method measures otherwise than the others do under the same name: the method, the name, the titles.
const MEASURES_OF_METHODS: [(&str, &str, (&str, &str)); 3] = [
    ("reward", "margin", ("Margin of the rewards", "奖励的差距")),
    ("reward", "reward", ("Reward, mean of both answers", "两个回答奖励的均值")),
    ("kto", "accuracy", ("Answers judged as people did (share)", "与人的评判一致的回答比例")),
];

/// Titles of losses that are not in nats per token: the method, behind a slash the formula where there are several, the titles.
const LOSSES: [(&str, (&str, &str)); 9] = [
    ("reward", ("Loss of the reward model (nats per pair)", "奖励模型的损失(奈特/对)")),
    ("dpo/sigmoid", ("DPO loss (nats per pair)", "DPO 损失(奈特/对)")),
    (
        "dpo/sigmoid-per-token",
        ("DPO loss on means over tokens (nats per pair)", "按词元平均的 DPO 损失(奈特/对)"),
    ),
    ("dpo/ipo", ("IPO loss (per pair)", "IPO 损失(每对)")),
    ("dpo/ipo-sum", ("IPO loss on sums over tokens (per pair)", "按词元求和的 IPO 损失(每对)")),
    ("dpo/hinge", ("Hinge loss (per pair)", "合页损失(每对)")),
    ("kto", ("KTO loss (per answer)", "KTO 损失(每个回答)")),
    ("ppo", ("Loss of the policy", "策略的损失")),
    ("grpo", ("Loss of the policy", "策略的损失")),
];

/// What a run's configuration says of its method; nothing where it is pretraining.
#[derive(Debug, Default)]
pub(super) struct Method {
    name: String,
    /// The formula of a method that has several.
    formula: Option<String>,
}

impl Method {
    /// Of a configuration's text.
    pub(super) fn of(configuration: &str) -> Method {
        let Ok(settings) = configuration.parse::<toml::Table>() else { return Method::default() };
        let text = |value: &toml::Value| value.as_str().map(str::to_owned);
        let Some(name) = settings.get("method").and_then(text) else { return Method::default() };
        let formula = settings.get("preference").and_then(|section| section.get("loss")).and_then(text);
        Method { name, formula }
    }
}

impl Words {
    /// The title of a measure's curve; its name in the log where there is none.
    pub(super) fn measure(&self, method: &Method, name: &str) -> String {
        let of_method =
            MEASURES_OF_METHODS.iter().find(|(of, known, _)| *of == method.name && *known == name);
        let of_all = || MEASURES.iter().find(|(known, _)| *known == name).map(|(_, titles)| titles);
        let known = of_method.map(|(_, _, titles)| titles).or_else(of_all);
        known.map_or_else(|| name.to_owned(), |titles| (self.measures)(*titles).to_owned())
    }

    /// The title of the loss's curve.
    pub(super) fn loss(&self, method: &Method) -> &'static str {
        let with_formula = method.formula.as_ref().map(|formula| format!("{}/{formula}", method.name));
        let name = with_formula.as_deref().unwrap_or(&method.name);
        let known = LOSSES.iter().find(|(known, _)| *known == name);
        known.map_or(self.loss_of_tokens, |(_, titles)| (self.measures)(*titles))
    }
}

impl Language {
    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

const ENGLISH: Words = Words {
    tag: "en",
    title: "Training report",
    colon: ": ",
    summary: "In short",
    curves: "Curves",
    samples: "What the model wrote",
    data: "Data",
    notes: "What happened",
    configuration: "Configuration",
    hardware: "The machine that made this report",
    step: "step",
    steps: "Steps",
    tokens: "Tokens",
    loss_of_tokens: "Loss (nats per token)",
    training_loss: "training",
    validation_loss: "validation",
    bits_per_byte: "Validation: bits per byte",
    best: "Best validation",
    learning_rate: "Learning rate",
    gradient_norm: "Gradient norm",
    imbalance: "Busiest expert (multiple of the mean)",
    router_entropy: "Entropy of the routers (nats)",
    tokens_per_second: "Tokens per second",
    peak_fraction: "Share of the machine's measured peak (%)",
    time: "Time in steps",
    operations: "Operations (the model's own)",
    memory: "Greatest memory",
    energy: "Energy",
    energy_estimated: "an estimate: assumed watts times seconds",
    energy_given: "watts as given times seconds",
    energy_measured: "from the processor's counters",
    price: "Money",
    source: "Source",
    licence: "Licence",
    documents: "Documents",
    prompt: "prompt",
    unreadable_lines: "lines of the log could not be read",
    skipped_steps: "Steps that changed nothing",
    none: "not known",
    held_out: "held out",
    measures: |(english, _)| english,
};

const CHINESE: Words = Words {
    tag: "zh-CN",
    title: "训练报告",
    colon: "：",
    summary: "概要",
    curves: "曲线",
    samples: "模型写出的文字",
    data: "数据",
    notes: "训练中发生的事",
    configuration: "配置",
    hardware: "生成本报告的机器",
    step: "步",
    steps: "步数",
    tokens: "词元数",
    loss_of_tokens: "损失(奈特/词元)",
    training_loss: "训练",
    validation_loss: "验证",
    bits_per_byte: "验证:每字节比特数",
    best: "最佳验证结果",
    learning_rate: "学习率",
    gradient_norm: "梯度范数",
    imbalance: "最忙专家的负载(均值的倍数)",
    router_entropy: "路由器的熵(奈特)",
    tokens_per_second: "每秒词元数",
    peak_fraction: "占本机实测峰值的比例(%)",
    time: "训练步用时",
    operations: "运算量(模型自身)",
    memory: "最大内存",
    energy: "能耗",
    energy_estimated: "估算值:假定功率乘以时间",
    energy_given: "给定功率乘以时间",
    energy_measured: "读自处理器计数器",
    price: "费用",
    source: "来源",
    licence: "许可证",
    documents: "文档数",
    prompt: "提示",
    unreadable_lines: "行日志无法读取",
    skipped_steps: "未更新权重的步数",
    none: "未知",
    held_out: "留出",
    measures: |(_, chinese)| chinese,
};
