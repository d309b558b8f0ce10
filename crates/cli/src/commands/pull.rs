//! `zhenjin pull`: fetches models, and shows each source and the progress. Ctrl-C keeps what has been downloaded for the next try.

use crate::arguments::PullArguments;
use crate::home::Home;
use crate::machine;
use crate::memory_size::MemorySize;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zhenjin_hub::{ModelStore, PullEvent, PullObserver};

pub(crate) async fn run(home: &Home, arguments: PullArguments) -> Result<()> {
    let cancelled = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let cancelled = Arc::clone(&cancelled);
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                cancelled.store(true, Ordering::Relaxed);
            }
        }
    });
    let store = ModelStore::new(home.models());
    tokio::task::spawn_blocking(move || {
        let options = machine::pull_options();
        for name in &arguments.models {
            let terminal = TerminalObserver::new(name, Arc::clone(&cancelled));
            let model = zhenjin_hub::pull(&store, name, &terminal, &options);
            terminal.bar.finish_and_clear();
            let model = model?;
            eprintln!("{name}: here, {}, at {}", MemorySize(model.bytes), model.path.display());
        }
        Ok(())
    })
    .await?
}

struct TerminalObserver {
    name: String,
    bar: ProgressBar,
    cancelled: Arc<AtomicBool>,
}

impl TerminalObserver {
    fn new(name: &str, cancelled: Arc<AtomicBool>) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(name.to_owned());
        Self { name: name.to_owned(), bar, cancelled }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{}: {text}", self.name));
    }
}

impl PullObserver for TerminalObserver {
    fn on_event(&self, event: PullEvent<'_>) {
        match event {
            PullEvent::SourceTried { source } => self.say(&format!("trying {source}")),
            PullEvent::SourceFailed { source, reason } => self.say(&format!("{source} failed: {reason}")),
            PullEvent::FileStarted { file, bytes, resumed_at } => {
                let size =
                    bytes.map_or_else(|| "size unknown".to_owned(), |bytes| MemorySize(bytes).to_string());
                match resumed_at {
                    0 => self.say(&format!("{file}, {size}")),
                    _ => self.say(&format!("{file}, {size}, going on from {}", MemorySize(resumed_at))),
                }
            }
            PullEvent::Progress { done_bytes, total_bytes } => {
                if let Some(total) = total_bytes {
                    self.bar.set_length(total);
                }
                self.bar.set_position(done_bytes);
            }
            PullEvent::Waiting { milliseconds, reason } => {
                let wait = Duration::from_millis(milliseconds);
                self.say(&format!("waiting {:.1} s: {reason}", wait.as_secs_f64()));
            }
            PullEvent::FileVerified { file, sha256, digest_was_known } => {
                let how = if digest_was_known {
                    "as expected"
                } else {
                    "UNVERIFIED: the source gives no digest; recorded now"
                };
                self.say(&format!("{file} complete, sha256 {sha256} ({how})"));
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
