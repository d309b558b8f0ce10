//! Large models whose makers published what training them took: a check of the arithmetic, and something to compare one's own plans with.

use super::cluster::{Cluster, ClusterCost, Work};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// A published run.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedRun {
    /// What to call it on the command line.
    pub name: &'static str,
    /// What was trained, and on what.
    pub description: &'static str,
    /// What was trained.
    pub work: Work,
    /// On what.
    pub cluster: Cluster,
    /// Operations that its makers state.
    pub operations: Option<f64>,
    /// Hours of all devices that its makers state.
    pub device_hours: Option<f64>,
    /// Seconds from begin to end that its makers state.
    pub seconds: Option<f64>,
    /// Tokens per second that its makers state.
    pub tokens_per_second: Option<f64>,
    /// Price that was stated.
    pub price: Option<f64>,
    /// Where the figures are published.
    pub source: &'static str,
}

impl PublishedRun {
    /// What the arithmetic says.
    pub fn cost(&self) -> ClusterCost {
        self.cluster.cost(&self.work)
    }

    /// The utilisation that the published hours amount to.
    pub fn implied_utilisation(&self) -> Option<f64> {
        Some(self.work.operations() / (self.device_hours? * 3600.0 * self.cluster.peak_flops))
    }
}

/// NVIDIA's data sheets: dense 16-bit tensor operations per second.
const V100: f64 = 125e12;
const A100: f64 = 312e12;
const H100: f64 = 989.4e12;
/// TPU v4 (PaLM, arXiv 2204.02311, appendix B).
const TPU_V4: f64 = 275e12;

fn cluster(devices: f64, peak_flops: f64, utilisation: f64, watts: f64, price: f64) -> Cluster {
    Cluster {
        devices,
        peak_flops,
        utilisation,
        watts,
        // What Meta's data centres have; the others did not publish theirs.
        overhead: 1.1,
        price_per_device_hour: price,
        network: None,
    }
}

fn work(parameters: f64, tokens: f64, tokens_per_step: f64) -> Work {
    Work { parameters, tokens, tokens_per_step }
}

/// A run of which nothing is published.
fn nothing() -> PublishedRun {
    PublishedRun {
        name: "",
        description: "",
        work: work(0.0, 0.0, 1.0),
        cluster: cluster(1.0, 1.0, 1.0, 0.0, 0.0),
        operations: None,
        device_hours: None,
        seconds: None,
        tokens_per_second: None,
        price: None,
        source: "",
    }
}

/// Prices per hour are assumptions: what clouds asked for such devices at about that time. [`PublishedRun::price`] is stated only for `gpt-3-v100`.
pub fn published_runs() -> Vec<PublishedRun> {
    let gpt_3 = work(174.6e9, 300e9, 3.2e6);
    let mut runs = vec![
        PublishedRun {
            name: "gpt-3",
            description: "GPT-3 175B, 300 billion tokens, on 1,024 A100",
            work: gpt_3,
            // 140 TFLOP/s per device with recomputation of the forward pass, 6/8 of which are the model's own.
            cluster: cluster(1024.0, A100, 140e12 * 6.0 / 8.0 / A100, 400.0, 1.5),
            operations: Some(3.14e23),
            seconds: Some(34.0 * DAY),
            source: "operations: Brown et al. 2020, arXiv 2005.14165, table D.1; time: Narayanan et al. 2021, arXiv 2104.04473, section 5.1",
            ..nothing()
        },
        PublishedRun {
            name: "gpt-3-v100",
            description: "GPT-3 175B, 300 billion tokens, on V100 at 28 TFLOP/s each",
            work: gpt_3,
            cluster: cluster(1024.0, V100, 28e12 / V100, 300.0, 1.5),
            operations: Some(3.14e23),
            device_hours: Some(355.0 * 365.25 * 24.0),
            price: Some(4.6e6),
            source: "Brown et al. 2020, arXiv 2005.14165, table D.1; price: C. Li, \"OpenAI's GPT-3 Language Model: A Technical Overview\", Lambda, 2020",
            ..nothing()
        },
        PublishedRun {
            name: "palm",
            description: "PaLM 540B, 780 billion tokens, on 6,144 TPU v4",
            work: work(540e9, 780e9, 4e6),
            cluster: cluster(6144.0, TPU_V4, 0.457, 200.0, 3.22),
            operations: Some(2527.2e21),
            device_hours: Some(6144.0 * 1200.0 + 3072.0 * 336.0),
            tokens_per_second: Some(238.3e3),
            source: "Chowdhery et al. 2022, arXiv 2204.02311, section 4.1 and appendix B (hours with downtime and repeated steps)",
            ..nothing()
        },
    ];
    runs.extend(llama_2());
    runs.extend(llama_3());
    runs
}

