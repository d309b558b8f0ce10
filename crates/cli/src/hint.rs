//! What to type after a library's error: libraries speak of limits and options, and here are the flags
//! and commands that set them.

use std::io::ErrorKind;
use zhenjin_align::AlignError;
use zhenjin_align::data::{BadKind, DataError};
use zhenjin_align::plan::PlanRefusal;
use zhenjin_assistant::AssistantError;
use zhenjin_corpus::CorpusError;
use zhenjin_hub::ModelStoreError;
use zhenjin_server::{OptionsError, ServeError};

/// What to type, where an error's own text cannot say it.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let assistant = cause.downcast_ref().and_then(of_assistant);
        let hub = cause.downcast_ref().and_then(of_hub);
        let server = cause.downcast_ref().and_then(of_server);
        let corpus = cause.downcast_ref().and_then(of_corpus);
        let data = cause.downcast_ref().and_then(of_data);
        let plan = cause.downcast_ref().map(of_plan);
        let disk = cause.downcast_ref().and_then(of_disk);
        let step = cause.downcast_ref().and_then(of_step);
        assistant.or(hub).or(server).or(corpus).or(data).or(plan).or(disk).or(step)
    })
}

fn of_assistant(error: &AssistantError) -> Option<String> {
    match error {
        AssistantError::OutOfMemory { .. } => Some(
            "`--memory SIZE` allows models more memory, `--context TOKENS` asks for a shorter context"
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_hub(error: &ModelStoreError) -> Option<String> {
    match error {
        ModelStoreError::NotInstalled { name } => Some(format!("`zhenjin pull {name}` fetches it")),
        _ => None,
    }
}

fn of_corpus(error: &CorpusError) -> Option<String> {
    match error {
        CorpusError::Occupied { .. } => {
            Some("`--replace` allows it, `--out DIR` names another folder".to_owned())
        }
        _ => None,
    }
}

fn of_data(error: &DataError) -> Option<String> {
    let hint = match error {
        DataError::Bad(bad) if bad.kind == BadKind::NotWritable => {
            "`--bad drop` leaves such records out and counts them; `--thinking off` is for models that need not think"
        }
        DataError::Bad(_) => {
            "`--bad drop` leaves such records out and counts them; `zhenjin data check FILE` counts all kinds of them"
        }
        DataError::Mixed { .. } | DataError::Unrecognised { .. } => {
            "`--bad drop` leaves records of other forms out and counts them; `zhenjin data check FILE` says what a file holds"
        }
        DataError::TooLong { can_split: true, .. } => {
            "`--overlong drop` leaves such examples out, `--overlong split` divides them at their turns, `--context TOKENS` allows more"
        }
        DataError::TooLong { .. } => {
            "`--overlong drop` leaves such examples out, `--context TOKENS` allows more"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_plan(refusal: &PlanRefusal) -> String {
    let hint = match refusal {
        PlanRefusal::Memory { .. } => {
            "`--recompute` computes layers again, `--set SECTION.KEY=VALUE` lowers a setting, `--memory SIZE` says that there is more memory"
        }
        PlanRefusal::Disk { .. } => {
            "`--set intervals.keep=1` keeps one checkpoint beside the best, `--out FOLDER` chooses a folder"
        }
    };
    hint.to_owned()
}

fn of_step(error: &AlignError) -> Option<String> {
    match error {
        AlignError::NonFinite { kept: Some(path), .. } => Some(format!(
            "the same command with `--replay {}` computes the step again with the weights of the checkpoint before it, or with those of `--resume`",
            path.display()
        )),
        error if error.is_of_other_data_alone() => Some(
            "`--held-out-share`, `--learn` and `--thinking` make other data of the same files".to_owned(),
        ),
        _ => None,
    }
}

fn of_disk(error: &std::io::Error) -> Option<String> {
    let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    is_full.then(|| {
        "make room on the disk; a training run then goes on from its newest whole checkpoint with `--resume auto`".to_owned()
    })
}

fn of_server(error: &ServeError) -> Option<String> {
    let hint = match error {
        ServeError::Bind { .. } => "`--addr HOST:PORT` chooses another address",
        ServeError::Options(OptionsError::NoKey { .. }) => {
            "`zhenjin key new NAME` makes a key, and shows it once"
        }
        ServeError::Options(OptionsError::Origin { .. }) => "`--cors-origin` takes it in that form",
        ServeError::Options(OptionsError::Host { .. }) => "`--allowed-host` takes it in that form",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    fn hint_of(error: impl std::error::Error + Send + Sync + 'static) -> String {
        let error = Err::<(), _>(error).context("serving").expect_err("an error");
        hint(&error).unwrap_or_default()
    }

    #[test]
    fn errors_that_a_flag_mends_name_it() {
        let memory = AssistantError::OutOfMemory { name: "a".to_owned(), needed_bytes: 2, limit_bytes: 1 };
        assert!(hint_of(memory).contains("--memory"));
        let missing = ModelStoreError::NotInstalled { name: "smollm2:135m".to_owned() };
        assert!(hint_of(missing).contains("zhenjin pull smollm2:135m"));
        let occupied = CorpusError::Occupied { path: "shards".into(), holds: "shards".to_owned() };
        assert!(hint_of(occupied).contains("--replace"));
        let address = ([0, 0, 0, 0], 8080).into();
        let taken = ServeError::Bind { address, source: std::io::ErrorKind::AddrInUse.into() };
        assert!(hint_of(taken).contains("--addr"));
        assert!(hint_of(ServeError::from(OptionsError::NoKey { address })).contains("zhenjin key new"));
        let origin = OptionsError::Origin { origin: "x".to_owned() };
        assert!(hint_of(ServeError::from(origin)).contains("--cors-origin"));
        let host = OptionsError::Host { host: "x/".to_owned() };
        assert!(hint_of(ServeError::from(host)).contains("--allowed-host"));
    }

    #[test]
    fn a_full_disk_says_how_a_run_goes_on() {
        assert!(hint_of(std::io::Error::from(ErrorKind::StorageFull)).contains("--resume auto"));
        let refused = PlanRefusal::Disk { needed: 2, available: 1 };
        assert!(hint_of(refused).contains("intervals.keep"));
    }

    /// Regression: nothing said that options alone can make other data of the same files.
    #[test]
    fn other_data_of_the_same_model_name_the_options_that_make_them() {
        let of = |ours: &str| AlignError::OtherData {
            checkpoint: "step-1".into(),
            ours: ours.to_owned(),
            theirs: "data 1, model a".to_owned(),
        };
        assert!(hint_of(of("data 2, model a")).contains("--held-out-share"));
        assert_eq!(hint_of(of("data 1, model b")), "");
    }

    #[test]
    fn other_errors_have_none() {
        assert_eq!(hint(&anyhow!("something else")), None);
    }
}
