//! `zhenjin completions` and `zhenjin man`: what shells and `man` read, made from the command line's own description.

use crate::arguments::Arguments;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::Path;

pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Arguments::command(), "zhenjin", &mut std::io::stdout());
}

pub(crate) fn pages(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("writing manual pages into {}", folder.display()))
}
