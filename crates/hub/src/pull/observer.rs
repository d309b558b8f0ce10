//! What a pull tells its caller while it works, and how the caller stops it.

/// Receives news of a pull. Called from the pulling thread, several times a second.
pub trait PullObserver: Sync {
    /// Something happened.
    fn on_event(&self, event: PullEvent<'_>);
    /// Whether to stop; asked at least every tenth of a second while data flows or the pull waits.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// News of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullEvent<'a> {
    /// A source is tried now.
    SourceTried {
        /// Its description, for people.
        source: &'a str,
    },
    /// A source failed; the next one follows, if there is one.
    SourceFailed {
        /// Its description.
        source: &'a str,
        /// Why, and what may help.
        reason: &'a str,
    },
    /// A file begins.
    FileStarted {
        /// Its name.
        file: &'a str,
        /// Its size, when it is known.
        bytes: Option<u64>,
        /// Bytes that an earlier pull left and that need not be downloaded again.
        resumed_at: u64,
    },
    /// Data arrived.
    Progress {
        /// Bytes of the whole model so far.
        done_bytes: u64,
        /// Size of the whole model, when it is known.
        total_bytes: Option<u64>,
    },
    /// The source asked to wait, or the connection broke.
    Waiting {
        /// How long, in milliseconds.
        milliseconds: u64,
        /// Why.
        reason: &'a str,
    },
    /// A file is complete, and has the right digest if the source or the catalogue gave one.
    FileVerified {
        /// Its name.
        file: &'a str,
        /// SHA-256 in hexadecimal.
        sha256: &'a str,
        /// Whether a digest was known beforehand; otherwise the file is unverified, and its digest recorded now.
        digest_was_known: bool,
    },
}

/// An observer that keeps everything to itself and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentObserver;

impl PullObserver for SilentObserver {
    fn on_event(&self, _event: PullEvent<'_>) {}
}

/// Adds up the bytes of a model's files.
pub(crate) struct DownloadProgress<'a> {
    observer: &'a dyn PullObserver,
    /// Bytes of the files before the present one.
    finished: u64,
    /// Bytes of the present file.
    current: u64,
    total: Option<u64>,
    reported: u64,
}

/// Reports at most once for so many bytes.
const REPORT_STEP: u64 = 256 * 1024;

impl<'a> DownloadProgress<'a> {
    pub(crate) fn new(observer: &'a dyn PullObserver, total: Option<u64>) -> DownloadProgress<'a> {
        DownloadProgress { observer, finished: 0, current: 0, total, reported: 0 }
    }

    /// The present file has so many bytes now.
    pub(crate) fn set_current(&mut self, bytes: u64) {
        self.current = bytes;
        let done = self.finished + self.current;
        if done.abs_diff(self.reported) >= REPORT_STEP {
            self.report(done);
        }
    }

    /// The present file is complete.
    pub(crate) fn finish_file(&mut self, bytes: u64) {
        self.finished += bytes;
        self.current = 0;
        self.report(self.finished);
    }

    fn report(&mut self, done: u64) {
        self.reported = done;
        self.observer.on_event(PullEvent::Progress { done_bytes: done, total_bytes: self.total });
    }
}
