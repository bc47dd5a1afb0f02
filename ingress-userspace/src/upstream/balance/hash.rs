//! Consistent hashing: the same text gives the same endpoint, on every node, and an endpoint that comes or goes moves only
//! its own share.
//!
//! By rendezvous instead of a ring as ingress-nginx has it: each endpoint is weighed against the text, the heaviest takes
//! it. Nothing is built when endpoints change, shares are even, and the order of the others is known for retries.

/// Hashes bytes: the same in every build, unlike the standard library's. (FNV-1a, then mixed.)
pub fn of(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    mix(bytes.iter().fold(0xCBF2_9CE4_8422_2325, fold))
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The index of the endpoint with this rank for a text, 0 the first; ranks go round.
pub fn ranked(endpoints: impl ExactSizeIterator<Item = u64>, key: u64, rank: usize) -> Option<usize> {
    let rank = rank.checked_rem(endpoints.len())?;
    let weighed = endpoints.enumerate().map(|(index, endpoint)| (mix(endpoint ^ key), index));
    if rank == 0 {
        return weighed.max().map(|(_, index)| index);
    }
    let mut all: Vec<_> = weighed.collect();
    let place = all.len().checked_sub(rank + 1)?;
    let (_, (_, index), _) = all.select_nth_unstable(place);
    Some(*index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: usize) -> Vec<u64> {
        (0..count).map(|number| of(format!("198.18.0.{number}:80").as_bytes())).collect()
    }

    fn first(endpoints: &[u64], text: usize) -> u64 {
        endpoints[ranked(endpoints.iter().copied(), of(text.to_string().as_bytes()), 0).unwrap()]
    }

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        assert_eq!(of(b"198.18.0.1:80"), 18_012_111_725_276_810_438);
        assert_ne!(of(b""), 0);
    }

    #[test]
    fn shares_are_even() {
        let endpoints = endpoints(10);
        let mut seen = std::collections::HashMap::<u64, usize>::new();
        for text in 0..10_000 {
            *seen.entry(first(&endpoints, text)).or_default() += 1;
        }
        assert_eq!(seen.len(), 10);
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn only_the_share_of_a_lost_endpoint_moves() {
        let all = endpoints(10);
        let fewer = &all[..9];
        let moved = (0..10_000).filter(|text| first(&all, *text) != first(fewer, *text)).count();
        let lost = (0..10_000).filter(|text| first(&all, *text) == all[9]).count();
        assert_eq!(moved, lost);
    }

    #[test]
    fn ranks_are_all_endpoints_once() {
        let endpoints = endpoints(7);
        let mut seen: Vec<_> =
            (0..7).map(|rank| ranked(endpoints.iter().copied(), 99, rank).unwrap()).collect();
        assert_eq!(ranked(endpoints.iter().copied(), 99, 7), Some(seen[0]));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(ranked([].into_iter(), 1, 0), None);
    }
}
