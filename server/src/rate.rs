//! How often someone may ask: a bucket of requests for each, that fills evenly. Pure: the time is
//! an argument.
//!
//! Not here: who someone is (an address, a machine), and what is answered.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// More than this many at a time are not told apart by memory: full buckets are forgotten first.
const MOST: usize = 65_536;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K> Default for Limiter<K> {
    fn default() -> Limiter<K> {
        Limiter { buckets: HashMap::new() }
    }
}

impl<K: Eq + Hash> Limiter<K> {
    /// Whether `who` may ask now, `per_minute` times a minute in the long run and as often at
    /// once. 0 is without limit.
    pub(crate) fn allows(&mut self, who: K, per_minute: u32, now: Instant) -> bool {
        if per_minute == 0 {
            return true;
        }
        let full = f64::from(per_minute);
        let refilled = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at);
            (bucket.left + full * since.as_secs_f64() / 60.0).min(full)
        };
        if self.buckets.len() >= MOST {
            self.buckets.retain(|_, bucket| refilled(bucket) < full);
            // As many that ask too often at once: beginning anew serves the honest ones.
            if self.buckets.len() >= MOST {
                self.buckets.clear();
            }
        }
        let bucket = self.buckets.entry(who).or_insert(Bucket { left: full, at: now });
        *bucket = Bucket { left: refilled(bucket), at: now };
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    #[test]
    fn as_often_at_once_and_then_evenly() {
        let mut limiter = Limiter::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut allowed = |who, second| limiter.allows(who, 30, at(second));
        assert_eq!((0..40).filter(|_| allowed("a", 0)).count(), 30);
        assert!(allowed("b", 0), "one does not use up the other's");
        assert!(!allowed("a", 1), "half a request");
        assert!(allowed("a", 2) && !allowed("a", 2));
        assert_eq!((0..90).filter(|_| allowed("a", 1000)).count(), 30);
    }

    #[test]
    fn zero_is_without_limit_and_memory_is_bounded() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        assert!((0..1000).all(|_| limiter.allows(7, 0, now)));
        for who in 0..200_000 {
            limiter.allows(who, 1, now);
        }
        assert!(limiter.buckets.len() <= MOST);
    }
}
