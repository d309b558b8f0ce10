//! A stack for recursion whose depth a schema decides.

use std::cell::Cell;
use std::io;
use std::thread;

/// The libraries go down into schemas by recursion: up to 15 KB for each level of a schema, and a level for each of an object's
/// properties. Only what is used of it becomes memory.
pub(super) const STACK_BYTES: usize = 128 << 20;

thread_local! {
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread with such a stack; right here if this is one.
///
/// # Errors
/// If the system gives no thread; `work` has not been run then.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if IS_DEEP.get() {
        return Ok(work());
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("schema".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, move || {
            IS_DEEP.set(true);
            work()
        })?;
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Why nothing was done.
pub(crate) fn without_thread(error: &io::Error) -> String {
    format!("the system gives no thread to work on schemas: {error}")
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// A kilobyte of stack for each level.
    fn descend(levels: usize) -> usize {
        let block = black_box([1u8; 1024]);
        if levels == 0 { 0 } else { descend(levels - 1) + usize::from(block[levels % block.len()]) }
    }

    /// Regression: long lists of properties and chains of references went deeper than a thread of the server has stack for.
    #[test]
    fn recursion_of_many_levels_has_the_stack_that_it_needs() {
        let depth = with_deep_stack(|| with_deep_stack(|| descend(20_000)).expect("it is one already"));
        assert_eq!(depth.expect("a thread"), 20_000);
    }

    #[test]
    #[should_panic(expected = "inside")]
    fn a_panic_comes_through() {
        let _ = with_deep_stack::<()>(|| panic!("inside"));
    }
}
