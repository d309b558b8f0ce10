//! What all commands that train have in common: a run's folder, the dashboard, signals.

mod dashboard;
mod run_folder;
mod signals;

use super::cost::PriceArguments;
use anyhow::Result;
pub(crate) use dashboard::Dashboard;
pub(crate) use run_folder::{RunFolder, companions};
pub(crate) use signals::{Interrupted, listen, was_asked};
use zhenjin_train::metrics::{Observer, PlainLines};

/// Steps that are told as plain lines in a run.
const LINES: u64 = 200;

/// The dashboard, or lines where there is no terminal or `plain` asks for them.
pub(crate) fn display(
    folder: &RunFolder,
    steps: u64,
    plain: bool,
    prices: &PriceArguments,
    threads: usize,
) -> Result<Box<dyn Observer>> {
    if plain || !Dashboard::is_possible() {
        return Ok(Box::new(PlainLines::new(std::io::stderr(), steps, (steps / LINES).max(1))));
    }
    let name = folder.path().display().to_string();
    Ok(Box::new(Dashboard::open(name, steps, prices.prices(threads))?))
}
