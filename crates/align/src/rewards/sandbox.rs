//! A place for programs that nobody trusts: namespaces without rights, in which there is no network, no other process and none of the
//! user's files (Linux; `unshare`, `mount`, `pivot_root`, `setpriv` and `prlimit` of util-linux).
//!
//! The system does not limit the number of root's processes. Where we are root, each program is therefore a user of its own, whom nothing
//! belongs to and whose processes are counted alone.

use std::fs::File;
use std::io::Read;
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
/// Numbers of users from here to [`LAST_USER`] are in no use: they lie behind those that systems give to people, services and containers.
const FIRST_USER: u32 = 0x7000_0000;
const LAST_USER: u32 = 0x7fff_ffff;

/// How programs are run.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    /// Folders that a program can read.
    readable: Vec<PathBuf>,
    user: User,
}

/// Who a program is, to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Who we are, in a namespace of users.
    Ours,
    /// One of its own, for which one must be root.
    Fresh,
}

impl Sandbox {
    /// A sandbox in which `python` runs.
    ///
    /// # Errors
    /// What this system lacks.
    pub(super) fn for_python(python: &Path) -> Result<Sandbox, String> {
        static WORKS: OnceLock<Result<User, String>> = OnceLock::new();
        let mut readable: Vec<PathBuf> = SYSTEM.into_iter().map(PathBuf::from).collect();
        let user = WORKS.get_or_init(|| who_works(&readable)).clone()?;
        let mut command = Command::new(python);
        command.args(["-I", "-c", PLACES]).env_clear().env("PATH", SEARCH_PATH).stdin(Stdio::null());
        // A Python that does not start says so when a program is run.
        let said = command.output().map(|output| output.stdout).unwrap_or_default();
        for place in String::from_utf8_lossy(&said).lines().map(PathBuf::from) {
            if place.is_absolute() && !readable.iter().any(|other| place.starts_with(other)) {
                readable.push(place);
            }
        }
        let sandbox = Sandbox { readable, user };
        match said.is_empty() {
            true => Ok(sandbox),
            false => sandbox.try_out_python(python).map(|()| sandbox),
        }
    }

    /// A Python that runs outside may lie where programs cannot reach it.
    fn try_out_python(&self, python: &Path) -> Result<(), String> {
        let python_alone = |command: &mut Command| {
            command.arg(python).args(["-I", "-c", ""]);
        };
        let output = output_of(&self.readable, self.user, python_alone).map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{} runs, but not where programs that a model wrote run ({}): they see /usr and the folders in which Python says that it lies \
                 (sys.prefix), as a user of their own. Name a Python that lies there and that all users may read",
                python.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// A command to which the program's is added. It works in an empty folder in memory; `work` is an empty folder outside, in which that
    /// memory is mounted.
    ///
    /// # Errors
    /// If /dev/urandom cannot be read.
    pub(super) fn command(&self, work: &Path) -> std::io::Result<Command> {
        command(&self.readable, self.user, work)
    }
}

fn command(readable: &[PathBuf], user: User, work: &Path) -> std::io::Result<Command> {
    let mut command = Command::new("unshare");
    let number = match user {
        User::Ours => {
            command.args(["--user", "--map-root-user"]);
            "-".to_owned()
        }
        User::Fresh => fresh_user()?.to_string(),
    };
    command.args(["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child"]);
    command.args(["--", "sh", "-c", SCRIPT, "sandbox", number.as_str()]).arg(work).args(readable).arg("--");
    command.env_clear().env("PATH", SEARCH_PATH).stdin(Stdio::null());
    Ok(command)
}

/// The number of a user that hardly any other program has at the same time: those of one number would share its limit.
fn fresh_user() -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(FIRST_USER + u32::from_le_bytes(bytes) % (LAST_USER - FIRST_USER + 1))
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Who programs can be, so that all their limits bind.
fn who_works(readable: &[PathBuf]) -> Result<User, String> {
    if !is_root() {
        return try_out(readable, User::Ours).map(|()| User::Ours);
    }
    let Err(as_another) = try_out(readable, User::Fresh) else { return Ok(User::Fresh) };
    // In a container, root may be somebody else outside, whose processes are counted.
    match try_out(readable, User::Ours) {
        Ok(()) => Ok(User::Ours),
        Err(as_root) => Err(format!(
            "{as_root}; nor can they be another user than root: {as_another}. Run this as a user other than root, or, in a container, \
             with the capabilities SYS_ADMIN, SETUID, SETGID and SETPCAP"
        )),
    }
}

/// What a program in the sandbox says, which `add` adds to the command.
fn output_of(
    readable: &[PathBuf],
    user: User,
    add: impl FnOnce(&mut Command),
) -> std::io::Result<std::process::Output> {
    let work = tempfile::tempdir()?;
    let mut command = command(readable, user, work.path())?;
    add(&mut command);
    command.output().map_err(|error| std::io::Error::new(error.kind(), format!("unshare: {error}")))
}

fn try_out(readable: &[PathBuf], user: User) -> Result<(), String> {
    let lacks = |what: &str| {
        format!(
            "programs that a model wrote cannot be kept from your files on this system ({}): that takes Linux with `unshare`, `mount`, \
             `pivot_root`, `setpriv` and `prlimit` (util-linux) and namespaces without rights (sysctl kernel.unprivileged_userns_clone=1 \
             and kernel.apparmor_restrict_unprivileged_userns=0, where there are such)",
            what.trim()
        )
    };
    let run = |program: &[&str]| {
        let limited = |command: &mut Command| {
            command.args(["prlimit", "-u1:1"]).args(program);
        };
        output_of(readable, user, limited).map_err(|error| lacks(&error.to_string()))
    };
    let output = run(&["true"])?;
    if !output.status.success() {
        return Err(lacks(&String::from_utf8_lossy(&output.stderr)));
    }
    // One process is all that it may have, so that it can start no other.
    match run(&["unshare", "--fork", "true"])?.status.success() {
        true => Err(format!(
            "programs that a model wrote could start as many processes as they like on this system, since it does not limit {}",
            if is_root() { "those of root" } else { "the processes of a user (RLIMIT_NPROC has no effect)" }
        )),
        false => Ok(()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Root's processes are not limited, and programs were root.
    #[test]
    fn programs_cannot_start_more_processes_than_their_limit() {
        let sandbox = Sandbox::for_python(Path::new("python3")).unwrap();
        for (limit, expected) in [("1:1", false), ("64:64", true)] {
            let work = tempfile::tempdir().unwrap();
            let mut command = sandbox.command(work.path()).unwrap();
            command.arg("prlimit").arg(format!("-u{limit}")).args(["unshare", "--fork", "true"]);
            assert_eq!(command.output().unwrap().status.success(), expected, "{limit}");
        }
        assert_eq!(try_out(&sandbox.readable, sandbox.user), Ok(()));
    }

    /// Every answer had a fault then, and the run ended for want of rewards.
    #[test]
    fn a_python_that_does_not_run_where_programs_run_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python");
        // It is not where Python says that it lies.
        std::fs::write(&python, "#!/bin/sh\nexec python3 \"$@\"\n").unwrap();
        std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = Sandbox::for_python(&python).unwrap_err();
        assert!(error.contains(&python.display().to_string()) && error.contains("sys.prefix"), "{error}");
    }

    #[test]
    fn every_program_is_another_user() {
        let users: Vec<u32> = (0..8).map(|_| fresh_user().unwrap()).collect();
        assert!(users.iter().all(|user| (FIRST_USER..=LAST_USER).contains(user)), "{users:?}");
        assert!(users.iter().any(|user| *user != users[0]), "{users:?}");
    }
}
