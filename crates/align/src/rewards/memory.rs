//! The memory of a process and of all that it started: limits of processes count each for itself, and a limit of all together takes
//! control groups, which not everybody may make.

use std::collections::BTreeMap;
use std::fs;

/// Bytes in the memory of a process and of what it started, however far down. A page that several of them share is counted once where
/// the system says so, and for each of them where it does not. What has ended meanwhile has none, nor have processes on systems without
/// `/proc`.
pub(super) fn of_tree(root: u32, most: u64) -> u64 {
    let processes = tree(root);
    // The cheap sum, which counts shared pages repeatedly, is never less than the exact one.
    let at_most: u64 = processes.iter().map(|process| resident(*process)).sum();
    if at_most <= most {
        return at_most;
    }
    processes.iter().map(|process| proportional(*process).unwrap_or_else(|| resident(*process))).sum()
}

/// A process and what it started.
fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = parent(process) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        // Taken out, so that numbers that were given anew during the look make no circle.
        found.extend(children.remove(&process).unwrap_or_default());
        next += 1;
    }
    found
}

fn parent(process: u32) -> Option<u32> {
    let text = fs::read(format!("/proc/{process}/stat")).ok()?;
    parent_in(&String::from_utf8_lossy(&text))
}

/// The parent in the text of `/proc/…/stat`. The name before it may hold anything, parentheses and spaces too.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Bytes of pages that are in memory.
fn resident(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    kilobytes(&text, "VmRSS:").unwrap_or(0) * 1024
}

/// The same, of a page that several processes share a share.
fn proportional(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    Some(kilobytes(&text, "Pss:")? * 1024)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_the_system_writes() {
        assert_eq!(parent_in("12 (a) b (c)) S 345 12 12 0 -1"), Some(345));
        assert_eq!(parent_in("12 (sh"), None);
        let status = "Name:\tsh\nVmHWM:\t    900 kB\nVmRSS:\t    812 kB\nThreads:\t1\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(812));
        assert_eq!(kilobytes(status, "Pss:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_and_what_it_started_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = tree(std::process::id());
        let own = of_tree(std::process::id(), u64::MAX);
        // The exact sum, as the limit is passed.
        let exact = of_tree(std::process::id(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()) && found[0] == std::process::id(), "{found:?}");
        assert!(own > 0 && exact > 0, "{own} {exact}");
    }
}
