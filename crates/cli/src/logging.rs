//! Log lines go to standard error, so that standard output holds results only.

use crate::arguments::LogFormat;
use anyhow::{Context, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging at `filter`; without one a server logs at `info` and other commands at `warn`.
pub(crate) fn start(filter: Option<&str>, format: LogFormat, is_server: bool) -> Result<()> {
    let filter = filter.unwrap_or(if is_server { "info" } else { "warn" });
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("--log `{filter}` is not a log filter"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
