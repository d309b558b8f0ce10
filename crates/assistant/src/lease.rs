//! Who uses a model or an adapter. A user holds a lease, and a count of leases says whether there are users: references are held for
//! other reasons too (a list of what is served, a load that tells its result), and for a moment longer than the use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The leases of one model or adapter.
#[derive(Debug, Default)]
pub(crate) struct Leases(Arc<AtomicUsize>);

/// A use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<AtomicUsize>);

impl Leases {
    /// Begins a use.
    pub(crate) fn lease(&self) -> Lease {
        self.0.fetch_add(1, Ordering::AcqRel);
        Lease(Arc::clone(&self.0))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Clone for Lease {
    fn clone(&self) -> Lease {
        self.0.fetch_add(1, Ordering::AcqRel);
        Lease(Arc::clone(&self.0))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_until_the_last_one_ends() {
        let leases = Leases::default();
        assert_eq!(leases.count(), 0);
        let first = leases.lease();
        let second = first.clone();
        assert_eq!(leases.count(), 2);
        drop(first);
        assert_eq!(leases.count(), 1);
        drop(second);
        assert_eq!(leases.count(), 0);
    }
}