/// All four have the same data.
fn llama_2() -> Vec<PublishedRun> {
    let mut runs = Vec::new();
    for (name, description, parameters, hours) in [
        ("llama-2-7b", "Llama 2 7B, 2 trillion tokens, on A100", 7e9, 184_320.0),
        ("llama-2-13b", "Llama 2 13B, 2 trillion tokens, on A100", 13e9, 368_640.0),
        ("llama-2-34b", "Llama 2 34B, 2 trillion tokens, on A100", 34e9, 1_038_336.0),
        ("llama-2-70b", "Llama 2 70B, 2 trillion tokens, on A100", 70e9, 1_720_320.0),
    ] {
        runs.push(PublishedRun {
            name,
            description,
            work: work(parameters, 2e12, 4e6),
            // No utilisation was published; 40 % explains all four within 15 %.
            cluster: cluster(2048.0, A100, 0.40, 400.0, 1.5),
            device_hours: Some(hours),
            source: "Touvron et al. 2023, arXiv 2307.09288, table 2 (the number of devices is an assumption)",
            ..nothing()
        });
    }
    runs
}

/// Llama 3 and 3.1.
fn llama_3() -> Vec<PublishedRun> {
    let mut runs = Vec::new();
    for (name, description, parameters, tokens, devices, operations, hours, source) in [
        (
            "llama-3-8b",
            "Llama 3 8B, 15 trillion tokens, on H100",
            8e9,
            15e12,
            2048.0,
            None,
            1.3e6,
            "model card of Meta Llama 3 (April 2024; the number of devices is an assumption)",
        ),
        (
            "llama-3-70b",
            "Llama 3 70B, 15 trillion tokens, on H100",
            70e9,
            15e12,
            8192.0,
            None,
            6.4e6,
            "model card of Meta Llama 3 (April 2024; the number of devices is an assumption)",
        ),
        (
            "llama-3.1-405b",
            "Llama 3.1 405B, 15.6 trillion tokens, on 16,384 H100",
            405e9,
            15.6e12,
            16_384.0,
            Some(3.8e25),
            30.84e6,
            "Dubey et al. 2024, arXiv 2407.21783, sections 1 and 3.3 (utilisation 38–43 %); hours: model card of Llama 3.1",
        ),
    ] {
        runs.push(PublishedRun {
            name,
            description,
            work: work(parameters, tokens, 16e6),
            cluster: cluster(devices, H100, 0.40, 700.0, 2.5),
            operations,
            device_hours: Some(hours),
            source,
            ..nothing()
        });
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> PublishedRun {
        published_runs().into_iter().find(|run| run.name == name).unwrap()
    }

    fn close(got: f64, published: f64, tolerance: f64) {
        assert!((got / published - 1.0).abs() < tolerance, "{got:e} against the published {published:e}");
    }

    #[test]
    fn operations_are_the_published_ones() {
        for name in ["gpt-3", "palm", "llama-3.1-405b"] {
            let run = run(name);
            close(run.cost().operations, run.operations.unwrap(), 0.005);
        }
    }

    #[test]
    fn gpt_3_takes_the_published_time_and_price() {
        let modern = run("gpt-3");
        close(modern.cost().seconds, modern.seconds.unwrap(), 0.02);
        let lambda = run("gpt-3-v100");
        close(lambda.cost().device_hours, lambda.device_hours.unwrap(), 0.01);
        close(lambda.cost().price, lambda.price.unwrap(), 0.02);
    }

    #[test]
    fn palm_computes_the_published_tokens_per_second() {
        let palm = run("palm");
        close(palm.cost().tokens_per_second, palm.tokens_per_second.unwrap(), 0.01);
        // The published hours have downtime and repeated steps: what they amount to is less.
        let implied = palm.implied_utilisation().unwrap();
        assert!(implied < palm.cluster.utilisation && implied > 0.25, "{implied}");
    }

    #[test]
    fn one_utilisation_explains_the_hours_of_llama_2() {
        for name in ["llama-2-7b", "llama-2-13b", "llama-2-34b", "llama-2-70b"] {
            let run = run(name);
            close(run.cost().device_hours, run.device_hours.unwrap(), 0.15);
        }
    }

    #[test]
    fn llama_3_took_more_hours_than_its_best_utilisation_says() {
        for (name, implied) in [("llama-3-8b", 0.156), ("llama-3-70b", 0.276), ("llama-3.1-405b", 0.345)] {
            let run = run(name);
            close(run.implied_utilisation().unwrap(), implied, 0.01);
            assert!(run.cost().device_hours < run.device_hours.unwrap());
        }
    }
}
