//! A place for programs that nobody trusts: namespaces without rights, in which there is no network, no other process and none of the
//! user's files (Linux; `unshare`, `mount`, `pivot_root` and `setpriv` of util-linux).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Makes the file system and runs the program in it.
const SCRIPT: &str = include_str!("sandbox.sh");
/// Where programs and their libraries lie.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/nix/store"];
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a Python without its environment says of where it lies.
const PLACES: &str = "import sys; print(sys.prefix, sys.base_prefix, sys.exec_prefix, sep='\\n')";

/// How programs are run.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    /// Folders that a program can read.
    readable: Vec<PathBuf>,
}

impl Sandbox {
    /// A sandbox in which `python` runs.
    ///
    /// # Errors
    /// What this system lacks.
    pub(super) fn for_python(python: &Path) -> Result<Sandbox, String> {
        static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
        let mut readable: Vec<PathBuf> = SYSTEM.into_iter().map(PathBuf::from).collect();
        WORKS.get_or_init(|| try_out(&readable)).clone()?;
        let mut command = Command::new(python);
        command.args(["-I", "-c", PLACES]).env_clear().env("PATH", SEARCH_PATH).stdin(Stdio::null());
        // A Python that does not start says so when a program is run.
        let said = command.output().map(|output| output.stdout).unwrap_or_default();
        for place in String::from_utf8_lossy(&said).lines().map(PathBuf::from) {
            if place.is_absolute() && !readable.iter().any(|other| place.starts_with(other)) {
                readable.push(place);
            }
        }
        Ok(Sandbox { readable })
    }

    /// A command to which the program's is added. It works in an empty folder in memory; `work` is an empty folder outside, in which that
    /// memory is mounted.
    pub(super) fn command(&self, work: &Path) -> Command {
        command(&self.readable, work)
    }
}

fn command(readable: &[PathBuf], work: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "--net",
        "--pid",
        "--ipc",
        "--fork",
        "--kill-child",
    ]);
    command.args(["--", "sh", "-c", SCRIPT, "sandbox"]).arg(work).args(readable).arg("--");
    command.env_clear().env("PATH", SEARCH_PATH).stdin(Stdio::null());
    command
}

fn try_out(readable: &[PathBuf]) -> Result<(), String> {
    let lacks = |what: &str| {
        format!(
            "programs that a model wrote cannot be kept from your files on this system ({}): that takes Linux with `unshare`, `mount`, \
             `pivot_root` and `setpriv` (util-linux) and namespaces without rights (sysctl kernel.unprivileged_userns_clone=1 and \
             kernel.apparmor_restrict_unprivileged_userns=0, where there are such)",
            what.trim()
        )
    };
    let work = tempfile::tempdir().map_err(|error| lacks(&error.to_string()))?;
    let output = command(readable, work.path()).arg("true").output();
    let output = output.map_err(|error| lacks(&format!("unshare: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(lacks(&String::from_utf8_lossy(&output.stderr))),
    }
}
