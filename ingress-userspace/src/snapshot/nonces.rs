//! Numbers that clients of digest authentication use once: given out by any worker, accepted by all.
//!
//! A nonce carries its own number, the time and a keyed hash, so that nothing is kept for one that is never used. What was
//! used of it is a bit each in a fixed table of atomics: it cannot grow, and takes no lock. A nonce that lost its place
//! to a newer one is stale: the client gets another and repeats the request without asking its user.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;

use super::buckets::now;

/// How long a nonce is taken.
const LIFE: Duration = Duration::from_secs(60);
/// Requests that one nonce is good for.
const USES: u32 = 20;
/// Nonces whose uses are known.
const SLOTS: usize = 1 << 16;
/// Bytes of the keyed hash that travel.
const TAG: usize = 16;

/// What was said of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Its first use with this count.
    Fresh,
    /// Ours, but too old or used up.
    Stale,
}

/// The nonces of a process.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    next: AtomicU32,
    /// Number of the nonce above, a bit per use below.
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl Nonces {
    /// None given yet.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())?;
        Ok(Self { key, next: AtomicU32::new(1), slots: OnceLock::new() })
    }

    /// A new one, as text.
    pub fn give(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.text(number, now())
    }

    fn text(&self, number: u32, time: u64) -> String {
        let head = format!("{number:08x}{time:016x}");
        let tag = hmac::sign(&self.key, head.as_bytes());
        let tag = tag.as_ref().iter().take(TAG).map(|byte| format!("{byte:02x}"));
        tag.fold(head, |text, part| text + &part)
    }

    /// Uses a nonce; only a client that knows the password gets here, so others use nothing up.
    pub fn take(&self, nonce: &str, count: u32) -> Use {
        self.take_at(nonce, count, now())
    }

    fn take_at(&self, nonce: &str, count: u32, now: u64) -> Use {
        let parts = nonce.get(..8).zip(nonce.get(8..24));
        let read = parts.and_then(|(number, time)| {
            Some((u32::from_str_radix(number, 16).ok()?, u64::from_str_radix(time, 16).ok()?))
        });
        let Some((number, time)) = read else { return Use::Stale };
        let expected = self.text(number, time);
        let is_ours =
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), nonce.as_bytes()).is_ok();
        let life = u64::try_from(LIFE.as_nanos()).unwrap_or(u64::MAX);
        if !is_ours || now.saturating_sub(time) > life || !(1..=USES).contains(&count) {
            return Use::Stale;
        }
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        let place = usize::try_from(number).unwrap_or_default() % SLOTS;
        let Some(slot) = slots.get(place) else { return Use::Stale };
        let bit = 1_u64 << count;
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let (holder, used) = (seen >> 32, seen & u64::from(u32::MAX));
            let used = if holder == u64::from(number) { used } else { 0 };
            if holder > u64::from(number) || used & bit != 0 {
                return Use::Stale;
            }
            let next = u64::from(number) << 32 | used | bit;
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Use::Fresh,
                Err(current) => seen = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_takes_each_count_once() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.give();
        for (count, expected) in [
            (1, Use::Fresh),
            (1, Use::Stale),
            (3, Use::Fresh),
            (2, Use::Fresh),
            (3, Use::Stale),
            (0, Use::Stale),
            (20, Use::Fresh),
            (21, Use::Stale),
        ] {
            assert_eq!(nonces.take(&nonce, count), expected, "{count}");
        }
    }

    #[test]
    fn old_and_foreign_nonces_are_stale() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.give();
        let later = now() + 61_000_000_000;
        assert_eq!(nonces.take_at(&nonce, 1, later), Use::Stale);
        for other in ["", "x", &nonce[..40], &format!("{nonce}0"), &nonce.replace(&nonce[..8], "00000009")] {
            assert_eq!(nonces.take(other, 1), Use::Stale, "{other}");
        }
        assert_eq!(Nonces::new().unwrap().take(&nonce, 1), Use::Stale);
    }

    #[test]
    fn a_newer_nonce_takes_the_place_of_an_older_one() {
        let nonces = Nonces::new().unwrap();
        let old = nonces.text(5, now());
        let new = nonces.text(5 + u32::try_from(SLOTS).unwrap(), now());
        assert_eq!(nonces.take(&old, 1), Use::Fresh);
        assert_eq!(nonces.take(&new, 1), Use::Fresh);
        assert_eq!(nonces.take(&old, 2), Use::Stale);
    }
}
