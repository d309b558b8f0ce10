//! Failed logins, counted by where they come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Extensions;

use crate::errors::ApiError;

/// Failed logins that one address may have in one [`WINDOW`].
const FAILURES: u32 = 10;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered; further ones share one count.
const ADDRESSES: usize = 4096;

/// Where a request comes from, as the socket says; put into every request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    /// Where this request comes from; `None` for one that came by no socket, as in tests.
    pub(crate) fn of(extensions: &Extensions) -> Option<Peer> {
        extensions.get().copied()
    }
}

/// The failed logins of the last minute.
#[derive(Default)]
pub(crate) struct LoginThrottle {
    failures: Mutex<BTreeMap<IpAddr, Failures>>,
}

struct Failures {
    count: u32,
    since: Instant,
}

impl LoginThrottle {
    /// Refuses an address that has failed too often.
    ///
    /// # Errors
    /// 429, with the time after which its failures are forgotten.
    pub(crate) fn check(&self, peer: Option<Peer>, now: Instant) -> Result<(), ApiError> {
        let mut failures = self.lock();
        let place = place(&mut failures, peer, now);
        match failures.get(&place) {
            Some(failed) if failed.count >= FAILURES => Err(ApiError::too_many_requests(
                "too many failed logins from your address; wait a little",
                WINDOW.saturating_sub(now.duration_since(failed.since)),
            )
            .with_code("too_many_logins")),
            _ => Ok(()),
        }
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, peer: Option<Peer>, now: Instant) {
        let mut failures = self.lock();
        let place = place(&mut failures, peer, now);
        failures.entry(place).or_insert(Failures { count: 0, since: now }).count += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a peer's failures are counted, after old ones are forgotten: one IPv6 host has 2^64 addresses, so its network counts.
fn place(failures: &mut BTreeMap<IpAddr, Failures>, peer: Option<Peer>, now: Instant) -> IpAddr {
    failures.retain(|_, failed| now.duration_since(failed.since) < WINDOW);
    let place = match peer.map(|Peer(address)| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    if failures.len() < ADDRESSES || failures.contains_key(&place) {
        place
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<Peer> {
        Some(Peer(address.parse().expect("an address")))
    }

    #[test]
    fn ten_failures_a_minute_and_no_more_from_one_place() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        for _ in 0..FAILURES {
            throttle.check(peer("192.0.2.1"), start).expect("not yet");
            throttle.failed(peer("192.0.2.1"), start);
        }
        assert_eq!(throttle.check(peer("192.0.2.1"), start).expect_err("throttled").status(), 429);
        assert!(throttle.check(peer("::ffff:192.0.2.1"), start).is_err(), "the same address in IPv6's words");
        throttle.check(peer("192.0.2.2"), start).expect("another place");
        throttle.check(peer("192.0.2.1"), start + WINDOW).expect("forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_memory_is_bounded() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        for number in 0..FAILURES {
            throttle.failed(peer(&format!("2001:db8::{number}")), start);
        }
        assert!(throttle.check(peer("2001:db8::ffff"), start).is_err());
        for number in 0..2 * ADDRESSES as u32 {
            throttle.failed(Some(Peer(IpAddr::from(number.to_be_bytes()))), start);
        }
        assert!(throttle.lock().len() <= ADDRESSES + 1);
    }
}
