use super::*;

fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
    (0..count).map(|number| Arc::new(Endpoint::new(([198, 18, 0, number], 80).into(), 0))).collect()
}

/// Endpoints of the tries of one request that fails everywhere.
fn tries(picker: &Picker, endpoints: &[Arc<Endpoint>], count: usize) -> Vec<SocketAddr> {
    let mut failed = Vec::new();
    let mut state = 7_u64;
    for _ in 0..count {
        let random = || {
            state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            state
        };
        failed.extend(picker.pick(endpoints, &failed, random).map(|endpoint| endpoint.address));
    }
    failed
}

#[test]
fn tries_go_to_other_endpoints_and_then_round_again() {
    let endpoints = endpoints(3);
    let cell = BackendCell::new("web".into(), Default::default());
    for picker in [Picker::in_turn(&cell, None), Picker::best(None), Picker::ranked(99, 1)] {
        let first = tries(&picker, &endpoints, 3);
        let mut sorted = first.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 3, "{picker:?} {first:?}");
        assert_eq!(tries(&picker, &endpoints[..1], 4).len(), 4, "{picker:?}");
        assert_eq!(tries(&picker, &[], 2), []);
    }
}

#[test]
fn a_group_is_a_few_endpoints_of_many() {
    let endpoints = endpoints(12);
    let picker = Picker::ranked(hash::of(b"/some/path"), 3);
    let mut seen: Vec<SocketAddr> = (0..200_u64)
        .map(|number| {
            let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            picker.pick(&endpoints, &[], || random).unwrap().address
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert_eq!(tries(&Picker::ranked(1, 9), &endpoints[..2], 2).len(), 2);
}

#[test]
fn new_endpoints_start_slowly() {
    let mut all = endpoints(1);
    all.push(Arc::new(Endpoint::new(([198, 18, 1, 1], 80).into(), now())));
    let cell = BackendCell::new("web".into(), Default::default());
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash::of(&state.to_le_bytes())
    };
    let window = Some(Duration::from_secs(3600));
    let mut taken = 0;
    for _ in 0..1000 {
        let picker = Picker::in_turn(&cell, window);
        let picked = picker.pick(&all, &[], &mut random).unwrap();
        taken += usize::from(picked.address.ip().to_string() == "198.18.1.1");
    }
    assert!((20..100).contains(&taken), "{taken}");
}
