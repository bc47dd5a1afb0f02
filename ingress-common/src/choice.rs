//! Which of the listening sockets of a range gets a connection or a datagram. Pure; the caller brings the random numbers.
//!
//! A connection goes to the lighter of two random workers: what the proxy said of its open connections, plus those that
//! were handed over since. Without the second part all connections between two reports would go to the same worker.
//! A datagram goes to a worker by its sender, since all of one sender's must meet the same one.

use crate::maps::{LISTEN_SEEN, WorkerLoad};

impl WorkerLoad {
    /// What counts: open connections, as far as they are known.
    #[inline(always)]
    pub const fn load(self) -> u32 {
        self.published.wrapping_add(self.assigned)
    }
}

/// Two different places in a range of this length (the same twice where there is only one), each as likely as any other.
/// `slots` is not 0.
#[inline(always)]
pub const fn two_of(slots: u32, random: u32) -> (u32, u32) {
    let first = scale(random >> 16, slots);
    let second = first + 1 + scale(random & 0xffff, slots.saturating_sub(1));
    (first, second % slots)
}

/// The one of two places whose worker has less to do.
#[inline(always)]
pub const fn lighter(first: (u32, WorkerLoad), second: (u32, WorkerLoad)) -> u32 {
    if second.1.load() < first.1.load() { second.0 } else { first.0 }
}

/// The place in a range of this length for a sender's datagrams.
#[inline(always)]
pub const fn of_sender(address: &[u32; 4], port: u16, slots: u32) -> u32 {
    let mut hash = mix(port as u32, address[0]);
    hash = mix(hash, address[1]);
    hash = mix(hash, address[2]);
    hash = mix(hash, address[3]);
    scale(hash >> 16, slots)
}

/// A 16-bit number as a share of `slots`, which are 65,536 at most.
#[inline(always)]
const fn scale(random: u32, slots: u32) -> u32 {
    random.wrapping_mul(slots) >> 16
}

/// One round of MurmurHash3's finaliser over one more word.
#[inline(always)]
const fn mix(hash: u32, word: u32) -> u32 {
    let mut mixed = (hash ^ word).wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// A note in `listen_seen`: at this moment a socket listened for this port of an address. Holds for as long as it is equal:
/// about a millisecond, or a tick of the coarse clock.
#[inline(always)]
pub const fn seen_listening(vip_id: u32, port: u16, now_ns: u64) -> u64 {
    ((vip_id as u64) << 16 | port as u64) << 32 | (now_ns >> 20) & 0xffff_ffff
}

/// The row of such a note: two served ports rarely have the same.
#[inline(always)]
pub const fn listen_seen_row(vip_id: u32, port: u16) -> u32 {
    (vip_id.wrapping_mul(31) ^ port as u32) % LISTEN_SEEN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64, its upper half.
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32
    }

    /// The most loaded of `workers` after `connections` that stay open, with a report after every `interval` of them.
    fn fullest(workers: u32, connections: u32, interval: u32, seed: &mut u64) -> u32 {
        let mut loads = vec![WorkerLoad::default(); workers as usize];
        let mut open = vec![0; workers as usize];
        for connection in 0..connections {
            if connection % interval == 0 {
                for (load, open) in loads.iter_mut().zip(&open) {
                    *load = WorkerLoad { published: *open, assigned: 0 };
                }
            }
            let (first, second) = two_of(workers, random(seed));
            let at = lighter((first, loads[first as usize]), (second, loads[second as usize])) as usize;
            loads[at].assigned += 1;
            open[at] += 1;
        }
        open.into_iter().max().unwrap()
    }

    #[test]
    fn the_fullest_worker_stays_near_the_mean_however_rare_reports_are() {
        let mut seed = 1;
        for interval in [1, 8, 40, 64, 1000] {
            for run in 0..1000 {
                let most = fullest(8, 64, interval, &mut seed);
                assert!(most <= 12, "run {run}, a report per {interval} connections: {most} of mean 8");
            }
        }
    }

    #[test]
    fn two_places_differ_and_every_one_is_as_likely_as_the_others() {
        let mut seed = 2;
        for slots in [1, 2, 3, 8, 100, 1024] {
            let mut counts = vec![[0_u32; 2]; slots as usize];
            for _ in 0..slots * 1000 {
                let (first, second) = two_of(slots, random(&mut seed));
                assert!(first != second || slots == 1, "{slots}");
                counts[first as usize][0] += 1;
                counts[second as usize][1] += 1;
            }
            assert!(counts.iter().flatten().all(|count| (800..1200).contains(count)), "{slots}: {counts:?}");
        }
    }

    #[test]
    fn the_extremes_of_the_random_number_stay_in_the_range() {
        for slots in [1, 2, 1023, 1024] {
            for number in [0, 1, 0xffff, 0xffff_0000, u32::MAX] {
                let (first, second) = two_of(slots, number);
                assert!(first < slots && second < slots);
            }
        }
    }

    #[test]
    fn senders_spread_over_the_workers_and_stay_with_theirs() {
        let mut counts = [0_u32; 8];
        for port in 1000..9000 {
            let address = [0, 0, 0xffff_0000, 7];
            let at = of_sender(&address, port, 8);
            assert_eq!(at, of_sender(&address, port, 8));
            counts[at as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        let mut counts = [0_u32; 8];
        for host in 0..8000_u32 {
            counts[of_sender(&[0, 0, 0xffff_0000, host.to_be()], 53, 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
