//! Time, energy and price of training on machines that are not here, from figures that somebody gives.

use crate::communication::MESSAGE_ELEMENTS;
use serde::Serialize;

/// Machines of one kind that train together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Number of devices (GPUs, or machines with CPUs).
    pub devices: f64,
    /// Floating-point operations per second that the maker states for one device.
    pub peak_flops: f64,
    /// Model operations that are really computed, as a fraction of the peak (MFU; PaLM, arXiv 2204.02311, appendix B).
    pub utilisation: f64,
    /// Watts of one device.
    pub watts: f64,
    /// Watts of the whole building for each watt of a device (cooling, hosts, network; PUE).
    pub overhead: f64,
    /// Price of a device for an hour, in any currency.
    pub price_per_device_hour: f64,
    /// How the devices exchange gradients; `None` where `utilisation` covers it.
    pub network: Option<Network>,
}

/// What connects the machines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Bytes per second that one machine sends (while it receives as many).
    pub bytes_per_second: f64,
    /// Seconds from sending the first byte to its arrival.
    pub latency: f64,
}

impl Network {
    /// Seconds in which `ranks` sum `bytes` of gradients and share the new weights, if nothing else happens meanwhile: reduce-scatter and all-gather by halving and doubling,
    /// `2·⌈log₂ P⌉` messages one after the other and `2·(P − 1)/P` of the bytes (Thakur, Rabenseifner and Gropp 2005, section 4).
    pub fn exchange_seconds(&self, ranks: f64, bytes: f64) -> f64 {
        let rounds = ranks.max(1.0).log2().ceil();
        2.0 * rounds * self.latency + 2.0 * (ranks - 1.0) / ranks * bytes / self.bytes_per_second
    }
}

/// Longer messages are announced, and sent when the receiver has answered: MPI's rendezvous, here with the limit of Open MPI over TCP.
const ANNOUNCED_BYTES: usize = 64 * 1024;

/// What the ranks exchange in a step, and what is computed meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct StepExchange {
    /// Elements of the gradients that are final at the same time, in that order: of layers, then of everything else.
    pub groups: Vec<usize>,
    /// Seconds from the first group's being final to each group's being so; what is computed after the last is nothing.
    pub ready: Vec<f64>,
}

/// What the exchange of a step costs one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepCost {
    /// Seconds in which nothing is computed.
    pub waited: f64,
    /// Seconds in which something is on the way.
    pub exchanged: f64,
    /// Bytes that a rank sends: on average `2·(P − 1)/P` of the gradients' bytes.
    pub bytes: f64,
}

impl Network {
    /// Seconds of the rounds of halving (or doubling) for so many elements, each half as long as the one before.
    fn rounds_seconds(&self, ranks: usize, elements: usize) -> f64 {
        let seconds = |bytes: usize| match bytes {
            0 => 0.0,
            // Sent at once, or announced, answered, and sent.
            bytes if bytes <= ANNOUNCED_BYTES => self.latency + bytes as f64 / self.bytes_per_second,
            bytes => 3.0 * self.latency + bytes as f64 / self.bytes_per_second,
        };
        let round = |round: u32| {
            let part = elements >> round;
            let whole = (part / MESSAGE_ELEMENTS) as f64 * seconds(4 * MESSAGE_ELEMENTS);
            whole + seconds(4 * (part % MESSAGE_ELEMENTS))
        };
        (1..=ranks.max(1).next_power_of_two().ilog2()).map(round).sum()
    }

    /// What the exchange of one step costs as [`crate::training`] does it, over a number of machines that is a power of two: each group of gradients goes to its owners as soon
    /// as it is final and the group before it is through; then norms and losses go round in one short message, and the updated weights go to all.
    pub fn step_cost(&self, ranks: usize, exchange: &StepExchange) -> StepCost {
        if ranks < 2 {
            return StepCost::default();
        }
        let (mut free, mut exchanged) = (0.0f64, 0.0);
        for (elements, ready) in exchange.groups.iter().zip(&exchange.ready) {
            let seconds = self.rounds_seconds(ranks, *elements);
            free = free.max(*ready) + seconds;
            exchanged += seconds;
        }
        let elements: usize = exchange.groups.iter().sum();
        let rounds = f64::from(ranks.next_power_of_two().ilog2());
        let behind = rounds * self.latency + self.rounds_seconds(ranks, elements);
        let share = (ranks - 1) as f64 / ranks as f64;
        StepCost {
            waited: free - exchange.ready.last().copied().unwrap_or(0.0) + behind,
            exchanged: exchanged + behind,
            bytes: 2.0 * share * 4.0 * elements as f64,
        }
    }
}

/// What is trained, as far as the price depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Parameters that compute for each token.
    pub parameters: f64,
    /// Tokens.
    pub tokens: f64,
    /// Tokens of one update; needed where a network is given.
    pub tokens_per_step: f64,
}

