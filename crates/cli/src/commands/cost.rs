//! What energy and time cost: options that several commands have.

use clap::Args;
use zhenjin_train::plan::Prices;

/// What a thread of a server's processor draws under load, where nobody says.
const ASSUMED_WATTS_PER_THREAD: f64 = 10.0;

#[derive(Debug, Clone, Args)]
pub(crate) struct PriceArguments {
    /// Watts of one machine under load [default: its counters where they can be read, else 10 for each thread, an assumption]
    #[arg(long, value_name = "WATTS", value_parser = positive)]
    pub(crate) watts: Option<f64>,
    /// Price of a kilowatt-hour
    #[arg(long, value_name = "PRICE", default_value_t = 0.3, value_parser = positive)]
    pub(crate) price_per_kwh: f64,
    /// Price of a machine for an hour, beside its energy
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = positive)]
    pub(crate) price_per_hour: f64,
    /// The prices' currency
    #[arg(long, value_name = "NAME", default_value = "EUR")]
    pub(crate) currency: String,
}

impl PriceArguments {
    pub(crate) fn prices(&self, threads: usize) -> Prices {
        Prices {
            watts: self.watts.unwrap_or(ASSUMED_WATTS_PER_THREAD * threads as f64),
            watts_known: self.watts.is_some(),
            per_kilowatt_hour: self.price_per_kwh,
            per_hour: self.price_per_hour,
            currency: self.currency.clone(),
        }
    }
}

/// A number that is not negative.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!("`{text}` is not a number of at least 0")),
    }
}

/// A quantity with a unit prefix: `175B`, `312T`, `3.2M`, `3e11`.
pub(crate) fn quantity(text: &str) -> Result<f64, String> {
    const PREFIXES: [(char, f64); 6] =
        [('k', 1e3), ('M', 1e6), ('G', 1e9), ('B', 1e9), ('T', 1e12), ('P', 1e15)];
    let trimmed = text.trim();
    let (number, factor) = PREFIXES
        .iter()
        .find_map(|(prefix, factor)| Some((trimmed.strip_suffix(*prefix)?, *factor)))
        .unwrap_or((trimmed, 1.0));
    match number.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value * factor),
        _ => Err(format!("`{text}` is not a quantity; write it like 175B, 312T, 3.2M or 3e11")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_prefixes() {
        assert_eq!(quantity("175B"), Ok(175e9));
        assert_eq!(quantity(" 3.2 M "), Ok(3.2e6));
        assert_eq!(quantity("3e11"), Ok(3e11));
        for wrong in ["", "0", "-1", "12X", "NaN", "inf", "B"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
        assert!(positive("-0.1").is_err() && positive("0.25") == Ok(0.25));
    }
}
