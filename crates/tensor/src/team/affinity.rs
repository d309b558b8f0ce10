//! Which processors a thread may use at the moment (Linux; elsewhere the number of processors at the start counts).

/// The number by which the system knows the calling thread; 0 where it is not needed.
pub(super) fn own_thread() -> i32 {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: has no conditions.
    return unsafe { libc::gettid() };
    #[cfg(not(all(target_os = "linux", not(miri))))]
    0
}

/// How many processors the threads of these numbers may use together; `None` where the system does not tell.
/// Takes a fraction of a microsecond for each and allocates nothing.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn processors_of(threads: impl Iterator<Item = i32>) -> Option<usize> {
    const WORDS: usize = size_of::<libc::cpu_set_t>() / size_of::<u64>();
    let mut all = [0_u64; WORDS];
    for thread in threads {
        let mut set = [0_u64; WORDS];
        // SAFETY: as many writable bytes as are said; the system writes a bit for each processor.
        let status = unsafe { libc::sched_getaffinity(thread, size_of_val(&set), set.as_mut_ptr().cast()) };
        if status == 0 {
            all.iter_mut().zip(set).for_each(|(all, word)| *all |= word);
        }
    }
    let count: u32 = all.iter().map(|word| word.count_ones()).sum();
    Some(count as usize).filter(|count| *count > 0)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) fn processors_of(_threads: impl Iterator<Item = i32>) -> Option<usize> {
    None
}

#[cfg(target_os = "linux")]
fn empty() -> libc::cpu_set_t {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    unsafe { std::mem::zeroed() }
}

/// The processors that the calling thread may use.
#[cfg(target_os = "linux")]
pub(super) fn allowed() -> Vec<usize> {
    let mut set = empty();
    // SAFETY: `set` is a valid, writable cpu_set_t of the size given.
    let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if status != 0 {
        return Vec::new();
    }
    // SAFETY: the index stays below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Binds the calling thread to one processor; a refusal leaves it unbound, which is slower, never wrong.
#[cfg(target_os = "linux")]
pub(super) fn bind(processor: usize) {
    let mut set = empty();
    // SAFETY: `processor` came from `allowed`, so it is below the size of the set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: `set` is a valid cpu_set_t of the size given.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn bind(_processor: usize) {}