impl Work {
    /// Operations by the rule 6·N·D.
    pub fn operations(&self) -> f64 {
        6.0 * self.parameters * self.tokens
    }
}

/// What training costs on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClusterCost {
    /// Floating-point operations, 6·N·D.
    pub operations: f64,
    /// Seconds from begin to end.
    pub seconds: f64,
    /// Of these, seconds in which the machines wait for the network.
    pub network_seconds: f64,
    /// Hours of all devices together.
    pub device_hours: f64,
    /// Tokens per second of all devices together.
    pub tokens_per_second: f64,
    /// Kilowatt-hours.
    pub kilowatt_hours: f64,
    /// Price in the currency of the devices' price.
    pub price: f64,
}

impl Cluster {
    /// Time, energy and price of `work`. With a network, gradients are 4 bytes a parameter, and nothing of their exchange is hidden behind computing: an upper bound.
    pub fn cost(&self, work: &Work) -> ClusterCost {
        let operations = work.operations();
        let computing = operations / (self.devices * self.peak_flops * self.utilisation);
        let network_seconds = self.network.map_or(0.0, |network| {
            let steps = (work.tokens / work.tokens_per_step).ceil();
            steps * network.exchange_seconds(self.devices, 4.0 * work.parameters)
        });
        let seconds = computing + network_seconds;
        let device_hours = seconds * self.devices / 3600.0;
        ClusterCost {
            operations,
            seconds,
            network_seconds,
            device_hours,
            tokens_per_second: work.tokens / seconds,
            kilowatt_hours: device_hours * self.watts * self.overhead / 1000.0,
            price: device_hours * self.price_per_device_hour,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_over_a_slow_link_takes_what_arithmetic_says() {
        // 1 Gbit/s, 10 ms, 10 million parameters, 2 machines: 2 messages of 10 ms, and 2·½·40 MB at 125 MB/s.
        let network = Network { bytes_per_second: 125e6, latency: 0.01 };
        assert!((network.exchange_seconds(2.0, 40e6) - 0.34).abs() < 1e-12);
        assert!((network.exchange_seconds(1.0, 40e6)).abs() < 1e-12);
        let cluster = Cluster {
            devices: 2.0,
            peak_flops: 350e9,
            utilisation: 0.5,
            watts: 20.0,
            overhead: 1.0,
            price_per_device_hour: 0.1,
            network: Some(network),
        };
        let work = Work { parameters: 10e6, tokens: 35_000_000.0, tokens_per_step: 35_000.0 };
        let cost = cluster.cost(&work);
        // 2.1e15 operations at 350 GFLOP/s: 6,000 s; 1,000 steps of 0.34 s.
        assert!((cost.seconds - 6_340.0).abs() < 1e-6, "{cost:?}");
        assert!((cost.kilowatt_hours - 6_340.0 * 2.0 * 20.0 / 3.6e6).abs() < 1e-9);
    }

    #[test]
    fn groups_are_on_their_way_while_others_are_computed() {
        let network = Network { bytes_per_second: 125e6, latency: 0.01 };
        // 4 MB each; one is final at once, one after 0.1 s, one after 0.5 s. Halves take 3 latencies and 16 ms.
        let (half, elements) = (0.03 + 2e6 / 125e6, 1_000_000);
        let exchange = StepExchange { groups: vec![elements; 3], ready: vec![0.0, 0.01, 0.5] };
        let cost = network.step_cost(2, &exchange);
        // Two are through before the third is final; norms take a latency, weights three and 48 ms.
        let behind = 0.01 + 0.03 + 6e6 / 125e6;
        assert!((cost.waited - (half + behind)).abs() < 1e-12, "{cost:?}");
        assert!((cost.exchanged - (3.0 * half + behind)).abs() < 1e-12, "{cost:?}");
        assert!((cost.bytes - 12e6).abs() < 1e-6);
        // Without overlap, all three wait.
        let behind_all = StepExchange { ready: vec![0.0; 3], ..exchange.clone() };
        assert!((network.step_cost(2, &behind_all).waited - (3.0 * half + behind)).abs() < 1e-12);
        // Four machines: a half and a quarter of each.
        let four = network.step_cost(4, &behind_all);
        let rounds = 0.06 + 3e6 / 125e6;
        assert!((four.waited - (3.0 * rounds + 0.02 + 0.06 + 9e6 / 125e6)).abs() < 1e-12, "{four:?}");
        assert_eq!(network.step_cost(1, &exchange), StepCost::default());
        // Short messages are not announced.
        let short = StepExchange { groups: vec![100], ready: vec![0.0] };
        assert!((network.step_cost(2, &short).waited - 0.03 - 400.0 / 125e6).abs() < 1e-12);
    }
}
